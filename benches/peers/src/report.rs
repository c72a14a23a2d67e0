//! The tables on the console, and the figures as JSON.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a log gets a line of progress.
const LOGGED: Duration = Duration::from_secs(5);

/// Shows what is being done: in one line that is always replaced on a terminal, as a line every few
/// seconds in a log. The empty text clears the terminal's line.
pub(crate) fn progress(text: &str) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut out = std::io::stderr();
    if out.is_terminal() {
        let _ = write!(out, "\r\x1b[K{text}");
        let _ = out.flush();
        return;
    }
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if !text.is_empty() && last.is_none_or(|last| last.elapsed() >= LOGGED) {
        *last = Some(Instant::now());
        let _ = writeln!(out, "{text}");
    }
}

/// A table's columns: their headers and widths. The first is set to the left.
pub(crate) struct Columns<const N: usize>(pub(crate) [(&'static str, usize); N]);

impl<const N: usize> Columns<N> {
    pub(crate) fn print_headers(&self) {
        self.print(self.0.map(|(header, _)| header.to_owned()));
    }

    pub(crate) fn print(&self, cells: [String; N]) {
        let mut line = String::new();
        for (n, (cell, (_, width))) in cells.iter().zip(self.0).enumerate() {
            let _ = match n {
                0 => write!(line, "{cell:<width$}"),
                _ => write!(line, " {cell:>width$}"),
            };
        }
        println!("{}", line.trim_end());
    }
}

/// One object of the JSON.
pub(crate) struct Figure {
    case: String,
    metric: &'static str,
    unit: &'static str,
    value: f64,
    /// The case that it is compared with, and how many times that one's value it is.
    against: Option<(String, f64)>,
}

impl Figure {
    pub(crate) fn new(case: &str, metric: &'static str, unit: &'static str, value: f64) -> Self {
        Self { case: case.into(), metric, unit, value, against: None }
    }

    pub(crate) fn against(mut self, case: String, ratio: f64) -> Self {
        self.against = Some((case, ratio));
        self
    }

    /// Names need no escapes: they are this benchmark's own.
    fn json(&self) -> String {
        let Self { case, metric, unit, value, against } = self;
        let value = number(*value);
        let mut json = format!(
            r#"{{"case": "{case}", "metric": "{metric}", "unit": "{unit}", "value": {value}"#
        );
        if let Some((against, ratio)) = against {
            let ratio = number(*ratio);
            let _ = write!(json, r#", "against": "{against}", "ratio": {ratio}"#);
        }
        json + "}"
    }
}

/// JSON has no numbers that are not finite.
fn number(value: f64) -> String {
    if value.is_finite() { format!("{value:.3}") } else { "null".into() }
}

/// Writes the JSON; returns where.
pub(crate) fn write(figures: &[Figure]) -> std::io::Result<PathBuf> {
    // Cargo's target directory is what this executable is in, down to which cargo puts its tag.
    let exe = std::env::current_exe()?;
    let tagged = exe.ancestors().skip(1).find(|dir| dir.join("CACHEDIR.TAG").is_file());
    let dir = tagged.unwrap_or(Path::new("target")).join("bench");
    std::fs::create_dir_all(&dir)?;
    let path = dir.join("peers.json");
    let lines: Vec<_> = figures.iter().map(Figure::json).collect();
    std::fs::write(&path, format!("[\n  {}\n]\n", lines.join(",\n  ")))?;
    Ok(path)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// The smallest of the sorted values that `percent` of them do not exceed; NaN if there are none.
pub(crate) fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).or(sorted.last()).copied().unwrap_or(f64::NAN)
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
