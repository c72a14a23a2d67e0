//! Axes: from values to places.

use super::Unit;

/// Of a chart: its name, what the values are, and marks at values that matter.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub(super) label: String,
    pub(super) unit: Unit,
    pub(super) log: bool,
    pub(super) marks: Vec<(f64, String)>,
    range: Option<(f64, f64)>,
}

impl Axis {
    /// From zero, or from the least value if that is negative.
    pub(crate) fn linear(label: impl Into<String>, unit: Unit) -> Self {
        Self { label: label.into(), unit, log: false, marks: Vec::new(), range: None }
    }

    /// What is not positive is drawn at the least value that the axis has.
    pub(crate) fn log(label: impl Into<String>, unit: Unit) -> Self {
        Self { log: true, ..Self::linear(label, unit) }
    }

    /// A labelled line across the chart: a target, or the delay that the network itself has.
    pub(crate) fn mark(mut self, value: f64, label: impl Into<String>) -> Self {
        self.marks.push((value, label.into()));
        self
    }

    /// These bounds, instead of those of the data; what is outside is drawn at them.
    pub(crate) fn range(mut self, least: f64, most: f64) -> Self {
        self.range = Some((least, most));
        self
    }
}

/// An axis with bounds, at its place.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    pub(super) least: f64,
    pub(super) most: f64,
    log: bool,
    /// Where `least` and `most` are.
    pub(super) from: f64,
    pub(super) to: f64,
}

pub(super) struct Tick {
    pub(super) at: f64,
    /// None of a line between those that matter.
    pub(super) label: Option<String>,
}

impl Scale {
    /// With bounds that are round, or of the data's own if `tight`; wide enough for the marks.
    pub(super) fn new(
        axis: &Axis,
        values: impl Iterator<Item = f64>,
        (from, to): (f64, f64),
        tight: bool,
    ) -> Self {
        // A mark needs room around it: at a bound it could not be told from the axis.
        let room = if axis.log { [0.8, 1.25] } else { [1.0, 1.1] };
        let marks = axis.marks.iter().flat_map(|(value, _)| room.map(|part| part * value));
        let values = values.chain(marks).filter(|v| v.is_finite() && (*v > 0.0 || !axis.log));
        let bounds = |(least, most): (f64, f64), v: f64| (least.min(v), most.max(v));
        let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), bounds);
        let (least, most) = match axis.range {
            Some(range) => range,
            None if least > most && axis.log => (1.0, 10.0),
            None if least > most => (0.0, 1.0),
            None if axis.log => {
                let (low, high) = (step_below(least), step_above(most));
                (low, if high > low { high } else { low * 10.0 })
            }
            None => {
                let least = least.min(0.0);
                let most = if most > least { most } else { least + 1.0 };
                let step = step(least, most);
                let top = if tight { most } else { (most / step).ceil() * step };
                ((least / step).floor() * step, top)
            }
        };
        Self { least, most, log: axis.log, from, to }
    }

    /// Where a value is; at the near end if it is outside.
    pub(super) fn place(&self, value: f64) -> f64 {
        let part = match self.log {
            _ if value.is_nan() => 0.0,
            true if value <= self.least => 0.0,
            true => (value.ln() - self.least.ln()) / (self.most.ln() - self.least.ln()),
            false => (value - self.least) / (self.most - self.least),
        };
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    pub(super) fn ticks(&self, unit: Unit) -> Vec<Tick> {
        let values = if self.log { self.log_ticks() } else { self.linear_ticks() };
        let shown = values.into_iter().filter(|(value, _)| {
            // A sum or a power is hardly ever exactly the bound.
            let slack = if self.log { value * 1e-9 } else { (self.most - self.least) * 1e-9 };
            *value >= self.least - slack && *value <= self.most + slack
        });
        shown
            .map(|(value, labelled)| Tick {
                at: self.place(value),
                label: labelled.then(|| unit.format(value)),
            })
            .collect()
    }

    fn linear_ticks(&self) -> Vec<(f64, bool)> {
        let step = step(self.least, self.most);
        let first = (self.least / step).round() as i64;
        (first..first + 20).map(|n| (n as f64 * step, true)).collect()
    }

    fn log_ticks(&self) -> Vec<(f64, bool)> {
        let (least, most) = (self.least.log10().floor() as i32, self.most.log10().ceil() as i32);
        let decades = self.most.log10() - self.least.log10();
        let every = (most - least).unsigned_abs().div_ceil(8).max(1) as i32;
        let mut ticks = Vec::new();
        for decade in least..=most {
            let power = 10_f64.powi(decade);
            ticks.push((power, (decade - least) % every == 0));
            if every == 1 {
                let between = (2..10).map(|n| (power * f64::from(n), n, n == 2 || n == 5));
                ticks.extend(between.map(|(value, _, round)| (value, round && decades <= 2.1)));
            }
        }
        ticks
    }
}

/// The distance of four to nine ticks: 1, 2 or 5 times a power of ten.
fn step(least: f64, most: f64) -> f64 {
    let rough = (most - least) / 8.0;
    let power = 10_f64.powf(rough.log10().floor());
    match rough / power {
        ..=1.0 => power,
        ..=2.0 => 2.0 * power,
        ..=5.0 => 5.0 * power,
        _ => 10.0 * power,
    }
}

/// The next of 1, 2, 5, 10, 20... that is not above.
fn step_below(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [5.0, 2.0, 1.0].map(|n| n * power);
    steps.into_iter().find(|step| *step <= value * (1.0 + 1e-9)).unwrap_or(power)
}

fn step_above(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|n| n * power);
    steps.into_iter().find(|step| *step >= value * (1.0 - 1e-9)).unwrap_or(power * 10.0)
}
