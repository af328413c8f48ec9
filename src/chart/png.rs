//! Scenes as a PNG, one below the other, painted by tiny-skia in the fallback colours with the embedded font.

use super::ChartError;
use super::font::Font;
use super::layout::Laid;
use super::scene::{Anchor, Role, Shape, TENTHS};
use super::svg::{DOT_PX, LINE_PX, fallback};
use plotters_backend::BackendCoord;
use tiny_skia::{Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Stroke, Transform};
use ttf_parser::OutlineBuilder;

/// The most pixels of a picture: 64 MB while it is painted.
const PIXELS_MAX: u64 = 16_000_000;

/// Paints the scenes, left-aligned, one below the other.
pub(super) fn paint(scenes: &[Laid], font: &Font) -> Result<Vec<u8>, ChartError> {
    let pixels = |tenths: u32| tenths / TENTHS as u32;
    let width = scenes.iter().map(|laid| pixels(laid.scene.width)).max().unwrap_or(0);
    let height = scenes.iter().map(|laid| pixels(laid.scene.height)).fold(0, u32::saturating_add);
    let size = || ChartError::Size { width, height };
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        return Err(size());
    }
    let mut painter = Painter { pixmap: Pixmap::new(width, height).ok_or_else(size)?, font, top: 0.0 };
    painter.pixmap.fill(Color::WHITE);
    for laid in scenes {
        laid.scene.shapes.iter().for_each(|shape| painter.draw(shape));
        painter.top += laid.scene.height as f32 / TENTHS as f32;
    }
    painter.pixmap.encode_png().map_err(|error| ChartError::Drawing(error.to_string()))
}

struct Painter<'a> {
    pixmap: Pixmap,
    font: &'a Font,
    /// How far down the scene begins, in pixels.
    top: f32,
}

impl Painter<'_> {
    fn draw(&mut self, shape: &Shape) {
        match shape {
            Shape::Stroke(role, lines) => {
                let (width, opacity) = match role {
                    Role::Line(_) => (pixels(LINE_PX), 1.0),
                    Role::Band(_) => (pixels(LINE_PX), 0.5),
                    _ => (1.0, 1.0),
                };
                self.stroke(outline(lines, false), *role, width, opacity);
            }
            Shape::Fill(role, outlines) => {
                let opacity = match role {
                    Role::Band(_) => 0.4,
                    Role::Gap(_) => 0.35,
                    _ => 1.0,
                };
                let path = outline(outlines, true);
                if matches!(role, Role::Band(_)) {
                    self.stroke(path.clone(), *role, 1.0, opacity);
                }
                self.fill(path, *role, opacity);
            }
            Shape::Dots(role, middles) => {
                let mut path = PathBuilder::new();
                for (x, y) in middles {
                    path.push_circle(*x as f32, *y as f32, pixels(DOT_PX) * 0.5 * TENTHS as f32);
                }
                self.fill(path.finish(), *role, 1.0);
            }
            Shape::Text(role, text, at, anchor, size) => self.text(*role, text, *at, *anchor, f64::from(*size)),
        }
    }

    fn place(&self) -> Transform {
        Transform::from_scale(1.0 / TENTHS as f32, 1.0 / TENTHS as f32).post_translate(0.0, self.top)
    }

    fn stroke(&mut self, path: Option<Path>, role: Role, width_px: f32, opacity: f32) {
        let width = width_px * TENTHS as f32;
        let stroke = Stroke { width, line_cap: LineCap::Butt, line_join: LineJoin::Round, ..Stroke::default() };
        let place = self.place();
        if let Some(path) = path {
            self.pixmap.stroke_path(&path, &paint_of(role, opacity), &stroke, place, None);
        }
    }

    fn fill(&mut self, path: Option<Path>, role: Role, opacity: f32) {
        let place = self.place();
        if let Some(path) = path {
            self.pixmap.fill_path(&path, &paint_of(role, opacity), FillRule::Winding, place, None);
        }
    }

    fn text(&mut self, role: Role, text: &str, at: BackendCoord, anchor: Anchor, size: f64) {
        let wide = self.font.width(text, size);
        let left = match anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => wide / 2.0,
            Anchor::End => wide,
        };
        let mut pen = Pen { path: PathBuilder::new(), x: f64::from(at.0) - left, y: at.1 as f32, ..Pen::default() };
        self.font
            .outline(text, size, &mut pen, |pen, x, unit| (pen.letter, pen.unit) = ((pen.x + x) as f32, unit as f32));
        let path = pen.path.finish();
        if role == Role::Title {
            // The font is there in one weight: an edge makes it a bolder one.
            self.stroke(path.clone(), role, 0.4, 1.0);
        }
        self.fill(path, role, 1.0);
    }
}

fn pixels(text: &str) -> f32 {
    text.parse().unwrap_or(1.0)
}

fn paint_of(role: Role, opacity: f32) -> Paint<'static> {
    let value = u32::from_str_radix(fallback(role).trim_start_matches('#'), 16).unwrap_or(0);
    let [_, red, green, blue] = value.to_be_bytes();
    let mut paint = Paint::default();
    paint.set_color_rgba8(red, green, blue, (opacity * 255.0) as u8);
    paint.anti_alias = true;
    paint
}

fn outline(lines: &[Vec<BackendCoord>], closed: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    for line in lines {
        for (n, (x, y)) in line.iter().enumerate() {
            if n == 0 { path.move_to(*x as f32, *y as f32) } else { path.line_to(*x as f32, *y as f32) }
        }
        if closed {
            path.close();
        }
    }
    path.finish()
}

/// Takes the font's outlines down as a path, in tenths of a pixel.
#[derive(Default)]
struct Pen {
    path: PathBuilder,
    x: f64,
    y: f32,
    letter: f32,
    unit: f32,
}

impl Pen {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.letter + x * self.unit, self.y - y * self.unit)
    }
}

impl OutlineBuilder for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.path.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}
