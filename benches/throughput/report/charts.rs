//! The page's charts.

use super::shared::{Axis, Bar, Bars, Unit};
use super::{Figure, Row};
use crate::measure::size;

/// A bar for each case, in groups by payload.
fn by_payload(chart: Bars, rows: &[Row], bar: impl Fn(&Row) -> Option<Bar>) -> Bars {
    rows.chunk_by(|a, b| a.payload == b.payload).fold(chart, |chart, rows| {
        let payload = format!("{} payload", size(rows[0].payload));
        chart.group(payload, rows.iter().filter_map(&bar).collect())
    })
}

pub(super) fn rates(rows: &[Row]) -> Bars {
    let axis = Axis::log("tells per second; longer is better", Unit::Count);
    by_payload(Bars::new("Tells per second", axis), rows, |row| {
        let (min, max) = row.bounds();
        Some(Bar::new(&row.case, row.rate()).range(min, max))
    })
}

/// None where the system does not tell.
pub(super) fn cpu(rows: &[Row]) -> Option<Bars> {
    rows.iter().find_map(Row::cpu)?;
    let axis = Axis::log("CPU per tell; shorter is better", Unit::Milliseconds);
    let chart = Bars::new("Processor time per tell, sender and receiver", axis);
    Some(by_payload(chart, rows, |row| Some(Bar::new(&row.case, row.cpu()? / NANOSECONDS))))
}

const NANOSECONDS: f64 = 1e6;

/// A group for each metric, if all of them are delays.
pub(super) fn delays(figures: &[Figure]) -> Option<Bars> {
    let mut metrics: Vec<(&str, Vec<Bar>)> = Vec::new();
    for figure in figures {
        let milliseconds = match &*figure.unit {
            "ms" => figure.value,
            "us" => figure.value / 1e3,
            _ => return None,
        };
        let bar = Bar::new(&figure.case, milliseconds);
        match metrics.iter_mut().find(|(metric, _)| *metric == figure.metric) {
            Some((_, bars)) => bars.push(bar),
            None => metrics.push((&figure.metric, vec![bar])),
        }
    }
    let chart = Bars::new("Delays", Axis::log("delay; shorter is better", Unit::Milliseconds));
    let fold = |chart: Bars, (metric, bars)| chart.group(metric, bars);
    (!metrics.is_empty()).then(|| metrics.into_iter().fold(chart, fold))
}
