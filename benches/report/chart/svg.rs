//! Elements of an SVG image, by their places.

use std::fmt::Write;

use super::super::html::escape;

/// How many colours `style.css` has.
const COLOURS: usize = 8;

pub(super) struct Svg {
    body: String,
    pub(super) width: f64,
    height: f64,
    title: String,
}

/// Which part of a text is at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    pub(super) fn new(title: &str, width: f64, height: f64) -> Self {
        Self { body: String::new(), width, height, title: escape(title) }
    }

    pub(super) fn finish(self) -> String {
        let Self { body, width, height, title } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height:.0}\" \
             role=\"img\" aria-label=\"{title}\">\n{body}</svg>"
        )
    }

    pub(super) fn text(&mut self, class: &str, at: (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let ((x, y), text) = (at, escape(text));
        let _ = writeln!(
            self.body,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\"{anchor}>{text}</text>"
        );
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(
            self.body,
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        );
    }

    /// A bar, with what is shown when the pointer rests on it.
    pub(super) fn bar(&mut self, colour: usize, at: (f64, f64), size: (f64, f64), tip: &str) {
        let ((x, y), (width, height), colour) = (at, size, colour % COLOURS);
        let _ = writeln!(
            self.body,
            "<rect class=\"bar c{colour}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\" rx=\"2\"><title>{}</title></rect>",
            escape(tip)
        );
    }

    pub(super) fn curve(&mut self, colour: usize, points: &[(f64, f64)]) {
        let colour = colour % COLOURS;
        let _ = write!(self.body, "<polyline class=\"curve c{colour}\" points=\"");
        for (n, (x, y)) in points.iter().enumerate() {
            let _ = write!(self.body, "{}{x:.1},{y:.1}", if n > 0 { " " } else { "" });
        }
        self.body.push_str("\"/>\n");
    }

    /// A point, whose shape tells it from those of other colours too.
    pub(super) fn dot(&mut self, colour: usize, (x, y): (f64, f64), tip: &str) {
        let shape = match colour % 4 {
            0 => {
                format!("M{:.1},{y:.1}a4.5,4.5 0 1 0 9,0a4.5,4.5 0 1 0 -9,0z", x - 4.5)
            }
            1 => format!("M{:.1},{:.1}h8v8h-8z", x - 4.0, y - 4.0),
            2 => format!("M{x:.1},{:.1}l5.2,9h-10.4z", y - 5.5),
            _ => format!("M{x:.1},{:.1}l5.5,5.5l-5.5,5.5l-5.5,-5.5z", y - 5.5),
        };
        let (colour, tip) = (colour % COLOURS, escape(tip));
        let tip = if tip.is_empty() { tip } else { format!("<title>{tip}</title>") };
        let _ = writeln!(self.body, "<path class=\"dot c{colour}\" d=\"{shape}\">{tip}</path>");
    }
}

/// What something covers, so that labels keep off it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Area {
    /// Of a label of 12 pixels.
    pub(super) fn of_label((x, y): (f64, f64), anchor: Anchor, text: &str) -> Self {
        let width = text_width(text);
        let left = match anchor {
            Anchor::Start => x,
            Anchor::Middle => x - width / 2.0,
            Anchor::End => x - width,
        };
        Self { left, top: y - 11.0, right: left + width, bottom: y + 3.0 }
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    pub(super) fn is_within(&self, outer: &Self) -> bool {
        self.left >= outer.left
            && self.top >= outer.top
            && self.right <= outer.right
            && self.bottom <= outer.bottom
    }
}

/// About how wide a text of 13 pixels is. Fonts differ, so this is rather more than less.
pub(super) fn text_width(text: &str) -> f64 {
    let width = |c| match c {
        ' ' | '.' | ',' | ':' | '-' | '(' | ')' | 'i' | 'l' | 'j' | 't' | 'f' | 'r' => 4.8,
        'm' | 'w' | 'M' | 'W' | '%' => 12.4,
        _ => 7.9,
    };
    text.chars().map(width).sum()
}
