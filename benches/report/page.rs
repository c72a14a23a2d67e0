//! The page: self-contained, for the screen in light and dark, and for paper.

use std::fmt::Write;
use std::time::Instant;

use time::OffsetDateTime;

use super::facts;
use super::figure::{Figure, json};
use super::html::{self, Table, escape, paragraphs};
use super::output::{self, Written};

const STYLE: &str = include_str!("style.css");

/// What a benchmark has measured.
#[derive(Debug)]
pub(crate) struct Report {
    name: String,
    title: String,
    command: String,
    begun: Instant,
    date: OffsetDateTime,
    facts: Vec<(String, String)>,
    sections: Vec<Section>,
    figures: Vec<Figure>,
}

/// A heading, and what is below it.
#[derive(Debug)]
pub(crate) struct Section {
    heading: String,
    body: String,
}

impl Section {
    /// A chart, as the functions of [`chart`](super::chart) return it.
    pub(crate) fn chart(&mut self, svg: impl AsRef<str>) -> &mut Self {
        let _ = writeln!(self.body, "<figure class=\"scroll\">{}</figure>", svg.as_ref());
        self
    }

    pub(crate) fn table(&mut self, table: Table) -> &mut Self {
        self.body.push_str(&table.html());
        self
    }

    pub(crate) fn text(&mut self, text: impl AsRef<str>) -> &mut Self {
        self.body.push_str(&paragraphs(text.as_ref()));
        self
    }
}

impl Report {
    /// To be called before anything is measured: it notes the time, and what the source is by then. `name`
    /// is the benchmark's for cargo, and of the files.
    pub(crate) fn new(name: impl Into<String>, title: impl Into<String>) -> Self {
        let name = name.into();
        let facts = facts::gather().into_iter().map(|(name, value)| (name.into(), value));
        Self {
            command: facts::command(&format!("cargo bench --bench {name}")),
            name,
            title: title.into(),
            begun: Instant::now(),
            date: OffsetDateTime::now_utc(),
            facts: facts.collect(),
            sections: Vec::new(),
            figures: Vec::new(),
        }
    }

    /// How cargo is called, if not by `cargo bench --bench NAME`; the arguments of this process are added.
    pub(crate) fn command(&mut self, prefix: &str) -> &mut Self {
        self.command = facts::command(prefix);
        self
    }

    /// One more line at the page's top, such as a version of what is compared with.
    pub(crate) fn fact(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.facts.push((name.into(), value.into()));
        self
    }

    pub(crate) fn figure(&mut self, figure: Figure) -> &mut Self {
        self.figures.push(figure);
        self
    }

    pub(crate) fn figures(&mut self, figures: impl IntoIterator<Item = Figure>) -> &mut Self {
        self.figures.extend(figures);
        self
    }

    pub(crate) fn all_figures(&self) -> &[Figure] {
        &self.figures
    }

    pub(crate) fn section(
        &mut self,
        heading: impl Into<String>,
        text: impl AsRef<str>,
    ) -> &mut Section {
        let section = Section { heading: heading.into(), body: paragraphs(text.as_ref()) };
        self.sections.push(section);
        let last = self.sections.len() - 1;
        &mut self.sections[last]
    }

    pub(crate) fn html(&self) -> String {
        let title = escape(&self.title);
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
             <h1>{title}</h1>\n<dl>\n"
        );
        let seconds = self.begun.elapsed().as_secs();
        let took = format!("{} min {:02} s", seconds / 60, seconds % 60);
        let _ = writeln!(out, "<dt>Command</dt><dd><code>{}</code></dd>", escape(&self.command));
        let _ = writeln!(out, "<dt>Date</dt><dd>{}, took {took}</dd>", facts::date(self.date));
        for (name, value) in &self.facts {
            let _ = writeln!(out, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
        }
        out.push_str("</dl>\n");
        for Section { heading, body } in &self.sections {
            let _ = writeln!(out, "<section>\n<h2>{}</h2>\n{body}</section>", escape(heading));
        }
        if !self.figures.is_empty() {
            let all = html::figures(&self.figures).html();
            let n = self.figures.len();
            let _ = writeln!(out, "<details><summary>All {n} figures</summary>\n{all}</details>");
        }
        out.push_str("</main>\n</body>\n</html>\n");
        out
    }

    /// Writes `bench/NAME.json` and `bench/NAME.html` in cargo's target directory.
    pub(crate) fn write(&self) -> std::io::Result<Written> {
        output::write(&self.name, &json(&self.figures)?, &self.html())
    }
}
