//! What is printed while it is measured.

use super::measured::{Compared, Measured};
use crate::report::{Column, Columns, Figure, Report, percentile};

#[derive(Default)]
pub(super) struct Rows(Option<Columns>);

impl Rows {
    /// A row for each subject.
    pub(super) fn compared(&mut self, compared: &Compared) {
        for measured in &compared.subjects {
            self.print(cells(compared, measured));
        }
    }

    /// Of delays alone, in milliseconds and order of size; they are figures, too.
    pub(super) fn delays(&mut self, report: &mut Report, name: &str, sorted: &[f64]) {
        let values = [50.0, 99.0, 100.0].map(|part| percentile(sorted, part));
        let [p50, p99, max] = values.map(|value| format!("{value:.2}"));
        self.print([name.into(), p50, p99, max]);
        let what = if name.contains("small-") { "tell" } else { "gossip" };
        for (metric, value) in ["p50", "p99", "max"].into_iter().zip(values) {
            report.figure(Figure::new(name, format!("{what} {metric}"), "ms", value));
        }
    }

    fn print(&mut self, cells: impl IntoIterator<Item = String>) {
        let columns = self.0.get_or_insert_with(|| {
            let right = [
                ("p50 ms", 8),
                ("p99 ms", 8),
                ("max ms", 8),
                ("of TCP's", 9),
                ("tells/s", 10),
                ("MB/s", 7),
                ("x Cubic", 8),
                ("cores", 6),
                ("others", 6),
            ];
            let right = right.map(|(header, width)| Column::right(header, width));
            let columns = Columns::new([Column::left("loopback", 46)].into_iter().chain(right));
            columns.print_headers();
            columns
        });
        columns.print(cells);
    }
}

/// As in the headers.
pub(super) fn cells(compared: &Compared, measured: &Measured) -> [String; 10] {
    let at_least = if measured.missing() > 0 { ">" } else { "" };
    let [p50, p99, max] =
        [50.0, 99.0, 100.0].map(|part| format!("{at_least}{:.2}", measured.p(part)));
    let rate = compared.has_rate().then(|| measured.rate());
    let payload = compared.case.payload.unwrap_or(0) as f64;
    let text = |value: Option<f64>, decimals| match value {
        Some(value) => format!("{value:.decimals$}"),
        None => String::new(),
    };
    [
        compared.name(measured.subject),
        p50,
        p99,
        max,
        compared.against_tcp(measured).map_or(String::new(), |ratio| match ratio {
            0.1.. => format!("{ratio:.2}"),
            _ => format!("1/{:.0}", 1.0 / ratio),
        }),
        text(rate, if payload < 1e6 { 0 } else { 1 }),
        text(rate.map(|rate| rate * payload / 1e6), 1),
        text(compared.against_cubic(measured), 2),
        text(measured.median(|round| round.cores), 2),
        text(measured.median(|round| round.others), 2),
    ]
}
