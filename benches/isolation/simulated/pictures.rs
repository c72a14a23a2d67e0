//! What a run looked like.

use super::links::Link;
use super::run::{Outcome, Subject};
use crate::probe::Delay;
use crate::report::{Axis, Plot, Report, Series, Table, Unit, chart, percentile};

/// A run, and its delays (seconds) in order of size.
pub(crate) struct Run {
    pub(crate) subject: Subject,
    pub(crate) share: f64,
    pub(crate) sorted: Vec<f64>,
    delays: Vec<Delay>,
}

impl Run {
    pub(crate) fn new(subject: Subject, outcome: Outcome) -> Self {
        let Outcome { delays, share } = outcome;
        let mut sorted: Vec<_> = delays.iter().map(|delay| delay.took).collect();
        sorted.sort_by(f64::total_cmp);
        Self { subject, share, sorted, delays }
    }

    fn colour(&self) -> usize {
        Subject::ALL.iter().position(|subject| *subject == self.subject).unwrap_or(0)
    }
}

pub(crate) fn section(report: &mut Report, link: &Link, runs: &[Run], pairs: &[String]) {
    if runs.is_empty() && pairs.is_empty() {
        return;
    }
    let text = format!(
        "{:.0} Mbit/s, round trip {} ms, buffer {:.1} MB, loss {} %{}. One way takes {} ms; gossip's \
         p99 is to stay within {} ms, with at least {:.0} % of the link for the tells.\n\n{}",
        link.bytes_per_second / 125_000.0,
        link.rtt.as_millis(),
        link.buffer as f64 / 1e6,
        link.loss * 100.0,
        if link.drops { ", a tenth of the rate in the middle third of the time" } else { "" },
        link.rtt.as_millis() / 2,
        link.allowed().as_millis(),
        link.least_share * 100.0,
        pairs.join("\n\n")
    );
    let section = report.section(link.name, text);
    if runs.is_empty() {
        return;
    }
    let allowed = link.allowed().as_secs_f64() * 1e3;
    let over_time = runs.iter().map(|run| {
        let points = run.delays.iter().map(|delay| (delay.sent as f64 / 1e9, delay.took * 1e3));
        Series::new(run.subject.name(), points.collect()).colour(run.colour())
    });
    let samples = runs.iter().map(|run| {
        let samples = run.sorted.iter().map(|took| took * 1e3);
        Series::new(run.subject.name(), samples.collect()).colour(run.colour())
    });
    let delay = || Axis::log("gossip, one way", Unit::Milliseconds).mark(allowed, "p99 at most");
    let plot = Plot::new("Delay over time", Axis::linear("sent at", Unit::Seconds), delay());
    section.chart(chart::lines(&plot, &over_time.collect::<Vec<_>>()));
    section.chart(chart::distribution("Distribution", delay(), &samples.collect::<Vec<_>>()));
    let mut table = Table::new(["", "p50 ms", "p99 ms", "max ms", "tells' part of the link, %"]);
    for run in runs {
        let [p50, p99, max] = [50.0, 99.0, 100.0].map(|p| percentile(&run.sorted, p) * 1e3);
        table = table.row([
            run.subject.name().to_owned(),
            format!("{p50:.1}"),
            format!("{p99:.1}"),
            format!("{max:.1}"),
            format!("{:.1}", run.share * 100.0),
        ]);
    }
    section.table(table);
}
