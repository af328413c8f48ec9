//! A scene as the text of an SVG element: classes for a stylesheet, fallback colours in attributes, every text escaped.
//!
//! It writes no style attribute, no script, no link and no font's name, so it stands under a strict policy.

use super::layout::Laid;
use super::scene::{Anchor, Role, Shape};
use super::{COLOURS, Chart};
use plotters_backend::BackendCoord;
use xxhash_rust::xxh3::xxh3_64;

/// The colours of lines where no stylesheet says otherwise, on white; `chart.css` has them, too.
pub(super) const LINES: [&str; COLOURS] = ["#1f6feb", "#c2410c", "#15803d", "#9333ea", "#be185d", "#0e7490"];

/// How wide a line is, in pixels.
pub(super) const LINE_PX: &str = "1.6";
/// How wide a dot is, in pixels.
pub(super) const DOT_PX: &str = "3.6";

/// The colour of a role where no stylesheet says otherwise.
pub(super) fn fallback(role: Role) -> &'static str {
    match role {
        Role::Ground => "#ffffff",
        Role::Text => "#24292f",
        Role::Muted => "#57606a",
        Role::Title => "#1f2328",
        Role::Grid => "#e1e4e8",
        Role::Axis => "#8c959f",
        Role::Gap(_) => "#afb8c1",
        Role::Line(n) | Role::Band(n) | Role::Bar(n) | Role::Dot(n) => LINES[usize::from(n) % COLOURS],
    }
}

fn class(role: Role) -> String {
    match role {
        Role::Ground => "chart-ground".to_owned(),
        Role::Text => "chart-text".to_owned(),
        Role::Muted => "chart-muted".to_owned(),
        Role::Title => "chart-title".to_owned(),
        Role::Grid => "chart-grid".to_owned(),
        Role::Axis => "chart-axis".to_owned(),
        Role::Gap(_) => "chart-gap".to_owned(),
        Role::Line(n) => format!("chart-line-{}", n + 1),
        Role::Band(n) => format!("chart-band-{}", n + 1),
        Role::Bar(n) => format!("chart-bar-{}", n + 1),
        Role::Dot(n) => format!("chart-dot-{}", n + 1),
    }
}

/// Writes the element. Its ids come of what it shows, so that two charts on one page have different ones.
pub(super) fn write(chart: &Chart, laid: &Laid) -> String {
    let (width, height) = (chart.size.width, chart.size.height);
    let named = format!("{}\n{}\n{}\n{}\n{width}x{height}", chart.title, chart.unit, chart.from_s, chart.to_s);
    let id = format!("chart-{:016x}", xxh3_64(named.as_bytes()));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" class=\"chart\" role=\"img\" \
         aria-labelledby=\"{id}-t {id}-d\" font-family=\"sans-serif\">\n<title id=\"{id}-t\">{}</title>\n\
         <desc id=\"{id}-d\">{}</desc>\n",
        escaped(chart.title),
        escaped(&laid.description)
    );
    for shape in &laid.scene.shapes {
        write_shape(&mut out, shape, &laid.gaps);
    }
    out.push_str("</svg>\n");
    out
}

fn write_shape(out: &mut String, shape: &Shape, gaps: &[String]) {
    match shape {
        Shape::Stroke(role, lines) => {
            let (wide, opacity) = match role {
                Role::Line(_) => (LINE_PX, ""),
                Role::Band(_) => (LINE_PX, " opacity=\".5\""),
                _ => ("1", ""),
            };
            out.push_str(&format!("<path {} fill=\"none\" stroke-width=\"{wide}\"{opacity}", painted(*role, "stroke")));
            path(out, lines, "");
            out.push_str("/>\n");
        }
        Shape::Fill(role, outlines) => {
            out.push_str(&format!("<path {}", painted(*role, "fill")));
            match role {
                // The edge keeps a spike visible that is narrower than a pixel.
                Role::Band(_) => {
                    out.push_str(&format!(" stroke=\"{}\" stroke-linejoin=\"round\" opacity=\".4\"", fallback(*role)));
                }
                Role::Gap(_) => out.push_str(" opacity=\".35\""),
                _ => {}
            }
            path(out, outlines, "z");
            match role {
                Role::Gap(n) => {
                    let said = gaps.get(usize::from(*n)).map_or("", String::as_str);
                    out.push_str(&format!("><title>{}</title></path>\n", escaped(said)));
                }
                _ => out.push_str("/>\n"),
            }
        }
        Shape::Dots(role, middles) => {
            out.push_str(&format!(
                "<path {} fill=\"none\" stroke-width=\"{DOT_PX}\" stroke-linecap=\"round\"",
                painted(*role, "stroke")
            ));
            let dots: Vec<Vec<BackendCoord>> = middles.iter().map(|middle| vec![*middle]).collect();
            path(out, &dots, "h0");
            out.push_str("/>\n");
        }
        Shape::Text(role, text, at, anchor, size) => write_text(out, *role, text, *at, *anchor, *size),
    }
}

fn write_text(out: &mut String, role: Role, text: &str, at: BackendCoord, anchor: Anchor, size: u32) {
    let anchor = match anchor {
        Anchor::Start => "",
        Anchor::Middle => " text-anchor=\"middle\"",
        Anchor::End => " text-anchor=\"end\"",
    };
    let weight = if role == Role::Title { " font-weight=\"600\"" } else { "" };
    let size = f64::from(size) / 10.0;
    let (x, y) = (f64::from(at.0) / 10.0, f64::from(at.1) / 10.0);
    out.push_str(&format!(
        "<text {}{anchor}{weight} font-size=\"{size}\" x=\"{x}\" y=\"{y}\">{}</text>\n",
        painted(role, "fill"),
        escaped(text)
    ));
}

fn painted(role: Role, how: &str) -> String {
    format!("class=\"{}\" {how}=\"{}\"", class(role), fallback(role))
}

/// Writes the attribute of a path, relative after each beginning, which is the shortest.
fn path(out: &mut String, lines: &[Vec<BackendCoord>], end: &str) {
    out.push_str(" d=\"");
    for line in lines {
        let Some(first) = line.first() else { continue };
        out.push('M');
        number(out, first.0, true);
        number(out, first.1, false);
        let mut last = *first;
        let mut command = 'M';
        for point in line.iter().skip(1) {
            let (across, down) = (point.0 - last.0, point.1 - last.1);
            last = *point;
            let next = match (across, down) {
                (0, 0) => continue,
                (_, 0) => 'h',
                (0, _) => 'v',
                _ => 'l',
            };
            if next != command {
                out.push(next);
            }
            if next != 'v' {
                number(out, across, next != command);
            }
            if next != 'h' {
                number(out, down, next == 'v' && next != command);
            }
            command = next;
        }
        out.push_str(end);
    }
    out.push('"');
}

/// Writes tenths as a decimal number, after a space where the number before would run into it.
fn number(out: &mut String, tenths: i32, first: bool) {
    if !first && tenths >= 0 {
        out.push(' ');
    }
    let (whole, rest) = (tenths.unsigned_abs() / 10, tenths.unsigned_abs() % 10);
    if tenths < 0 {
        out.push('-');
    }
    out.push_str(&match (whole, rest) {
        (_, 0) => format!("{whole}"),
        (0, _) => format!(".{rest}"),
        _ => format!("{whole}.{rest}"),
    });
}

/// Escapes a text for XML, and leaves out the characters that XML cannot hold.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => {}
            _ => out.push(letter),
        }
    }
    out
}
