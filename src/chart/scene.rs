//! What plotters draws, taken down as shapes with a role: plotters' drawing backend of this house.
//!
//! plotters-svg writes an element for each point and knows colours alone. Here a role travels in the three bytes of plotters'
//! colour, neighbours of the same role become one shape, and coordinates are tenths of a pixel. It never chooses a colour.

use super::font::Font;
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind};
use std::convert::Infallible;

/// Tenths of a pixel for each pixel.
pub(super) const TENTHS: f64 = 10.0;

/// What a shape is for; numbers are those of lines and gaps, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// What lies under everything.
    Ground,
    /// Labels and the legend.
    Text,
    /// What is said by the way.
    Muted,
    /// The title.
    Title,
    /// The lines of the grid.
    Grid,
    /// The axes and their ticks.
    Axis,
    /// The mean of a line.
    Line(u16),
    /// A line's lowest to highest.
    Band(u16),
    /// A series of bars.
    Bar(u16),
    /// Dots, and readings without a neighbour.
    Dot(u16),
    /// A time without readings.
    Gap(u16),
}

impl Role {
    /// Packs the role into plotters' colour.
    pub(super) fn rgb(self) -> (u8, u8, u8) {
        let (kind, number) = match self {
            Self::Ground => (0, 0),
            Self::Text => (1, 0),
            Self::Muted => (2, 0),
            Self::Title => (3, 0),
            Self::Grid => (4, 0),
            Self::Axis => (5, 0),
            Self::Line(number) => (6, number),
            Self::Band(number) => (7, number),
            Self::Bar(number) => (8, number),
            Self::Dot(number) => (9, number),
            Self::Gap(number) => (10, number),
        };
        let [high, low] = number.to_be_bytes();
        (kind, high, low)
    }

    fn of(color: BackendColor) -> Self {
        let number = u16::from_be_bytes([color.rgb.1, color.rgb.2]);
        match color.rgb.0 {
            0 => Self::Ground,
            1 => Self::Text,
            2 => Self::Muted,
            3 => Self::Title,
            4 => Self::Grid,
            6 => Self::Line(number),
            7 => Self::Band(number),
            8 => Self::Bar(number),
            9 => Self::Dot(number),
            10 => Self::Gap(number),
            _ => Self::Axis,
        }
    }
}

/// Which part of a text stands at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// What is drawn; all coordinates are tenths of a pixel.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    /// Open lines, each through its points.
    Stroke(Role, Vec<Vec<BackendCoord>>),
    /// Closed and filled outlines.
    Fill(Role, Vec<Vec<BackendCoord>>),
    /// Dots around their middles.
    Dots(Role, Vec<BackendCoord>),
    /// A text: its role, itself, where its baseline stands, which part of it stands there, its size.
    Text(Role, String, BackendCoord, Anchor, u32),
}

/// A picture as shapes, first to last.
#[derive(Debug)]
pub(super) struct Scene {
    /// Its width, in tenths of a pixel.
    pub(super) width: u32,
    /// Its height, in tenths of a pixel.
    pub(super) height: u32,
    /// What is drawn on it.
    pub(super) shapes: Vec<Shape>,
}

/// The backend that plotters draws on.
pub(super) struct Recorder<'a> {
    pub(super) scene: &'a mut Scene,
    pub(super) font: &'a Font,
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl Recorder<'_> {
    fn stroke(&mut self, role: Role, points: Vec<BackendCoord>) -> Drawn {
        match self.scene.shapes.last_mut() {
            Some(Shape::Stroke(last, all)) if *last == role => all.push(points),
            _ => self.scene.shapes.push(Shape::Stroke(role, vec![points])),
        }
        Ok(())
    }

    fn fill(&mut self, role: Role, outline: Vec<BackendCoord>) -> Drawn {
        match self.scene.shapes.last_mut() {
            Some(Shape::Fill(last, all)) if *last == role => all.push(outline),
            _ => self.scene.shapes.push(Shape::Fill(role, vec![outline])),
        }
        Ok(())
    }
}

impl DrawingBackend for Recorder<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        (self.scene.width, self.scene.height)
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Drawn {
        self.draw_circle(point, 0, &color, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.stroke(Role::of(style.color()), vec![from, to])
    }

    fn draw_rect<S: BackendStyle>(&mut self, a: BackendCoord, b: BackendCoord, style: &S, fill: bool) -> Drawn {
        let outline = vec![a, (b.0, a.1), b, (a.0, b.1)];
        if fill { self.fill(Role::of(style.color()), outline) } else { self.stroke(Role::of(style.color()), outline) }
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn {
        self.stroke(Role::of(style.color()), path.into_iter().collect())
    }

    fn draw_circle<S: BackendStyle>(&mut self, center: BackendCoord, _radius: u32, style: &S, _fill: bool) -> Drawn {
        let role = Role::of(style.color());
        match self.scene.shapes.last_mut() {
            Some(Shape::Dots(last, all)) if *last == role => all.push(center),
            _ => self.scene.shapes.push(Shape::Dots(role, vec![center])),
        }
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, vert: I, style: &S) -> Drawn {
        self.fill(Role::of(style.color()), vert.into_iter().collect())
    }

    fn draw_text<T: BackendTextStyle>(&mut self, text: &str, style: &T, pos: BackendCoord) -> Drawn {
        let anchor = style.anchor();
        let rise = match anchor.v_pos {
            VPos::Top => 0.76,
            VPos::Center => 0.36,
            VPos::Bottom => -0.22,
        };
        let part = match anchor.h_pos {
            HPos::Left => Anchor::Start,
            HPos::Center => Anchor::Middle,
            HPos::Right => Anchor::End,
        };
        let baseline = (pos.0, pos.1 + (style.size() * rise) as i32);
        let role = Role::of(style.color());
        self.scene.shapes.push(Shape::Text(role, text.to_owned(), baseline, part, style.size() as u32));
        Ok(())
    }

    fn estimate_text_size<T: BackendTextStyle>(
        &self,
        text: &str,
        style: &T,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        Ok((self.font.width(text, style.size()).ceil() as u32, style.size().ceil() as u32))
    }
}
