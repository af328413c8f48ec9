//! The embedded font: how wide a text is, and the outlines of its letters.
//!
//! It is DejaVu Sans with the letters of Latin and Greek alone and without hints (37 KB; `dejavu-sans-LICENSE.txt` is its
//! licence), made with `pyftsubset`. The SVG does not name it: a browser takes its own sans-serif, so widths are those of a
//! rather wide font, and a text fits all the same. What it lacks is drawn as its replacement character.

use super::ChartError;
use ttf_parser::{Face, GlyphId, OutlineBuilder};

const BYTES: &[u8] = include_bytes!("dejavu-sans-subset.ttf");

/// The font, ready to measure and to draw.
pub(super) struct Font(Face<'static>);

impl Font {
    /// Reads the font out of the program.
    pub(super) fn embedded() -> Result<Self, ChartError> {
        Face::parse(BYTES, 0).map(Self).map_err(|error| ChartError::Drawing(error.to_string()))
    }

    fn glyph(&self, letter: char) -> Option<GlyphId> {
        self.0.glyph_index(letter).or_else(|| self.0.glyph_index('\u{fffd}'))
    }

    fn advance(&self, letter: char) -> f64 {
        let units = self.glyph(letter).and_then(|glyph| self.0.glyph_hor_advance(glyph)).unwrap_or(0);
        f64::from(units) / f64::from(self.0.units_per_em())
    }

    /// Says how wide a text is at a size, in the unit of the size.
    pub(super) fn width(&self, text: &str, size: f64) -> f64 {
        text.chars().map(|letter| self.advance(letter)).sum::<f64>() * size
    }

    /// Shortens a text so that it is at most so wide, with an ellipsis where something is missing.
    pub(super) fn fit(&self, text: &str, size: f64, room: f64) -> String {
        if self.width(text, size) <= room {
            return text.to_owned();
        }
        let mut left = room - self.width("…", size);
        let kept = text.chars().take_while(|letter| {
            left -= self.advance(*letter) * size;
            left >= 0.0
        });
        let mut fitted = kept.collect::<String>().trim_end().to_owned();
        fitted.push('…');
        fitted
    }

    /// Hands every letter's outline to a pen, which is told first where the letter stands and how many pixels a unit is.
    pub(super) fn outline<P: OutlineBuilder>(&self, text: &str, size: f64, pen: &mut P, place: fn(&mut P, f64, f64)) {
        let mut x = 0.0;
        for letter in text.chars() {
            place(pen, x, size / f64::from(self.0.units_per_em()));
            if let Some(glyph) = self.glyph(letter) {
                // A letter without an outline, such as a space, draws nothing.
                let _bounds = self.0.outline_glyph(glyph, pen);
            }
            x += self.advance(letter) * size;
        }
    }
}
