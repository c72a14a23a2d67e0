//! Tables, for the console and for the page.

use super::shared::{Column, Columns, Table};
use super::{Figure, Row, grouped};

/// Cases as the rows of a table.
pub(super) fn rows(title: &str, rows: &[Row]) -> (String, Table) {
    let mut ratios = Vec::new();
    for ratio in rows.iter().flat_map(|row| &row.ratios) {
        if !ratios.contains(&ratio.column) {
            ratios.push(ratio.column);
        }
    }
    let mut columns = vec![
        Column::left("case", 29),
        Column::right("msg/s", 10),
        Column::right("min-max", 21),
        Column::right("MB/s", 8),
        Column::right("CPU ns", 9),
    ];
    columns.extend(ratios.iter().map(|column| Column::right(&format!("x {column}"), 10)));
    columns.extend([Column::right("inverted", 9), Column::right("lost", 4)]);
    let columns = Columns::new(columns);
    let mut text = format!("{title}\n{}", columns.headers());
    let mut table = columns.table();
    let mut payload = None;
    for row in rows {
        if payload.replace(row.payload).is_some_and(|before| before != row.payload) {
            text.push('\n');
        }
        let cells = cells(row, &ratios);
        text.push('\n');
        text.push_str(&columns.line(&cells));
        table = table.row(cells);
    }
    (text, table)
}

fn cells(row: &Row, ratios: &[&str]) -> Vec<String> {
    let (min, max) = row.bounds();
    let mut cells = vec![
        row.name.clone(),
        grouped(row.rate()),
        format!("{}-{}", grouped(min), grouped(max)),
        format!("{:.1}", row.megabytes),
        row.cpu().map_or("-".into(), grouped),
    ];
    for column in ratios {
        let ratio = row.ratios.iter().find(|ratio| ratio.column == *column);
        let rates = ratio.and_then(|ratio| ratio.of).map(|(rates, _)| format!("{rates:.2}"));
        cells.push(rates.unwrap_or_default());
    }
    cells.extend([row.inversions.to_string(), row.lost.to_string()]);
    cells
}

/// A row for each metric if there is but one case. Otherwise a row for each case; a column for each metric, and for what it is compared with.
pub(super) fn figures(figures: &[Figure]) -> Table {
    if let Some(first) = figures.first().filter(|f| figures.iter().all(|g| g.case == f.case)) {
        return figures.iter().fold(Table::new([&first.case, "value", "unit"]), |table, figure| {
            let Figure { metric, unit, value, .. } = figure;
            table.row([metric, &number(*value), unit])
        });
    }
    let (mut cases, mut columns) = (Vec::new(), Vec::new());
    for figure in figures {
        if !cases.contains(&&figure.case) {
            cases.push(&figure.case);
        }
        let column = (&figure.metric, format!("{}, {}", figure.metric, figure.unit), false);
        let ratio = figure.against.as_ref();
        let ratio = ratio.map(|(against, _)| (&figure.metric, format!("× {against}"), true));
        for column in std::iter::once(column).chain(ratio) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
    }
    // A ratio stands beside what it is of, also if the first case has none.
    let place = |metric: &String| figures.iter().position(|figure| figure.metric == *metric);
    columns.sort_by_key(|(metric, _, is_ratio)| (place(metric), *is_ratio));
    let headers = columns.iter().map(|(_, header, _)| header.clone());
    let table = Table::new(std::iter::once("case".to_owned()).chain(headers));
    cases.into_iter().fold(table, |table, case| {
        let cells = columns.iter().map(|(metric, _, is_ratio)| {
            let figure = figures.iter().find(|f| f.case == *case && f.metric == **metric);
            let value = match (figure, is_ratio) {
                (Some(figure), true) => figure.against.as_ref().map(|(_, ratio)| *ratio),
                (figure, _) => figure.map(|figure| figure.value),
            };
            value.map_or("–".to_owned(), number)
        });
        table.row(std::iter::once(case.clone()).chain(cells))
    })
}

fn number(value: f64) -> String {
    if value < 1000.0 { format!("{value:.2}") } else { grouped(value) }
}
