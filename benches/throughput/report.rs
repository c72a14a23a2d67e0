//! The table, and the figures as JSON.

use std::fmt::Write;
use std::path::PathBuf;

use crate::counter::Outcome;

/// What the others are compared with.
const AGAINST: [&str; 2] = ["tcp", "quinn"];

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    /// Printed above what there is of rows.
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
    case: &'static str,
    payload: usize,
    /// Tells per second, round by round.
    rates: Vec<f64>,
    /// Processor time per tell in microseconds, where it is known.
    cpu: Option<f64>,
    megabytes: f64,
    inversions: u64,
    lost: u64,
    pub(crate) ours: bool,
    ratios: [Option<f64>; AGAINST.len()],
}

impl Row {
    pub(crate) fn new(
        name: String,
        case: &'static str,
        payload: usize,
        ours: bool,
        outcomes: &[Outcome],
    ) -> Self {
        let per_second = |n: u64, outcome: &Outcome| n as f64 / outcome.took.as_secs_f64();
        let per_tell =
            |outcome: &Outcome| Some(outcome.cpu?.as_secs_f64() * 1e6 / outcome.tells as f64);
        let cpu: Vec<_> = outcomes.iter().filter_map(per_tell).collect();
        let megabytes = outcomes.iter().map(|outcome| per_second(outcome.bytes, outcome) / 1e6);
        Self {
            name,
            case,
            payload,
            ours,
            rates: outcomes.iter().map(|outcome| per_second(outcome.tells, outcome)).collect(),
            cpu: (!cpu.is_empty()).then(|| median(cpu)),
            megabytes: median(megabytes.collect()),
            inversions: outcomes.iter().map(|outcome| outcome.inversions).sum(),
            lost: outcomes.iter().map(|outcome| outcome.lost).sum(),
            ratios: [None; AGAINST.len()],
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
        figures.extend(self.cpu.map(|cpu| figure("processor time per tell", "us", cpu)));
        for (against, ratio) in AGAINST.iter().zip(self.ratios) {
            let Some(ratio) = ratio else { continue };
            let against =
                Some((format!("{against}/{}", crate::measure::size(self.payload)), ratio));
            figures.push(Figure { against, ..figure("rate", "msg/s", self.rate()) });
        }
        figures
    }
}

impl Report {
    /// Adds cases whose rounds were interleaved.
    pub(crate) fn add(&mut self, mut rows: Vec<Row>) {
        for (n, against) in AGAINST.iter().enumerate() {
            let Some(base) = rows.iter().find(|row| row.case == *against) else { continue };
            let base = base.rates.clone();
            for row in rows.iter_mut().filter(|row| row.case != *against) {
                let ratios = row.rates.iter().zip(&base).map(|(rate, base)| rate / base);
                row.ratios[n] = Some(median(ratios.collect()));
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

    pub(crate) fn print(&self) {
        for table in &self.tables {
            println!("\n{table}");
        }
        if self.tables.is_empty() {
            println!(
                "\n{:<24} {:>10} {:>21} {:>8} {:>8} {:>7} {:>8} {:>9} {:>4}",
                "case",
                "msg/s",
                "min-max",
                "MB/s",
                "cpu us",
                "x tcp",
                "x quinn",
                "inverted",
                "lost"
            );
        }
        let mut payload = None;
        for row in self.rows.iter().filter(|_| self.tables.is_empty()) {
            if payload.replace(row.payload).is_some_and(|before| before != row.payload) {
                println!();
            }
            let (min, max) = row.bounds();
            let cpu = row.cpu.map_or("".into(), |cpu| format!("{cpu:.3}"));
            let [tcp, quinn] = row.ratios.map(|r| r.map_or("".into(), |r| format!("{r:.2}")));
            println!(
                "{:<24} {:>10} {:>21} {:>8.1} {cpu:>8} {tcp:>7} {quinn:>8} {:>9} {:>4}",
                row.name,
                grouped(row.rate()),
                format!("{}-{}", grouped(min), grouped(max)),
                row.megabytes,
                row.inversions,
                row.lost
            );
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
            r#"{{"case": "{case}", "metric": "{metric}", "unit": "{unit}", "value": {value:.3}"#
        );
        if let Some((against, ratio)) = against {
            let _ = write!(json, r#", "against": "{against}", "ratio": {ratio:.3}"#);
        }
        json + "}"
    }
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
