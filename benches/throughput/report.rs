//! What was measured: tables on the console, figures as JSON, and a page of both.

mod charts;
#[path = "../report/mod.rs"]
mod shared;
mod table;

pub(crate) use shared::{Figure, grouped, median, percentile, progress};

use shared::{Table, Written, chart};

use crate::counter::Outcome;
use crate::measure::named;
use crate::targets;

const RATES: &str = "\
    How many tells a second reach the receiver's sink, all nodes in one process: the median of the \
    rounds, with a thin line from the slowest to the fastest. Scales are logarithmic: equal distances are \
    equal ratios.\n\n\
    CPU is the whole process's per tell, sender and receiver. A ratio (×) is the median of the \
    rounds' ratios, which need not be the ratio of the medians: the rounds of all cases of one payload \
    are interleaved, so that whatever else the machine does hits all of them alike. Tells that came \
    behind one that was sent later are counted as inverted, over all rounds.";

pub(crate) struct Report {
    page: shared::Report,
    rows: Vec<Row>,
    /// Rows that are in a table already.
    shown: usize,
    tables: Vec<String>,
    unsound: bool,
}

/// A case's rounds with one payload size.
pub(crate) struct Row {
    case: String,
    name: String,
    payload: usize,
    /// Tells per second, round by round.
    rates: Vec<f64>,
    /// Nanoseconds of processor time per tell, round by round.
    cpu: Vec<f64>,
    megabytes: f64,
    inversions: u64,
    lost: u64,
    pub(crate) ours: bool,
    ratios: Vec<Ratio>,
}

/// How a row compares with another of its payload.
struct Ratio {
    column: &'static str,
    against: String,
    /// Of the rates, and of processor time per tell.
    of: Option<(f64, Option<f64>)>,
}

impl Row {
    pub(crate) fn new(
        case: &str,
        payload: usize,
        ours: bool,
        against: &[(&'static str, &'static str)],
        outcomes: &[Outcome],
    ) -> Self {
        let per_second = |n: u64, outcome: &Outcome| n as f64 / outcome.took.as_secs_f64();
        let megabytes = outcomes.iter().map(|outcome| per_second(outcome.bytes, outcome) / 1e6);
        let cpu =
            |outcome: &Outcome| Some(outcome.cpu?.as_nanos() as f64 / outcome.tells.max(1) as f64);
        let against = against.iter().filter(|(_, other)| *other != case);
        let ratio = |(column, other): &(&'static str, &str)| Ratio {
            column,
            against: named(other, payload),
            of: None,
        };
        Self {
            case: case.into(),
            name: named(case, payload),
            payload,
            ours,
            rates: outcomes.iter().map(|outcome| per_second(outcome.tells, outcome)).collect(),
            cpu: outcomes.iter().filter_map(cpu).collect(),
            megabytes: median(megabytes.collect()),
            inversions: outcomes.iter().map(|outcome| outcome.inversions).sum(),
            lost: outcomes.iter().map(|outcome| outcome.lost).sum(),
            ratios: against.map(ratio).collect(),
        }
    }

    /// The finished case in a line.
    pub(crate) fn line(&self) -> String {
        format!("{}: {} msg/s, {:.1} MB/s", self.name, grouped(self.rate()), self.megabytes)
    }

    fn rate(&self) -> f64 {
        median(self.rates.clone())
    }

    /// Nanoseconds of processor time per tell.
    fn cpu(&self) -> Option<f64> {
        (!self.cpu.is_empty()).then(|| median(self.cpu.clone()))
    }

    fn bounds(&self) -> (f64, f64) {
        let fold = |of: fn(f64, f64) -> f64| self.rates.iter().copied().reduce(of).unwrap_or(0.0);
        (fold(f64::min), fold(f64::max))
    }

    fn figures(&self) -> Vec<Figure> {
        let figure = |metric, unit, value| Figure::new(&self.name, metric, unit, value);
        let (min, max) = self.bounds();
        let mut figures = vec![
            figure("rate", "msg/s", self.rate()),
            figure("rate min", "msg/s", min),
            figure("rate max", "msg/s", max),
            figure("payload rate", "MB/s", self.megabytes),
            figure("inversions", "tells", self.inversions as f64),
            figure("lost", "tells", self.lost as f64),
        ];
        let cpu = self.cpu();
        figures.extend(cpu.map(|cpu| figure("CPU per tell", "ns", cpu)));
        for ratio in &self.ratios {
            let Some((rates, cpus)) = ratio.of else { continue };
            let against = &ratio.against;
            figures.push(figure("rate", "msg/s", self.rate()).against(against, rates));
            if let Some((cpus, cpu)) = cpus.zip(cpu) {
                figures.push(figure("CPU per tell", "ns", cpu).against(against, cpus));
            }
        }
        figures
    }
}

impl Report {
    pub(crate) fn new() -> Self {
        let page =
            shared::Report::new("throughput", "Throughput and latency of cluster transports");
        Self { page, rows: Vec::new(), shown: 0, tables: Vec::new(), unsound: false }
    }

    /// Adds cases whose rounds were interleaved.
    pub(crate) fn add(&mut self, mut rows: Vec<Row>) {
        for n in 0..rows.len() {
            for k in 0..rows[n].ratios.len() {
                let name = &rows[n].ratios[k].against;
                let Some(base) = rows.iter().find(|row| row.name == *name) else { continue };
                let rates = ratio(&rows[n].rates, &base.rates).unwrap_or(0.0);
                let of = Some((rates, ratio(&rows[n].cpu, &base.cpu)));
                rows[n].ratios[k].of = of;
            }
        }
        for row in &rows {
            self.unsound |= row.ours && (row.inversions > 0 || row.lost > 0);
            self.page.figures(row.figures());
        }
        self.rows.append(&mut rows);
    }

    /// Adds a table of another form, and its figures.
    pub(crate) fn add_table(&mut self, title: &str, table: String, figures: Vec<Figure>) {
        let (_, page) = table::rows("", self.unshown());
        self.tables.push(table);
        let group = title.split(':').next().unwrap_or(title);
        self.add_rates(&format!("{group}: rates"), page);
        let section = self.page.section(title, "");
        if let Some(delays) = charts::delays(&figures) {
            section.chart(chart::bars(&delays));
        }
        section.table(table::figures(&figures));
        self.page.figures(figures);
    }

    /// The median rate of a case.
    pub(crate) fn rate(&self, name: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.name == name).map(Row::rate)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.page.all_figures().is_empty()
    }

    /// Whether our transports lost and reordered nothing.
    pub(crate) fn is_sound(&self) -> bool {
        !self.unsound
    }

    /// The rows since the last group become a table.
    pub(crate) fn end_group(&mut self, title: &str) {
        let (table, page) = table::rows(title, self.unshown());
        if !page.rows.is_empty() {
            self.tables.push(table);
        }
        self.add_rates(title, page);
    }

    fn unshown(&self) -> &[Row] {
        &self.rows[self.shown..]
    }

    /// The rows since the last group get a section of the page.
    fn add_rates(&mut self, title: &str, table: Table) {
        let (first, rows) = (self.shown == 0, &self.rows[self.shown..]);
        self.shown = self.rows.len();
        if rows.is_empty() {
            return;
        }
        let section = self.page.section(title, if first { RATES } else { "" });
        section.chart(chart::bars(&charts::rates(rows)));
        if let Some(cpu) = charts::cpu(rows) {
            section.chart(chart::bars(&cpu));
        }
        section.table(table);
    }

    pub(crate) fn print(&self) {
        for table in &self.tables {
            println!("\n{table}");
        }
        let targets = targets::check(self.page.all_figures());
        if !targets.is_empty() {
            println!("\ntargets");
        }
        for [met, case, metric, value, of, bound] in targets {
            println!("  {met:<6} {case:<22} {metric:<18} {value:>6} {of}, {bound}");
        }
    }

    /// Writes the figures and the page; returns where.
    pub(crate) fn write(&mut self) -> std::io::Result<Written> {
        let targets = targets::check(self.page.all_figures());
        if !targets.is_empty() {
            let headers = ["", "case", "figure", "measured", "of", "target"];
            let table = targets.into_iter().fold(Table::new(headers), Table::row);
            self.page.section("Targets", "What this crate is meant to reach.").table(table);
        }
        self.page.write()
    }
}

/// The median of the rounds' ratios.
fn ratio(own: &[f64], base: &[f64]) -> Option<f64> {
    let ratios: Vec<_> = own.iter().zip(base).map(|(own, base)| own / base).collect();
    (!ratios.is_empty()).then(|| median(ratios))
}
