//! An SVG document that is readable on light and on dark backgrounds.
//!
//! The page that embeds a picture has its own theme, but a picture can query only the theme of
//! the system (`prefers-color-scheme`). So the background is transparent, and each color has a
//! contrast of at least 3 on white and on black.

use std::fmt::Write;

/// Text, and axes at a lower opacity.
pub const INK: &str = "#768390";
/// This library.
pub const THIS: &str = "#2f81f7";
/// Lower bounds: the same work without an actor library.
pub const BOUND: &str = "#a98a3e";
/// Other libraries.
pub const OTHER: &str = "#8b949e";

/// The part of a text that is at its position.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture, drawn from top to bottom.
pub struct Svg {
    width: f64,
    body: String,
}

impl Svg {
    pub fn new(width: f64) -> Self {
        Self { width, body: String::new() }
    }

    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let text = escape(text);
        self.line(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\"{anchor}>{text}</text>"));
    }

    /// Writes a bold text.
    pub fn heading(&mut self, x: f64, y: f64, text: &str) {
        let text = escape(text);
        self.line(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" style=\"font-weight:bold\">{text}</text>"
        ));
    }

    pub fn colored_text(&mut self, x: f64, y: f64, color: &str, text: &str) {
        let text = escape(text);
        self.line(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" style=\"fill:{color}\" text-anchor=\"end\">{text}</text>"
        ));
    }

    pub fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, color: &str) {
        self.line(&format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             rx=\"1.5\" fill=\"{color}\"/>"
        ));
    }

    /// Draws a line of the grid.
    pub fn grid(&mut self, from: [f64; 2], to: [f64; 2]) {
        let ([x, y], [to_x, to_y]) = (from, to);
        self.line(&format!(
            "<path d=\"M{x:.1} {y:.1}L{to_x:.1} {to_y:.1}\" stroke=\"{INK}\" stroke-opacity=\"0.25\"/>"
        ));
    }

    pub fn curve(&mut self, points: impl Iterator<Item = [f64; 2]>, color: &str) {
        let points: Vec<_> = points.map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
        let points = points.join(" ");
        self.line(&format!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>"
        ));
    }

    /// Returns the document with the height that was needed.
    pub fn finish(self, height: f64) -> String {
        let Self { width, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             width=\"{width:.0}\" height=\"{height:.0}\">\n\
             <style>text{{font:12px system-ui,sans-serif;fill:{INK}}}</style>\n\
             {body}</svg>\n"
        )
    }

    fn line(&mut self, element: &str) {
        writeln!(self.body, "{element}").expect("writing to a string cannot fail");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
