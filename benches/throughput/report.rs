//! What was measured: tables, and figures as JSON.

mod table;

use std::fmt::Write;
use std::path::PathBuf;

use crate::counter::Outcome;
use crate::measure::named;
use crate::targets;

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    /// Rows that are in a table already.
    shown: usize,
    tables: Vec<String>,
    figures: Vec<Figure>,
    unsound: bool,
}

/// One object of the JSON.
pub(crate) struct Figure {
    pub(crate) case: String,
    pub(crate) metric: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    pub(crate) against: Option<(String, f64)>,
}

/// A case's rounds with one payload size.
pub(crate) struct Row {
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

    fn bounds(&self) -> (f64, f64) {
        let fold = |of: fn(f64, f64) -> f64| self.rates.iter().copied().reduce(of).unwrap_or(0.0);
        (fold(f64::min), fold(f64::max))
    }

    fn figures(&self) -> Vec<Figure> {
        let figure = |metric, unit, value| Figure {
            case: self.name.clone(),
            metric,
            unit,
            value,
            against: None,
        };
        let (min, max) = self.bounds();
        let mut figures = vec![
            figure("rate", "msg/s", self.rate()),
            figure("rate min", "msg/s", min),
            figure("rate max", "msg/s", max),
            figure("payload rate", "MB/s", self.megabytes),
            figure("inversions", "tells", self.inversions as f64),
            figure("lost", "tells", self.lost as f64),
        ];
        let cpu = (!self.cpu.is_empty()).then(|| median(self.cpu.clone()));
        figures.extend(cpu.map(|cpu| figure("CPU per tell", "ns", cpu)));
        for ratio in &self.ratios {
            let Some((rates, cpus)) = ratio.of else { continue };
            let against = |of: f64| Some((ratio.against.clone(), of));
            let rate = figure("rate", "msg/s", self.rate());
            figures.push(Figure { against: against(rates), ..rate });
            if let Some((cpus, cpu)) = cpus.zip(cpu) {
                let cpu = figure("CPU per tell", "ns", cpu);
                figures.push(Figure { against: against(cpus), ..cpu });
            }
        }
        figures
    }
}

impl Report {
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
            self.figures.extend(row.figures());
        }
        self.rows.append(&mut rows);
    }

    /// Adds a table of another form, and its figures.
    pub(crate) fn add_table(&mut self, table: String, figures: Vec<Figure>) {
        self.tables.push(table);
        self.figures.extend(figures);
    }

    /// The median rate of a case.
    pub(crate) fn rate(&self, name: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.name == name).map(Row::rate)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.figures.is_empty()
    }

    /// Whether our transports lost and reordered nothing.
    pub(crate) fn is_sound(&self) -> bool {
        !self.unsound
    }

    /// The rows since the last group become a table.
    pub(crate) fn end_group(&mut self, title: &str) {
        let rows = &self.rows[self.shown..];
        self.shown = self.rows.len();
        if !rows.is_empty() {
            self.tables.push(table::rows(title, rows));
        }
    }

    pub(crate) fn print(&self) {
        for table in &self.tables {
            println!("\n{table}");
        }
        let targets = targets::check(&self.figures);
        if !targets.is_empty() {
            println!("\ntargets\n{}", targets.join("\n"));
        }
    }

    /// Writes the JSON; returns where.
    pub(crate) fn write(&self) -> std::io::Result<PathBuf> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        // A relative one is relative to where cargo was called, most often the package.
        let dir = root.join(target.unwrap_or_else(|| "target".into())).join("bench");
        std::fs::create_dir_all(&dir)?;
        let figures: Vec<_> = self.figures.iter().map(Figure::json).collect();
        let path = dir.join("throughput.json");
        std::fs::write(&path, format!("[\n  {}\n]\n", figures.join(",\n  ")))?;
        Ok(path)
    }
}

impl Figure {
    /// Names need no escapes: they are this benchmark's own.
    fn json(&self) -> String {
        let Self { case, metric, unit, value, against } = self;
        let mut json = format!(
            r#"{{"case": "{case}", "metric": "{metric}", "unit": "{unit}", "value": {value:.1}"#
        );
        if let Some((against, ratio)) = against {
            let _ = write!(json, r#", "against": "{against}", "ratio": {ratio:.3}"#);
        }
        json + "}"
    }
}

/// The median of the rounds' ratios.
fn ratio(own: &[f64], base: &[f64]) -> Option<f64> {
    let ratios: Vec<_> = own.iter().zip(base).map(|(own, base)| own / base).collect();
    (!ratios.is_empty()).then(|| median(ratios))
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// `1234567` as `1 234 567`.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}
