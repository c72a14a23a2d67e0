//! What charts with two axes have in common: title, legend, axes, marks.

use super::scale::{Axis, Scale};
use super::svg::{Anchor, Area, Svg, text_width};
use super::{Plot, Series, legend};

const WIDTH: f64 = 960.0;
/// Of the area between the axes.
const HEIGHT: f64 = 330.0;
const LEGEND_ROW: f64 = 22.0;

/// How a series looks in the legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Line,
    Dot,
}

pub(super) struct Frame<'a> {
    pub(super) svg: Svg,
    pub(super) x: Scale,
    pub(super) y: Scale,
    plot: &'a Plot,
}

impl<'a> Frame<'a> {
    /// Draws what is behind the data; `xs` and `ys` are all that there is of them.
    pub(super) fn new<T>(
        plot: &'a Plot,
        series: &[Series<T>],
        key: Key,
        xs: impl Iterator<Item = f64>,
        ys: impl Iterator<Item = f64>,
    ) -> Self {
        let keys = legend_places(&legend(series));
        let rows = keys.last().map_or(0.0, |(_, y, ..)| y + 1.0);
        let top = 62.0 + rows * LEGEND_ROW;
        let y = Scale::new(&plot.y, ys, (top + HEIGHT, top), false);
        let y_ticks = y.ticks(plot.y.unit);
        let widest = y_ticks.iter().filter_map(|tick| tick.label.as_deref()).map(text_width);
        let left = widest.fold(28.0, f64::max) + 12.0;
        let x = Scale::new(&plot.x, xs, (left, WIDTH - 24.0), true);

        let mut svg = Svg::new(&plot.title, WIDTH, top + HEIGHT + 48.0);
        svg.text("title", (0.0, 18.0), Anchor::Start, &plot.title);
        for (x, row, colour, name) in keys {
            let y = 40.0 + row * LEGEND_ROW;
            match key {
                Key::Line => svg.bar(colour, (x, y - 2.0), (22.0, 4.0), ""),
                Key::Dot => svg.dot(colour, (x + 11.0, y), ""),
            }
            svg.text("name", (x + 30.0, y + 4.5), Anchor::Start, name);
        }
        for tick in &y_ticks {
            let class = if tick.label.is_some() { "grid" } else { "minor" };
            svg.line(class, (x.from, tick.at), (x.to, tick.at));
            if let Some(label) = &tick.label {
                svg.text("tick", (left - 8.0, tick.at + 4.5), Anchor::End, label);
            }
        }
        for tick in x.ticks(plot.x.unit) {
            let class = if tick.label.is_some() { "grid" } else { "minor" };
            svg.line(class, (tick.at, y.from), (tick.at, y.to));
            if let Some(label) = &tick.label {
                svg.text("tick", (tick.at, y.from + 20.0), Anchor::Middle, label);
            }
        }
        svg.line("base", (x.from, y.from), (x.to, y.from));
        svg.text("axis", (0.0, top - 14.0), Anchor::Start, &axis_label(&plot.y));
        svg.text("axis", (x.to, y.from + 41.0), Anchor::End, &axis_label(&plot.x));
        Self { svg, x, y, plot }
    }

    pub(super) fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.x.place(x), self.y.place(y))
    }

    /// The area between the axes.
    pub(super) fn bounds(&self) -> Area {
        Area { left: self.x.from, top: self.y.to, right: self.x.to, bottom: self.y.from }
    }

    /// Draws the marks: on top of the data, but below its labels. Theirs keep off what is `taken`, as far
    /// as there is room, and are added to it.
    pub(super) fn marks(&mut self, taken: &mut Vec<Area>) {
        let bounds = self.bounds();
        let Self { svg, x, y, plot } = self;
        let mut labels = Vec::new();
        for (value, label) in &plot.y.marks {
            let at = y.place(*value);
            svg.line("mark", (x.from, at), (x.to, at));
            let ends = [(x.to - 6.0, Anchor::End), (x.from + 6.0, Anchor::Start)];
            let places =
                ends.map(|(x, anchor)| [(x, at - 6.0), (x, at + 15.0)].map(|at| (at, anchor)));
            labels.push((label, places.concat()));
        }
        for (value, label) in &plot.x.marks {
            let at = x.place(*value);
            svg.line("mark", (at, y.from), (at, y.to));
            // Near the lower end first: distributions are at the upper left.
            let heights = [y.from - 8.0, y.from - 24.0, y.to + 16.0];
            let sides = [(at + 6.0, Anchor::Start), (at - 6.0, Anchor::End)];
            let places = heights.map(|height| sides.map(|(x, anchor)| ((x, height), anchor)));
            labels.push((label, places.concat()));
        }
        for (label, places) in labels {
            let free = places.iter().find(|(at, anchor)| {
                let area = Area::of_label(*at, *anchor, label);
                area.is_within(&bounds) && !taken.iter().any(|other| area.meets(other))
            });
            let (at, anchor) = *free.unwrap_or(&places[0]);
            svg.text("label", at, anchor, label);
            taken.push(Area::of_label(at, anchor, label));
        }
    }

    pub(super) fn finish(self) -> String {
        self.svg.finish()
    }
}

pub(super) fn axis_label(axis: &Axis) -> String {
    if axis.log { format!("{} (log scale)", axis.label) } else { axis.label.clone() }
}

/// Each name's x and row, with its colour; none if there is but one series, which the title names.
fn legend_places<'a>(names: &[(usize, &'a str)]) -> Vec<(f64, f64, usize, &'a str)> {
    let (mut x, mut row) = (0.0, 0.0);
    let mut places = Vec::new();
    for (colour, name) in names.iter().filter(|_| names.len() > 1) {
        let width = 30.0 + text_width(name);
        if x > 0.0 && x + width > WIDTH {
            (x, row) = (0.0, row + 1.0);
        }
        places.push((x, row, *colour, *name));
        x += width + 22.0;
    }
    places
}
