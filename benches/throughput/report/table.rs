//! Cases as the rows of a table.

use std::fmt::Write;

use super::{Row, grouped, median};

pub(super) fn rows(title: &str, rows: &[Row]) -> String {
    let mut columns = Vec::new();
    for ratio in rows.iter().flat_map(|row| &row.ratios) {
        if !columns.contains(&ratio.column) {
            columns.push(ratio.column);
        }
    }
    let mut table = format!(
        "{title}\n{:<29} {:>10} {:>21} {:>8} {:>9}",
        "case", "msg/s", "min-max", "MB/s", "CPU ns"
    );
    for column in &columns {
        let _ = write!(table, " {:>10}", format!("x {column}"));
    }
    let _ = write!(table, " {:>9} {:>4}", "inverted", "lost");
    let mut payload = None;
    for row in rows {
        if payload.replace(row.payload).is_some_and(|before| before != row.payload) {
            table.push('\n');
        }
        let (min, max) = row.bounds();
        let cpu = if row.cpu.is_empty() { "-".into() } else { grouped(median(row.cpu.clone())) };
        let _ = write!(
            table,
            "\n{:<29} {:>10} {:>21} {:>8.1} {cpu:>9}",
            row.name,
            grouped(row.rate()),
            format!("{}-{}", grouped(min), grouped(max)),
            row.megabytes,
        );
        for column in &columns {
            let ratio = row.ratios.iter().find(|ratio| ratio.column == *column);
            let text = ratio.and_then(|ratio| ratio.of).map(|(rate, _)| format!("{rate:.2}"));
            let _ = write!(table, " {:>10}", text.unwrap_or_default());
        }
        let _ = write!(table, " {:>9} {:>4}", row.inversions, row.lost);
    }
    table
}
