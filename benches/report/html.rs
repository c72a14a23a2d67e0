//! Text and tables as HTML.

use std::fmt::Write;

use super::figure::Figure;

/// Text as it must stand in HTML and SVG, in an attribute too.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Paragraphs, which an empty line parts; what is in `backticks` is code.
pub(super) fn paragraphs(text: &str) -> String {
    let mut out = String::new();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        out.push_str("<p>");
        for (n, part) in paragraph.trim().split('`').enumerate() {
            let part = escape(part);
            let _ =
                if n % 2 == 1 { write!(out, "<code>{part}</code>") } else { write!(out, "{part}") };
        }
        out.push_str("</p>\n");
    }
    out
}

/// The first column names a row; the others are set to the right if they begin like numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) headers: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<T: Into<String>>(headers: impl IntoIterator<Item = T>) -> Self {
        Self { headers: headers.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub(crate) fn row<T: Into<String>>(mut self, cells: impl IntoIterator<Item = T>) -> Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }

    /// Whether a column is of numbers: it is, if any cell is one and all others are empty or dashes.
    fn is_numeric(&self, column: usize) -> bool {
        let cells = || self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.trim());
        let number = |cell: &str| {
            cell.trim_start_matches(['-', '−', '+', '×', '<', '>', '≈', ' '])
                .starts_with(|c: char| c.is_ascii_digit())
        };
        cells().any(number) && cells().all(|cell| number(cell) || matches!(cell, "" | "-" | "–"))
    }

    pub(super) fn html(&self) -> String {
        let numeric: Vec<_> =
            (0..self.headers.len()).map(|n| n > 0 && self.is_numeric(n)).collect();
        let class = |n: usize| match numeric.get(n) {
            Some(true) => " class=\"number\"",
            _ => "",
        };
        let mut out = String::from("<div class=\"scroll\"><table>\n<thead><tr>");
        for (n, header) in self.headers.iter().enumerate() {
            let _ = write!(out, "<th scope=\"col\"{}>{}</th>", class(n), escape(header));
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            out.push_str("<tr>");
            for (n, cell) in row.iter().enumerate() {
                let cell = escape(cell);
                let _ = match n {
                    0 => write!(out, "<th scope=\"row\">{cell}</th>"),
                    _ => write!(out, "<td{}>{cell}</td>", class(n)),
                };
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table></div>\n");
        out
    }
}

/// All figures, as the JSON has them.
pub(super) fn figures(figures: &[Figure]) -> Table {
    let table = Table::new(["case", "metric", "value", "unit", "ratio", "against"]);
    figures.iter().fold(table, |table, figure| {
        let (against, ratio) = match &figure.against {
            Some((against, ratio)) => (&**against, exact(*ratio)),
            None => ("", String::new()),
        };
        let Figure { case, metric, unit, value, .. } = figure;
        table.row([case, metric, &exact(*value), unit, &ratio, against])
    })
}

/// Small values with three decimals, large ones in groups of digits.
fn exact(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        ..1000.0 => format!("{value:.3}"),
        _ => super::grouped(value),
    }
}
