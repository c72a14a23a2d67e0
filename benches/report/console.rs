//! What is seen while a benchmark runs.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::html::Table;

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
    } else if !text.is_empty() {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= LOGGED) {
            *last = Some(Instant::now());
            let _ = writeln!(out, "{text}");
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Column {
    header: String,
    width: usize,
    left: bool,
}

impl Column {
    pub(crate) fn left(header: &str, width: usize) -> Self {
        Self { header: header.into(), width, left: true }
    }

    pub(crate) fn right(header: &str, width: usize) -> Self {
        Self { header: header.into(), width, left: false }
    }
}

/// A table whose rows are printed as soon as they exist, which is why the widths are given in advance.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    pub(crate) fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    pub(crate) fn print_headers(&self) {
        println!("{}", self.headers());
    }

    /// Prints a row, and keeps it for [`table`](Self::table).
    pub(crate) fn print<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        println!("{}", self.line(&cells));
        self.rows.push(cells);
    }

    pub(crate) fn headers(&self) -> String {
        let headers: Vec<_> = self.columns.iter().map(|column| column.header.clone()).collect();
        self.line(&headers)
    }

    /// A row as it is printed. A cell that is too wide moves the others, and is not cut.
    pub(crate) fn line(&self, cells: &[String]) -> String {
        let cells = self.columns.iter().zip(cells).map(|(column, cell)| match column.left {
            true => format!("{cell:<0$}", column.width),
            false => format!("{cell:>0$}", column.width),
        });
        cells.collect::<Vec<_>>().join(" ").trim_end().into()
    }

    /// All that was printed, for the page.
    pub(crate) fn table(&self) -> Table {
        let table = Table::new(self.columns.iter().map(|column| column.header.clone()));
        self.rows.iter().fold(table, |table, row| table.row(row.clone()))
    }
}
