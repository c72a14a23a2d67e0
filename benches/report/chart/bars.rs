//! Bars in groups. They lie, so that names and values stand beside them, however many there are.

use super::Axis;
use super::frame::axis_label;
use super::scale::Scale;
use super::svg::{Anchor, Svg, text_width};

const WIDTH: f64 = 960.0;
const TOP: f64 = 34.0;
const ROW: f64 = 22.0;
const BAR: f64 = 16.0;
const HEADING: f64 = 32.0;

#[derive(Debug, Clone)]
pub(crate) struct Bar {
    name: String,
    value: f64,
    range: Option<(f64, f64)>,
}

impl Bar {
    pub(crate) fn new(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value, range: None }
    }

    /// The least and the most of what `value` sums up, drawn as a line.
    pub(crate) fn range(mut self, least: f64, most: f64) -> Self {
        self.range = Some((least, most));
        self
    }
}

/// What [`bars`] draws.
#[derive(Debug, Clone)]
pub(crate) struct Bars {
    title: String,
    axis: Axis,
    groups: Vec<(String, Vec<Bar>)>,
}

impl Bars {
    pub(crate) fn new(title: impl Into<String>, axis: Axis) -> Self {
        Self { title: title.into(), axis, groups: Vec::new() }
    }

    pub(crate) fn group(mut self, name: impl Into<String>, bars: Vec<Bar>) -> Self {
        self.groups.push((name.into(), bars));
        self
    }
}

/// A name has the same colour in all groups.
pub(crate) fn bars(chart: &Bars) -> String {
    let Bars { title, axis, groups } = chart;
    let all = || groups.iter().flat_map(|(_, bars)| bars);
    let mut names: Vec<&str> = Vec::new();
    for bar in all() {
        if !names.contains(&&*bar.name) {
            names.push(&bar.name);
        }
    }
    // Groups have larger letters.
    let headings = groups.iter().map(|(group, _)| text_width(group) * 1.1);
    let left =
        names.iter().map(|name| text_width(name)).chain(headings).fold(60.0, f64::max) + 14.0;
    // Values stand behind the longest bar too.
    let right = WIDTH
        - all().map(|bar| text_width(&axis.unit.format(bar.value))).fold(40.0, f64::max)
        - 14.0;
    let ends = all().flat_map(|bar| {
        let (least, most) = bar.range.unwrap_or((bar.value, bar.value));
        // On a log axis the shortest bar needs a length as well, and all begin at a power of ten.
        let begin = if axis.log { 10_f64.powf((least / 2.0).log10().floor()) } else { least };
        [begin, most]
    });
    let scale = Scale::new(axis, ends, (left, right), true);
    let rows: f64 = groups.iter().map(|(_, bars)| HEADING + ROW * bars.len() as f64).sum();
    let bottom = TOP + rows + 8.0;
    let mut svg = Svg::new(title, WIDTH, bottom + 48.0);
    svg.text("title", (0.0, 18.0), Anchor::Start, title);
    for tick in scale.ticks(axis.unit) {
        let class = if tick.label.is_some() { "grid" } else { "minor" };
        svg.line(class, (tick.at, TOP), (tick.at, bottom));
        if let Some(label) = tick.label {
            svg.text("tick", (tick.at, bottom + 20.0), Anchor::Middle, &label);
        }
    }
    let mut labels = Vec::new();
    let mut y = TOP;
    for (group, bars) in groups {
        svg.text("group", (0.0, y + 22.0), Anchor::Start, group);
        y += HEADING;
        for bar in bars {
            let middle = y + BAR / 2.0;
            let end = scale.place(bar.value);
            let value = axis.unit.format(bar.value);
            let colour = names.iter().position(|name| *name == bar.name).unwrap_or(0);
            svg.text("name", (left - 10.0, middle + 4.5), Anchor::End, &bar.name);
            let tip = format!("{group}, {}: {value}", bar.name);
            svg.bar(colour, (left, y), ((end - left).max(1.0), BAR), &tip);
            let mut behind = end;
            if let Some((least, most)) = bar.range {
                let (least, most) = (scale.place(least), scale.place(most));
                svg.line("range", (least, middle), (most, middle));
                for at in [least, most] {
                    svg.line("range", (at, middle - 4.0), (at, middle + 4.0));
                }
                behind = behind.max(most);
            }
            labels.push(((behind + 7.0, middle + 4.5), value));
            y += ROW;
        }
    }
    svg.line("base", (left, TOP), (left, bottom));
    svg.text("axis", (right, bottom + 41.0), Anchor::End, &axis_label(axis));
    for (n, (value, label)) in axis.marks.iter().enumerate() {
        let at = scale.place(*value);
        svg.line("mark", (at, TOP), (at, bottom));
        let fits = at + 8.0 + text_width(label) < WIDTH;
        let (x, anchor) = if fits { (at + 6.0, Anchor::Start) } else { (at - 6.0, Anchor::End) };
        svg.text("label", (x, TOP + 12.0 + 16.0 * n as f64), anchor, label);
    }
    // Last, so that no mark goes through them.
    for (at, value) in labels {
        svg.text("label", at, Anchor::Start, &value);
    }
    svg.finish()
}
