//! What a command found, line by line: for people and, as JSON, for programs.

use std::io::{self, Write};

use serde::Serialize;

/// Lines end here at the latest, unless a word is longer.
pub(crate) const WIDTH: usize = 80;

/// Where a line's text begins.
const INDENT: usize = 13;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mark {
    Good,
    Wrong,
    /// Worth knowing, and nothing wrong.
    Note,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    /// What was looked at, in a word.
    pub(crate) what: &'static str,
    #[serde(rename = "result")]
    pub(crate) mark: Mark,
    pub(crate) text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

impl Line {
    pub(crate) fn new(what: &'static str, mark: Mark, text: impl Into<String>) -> Self {
        Self { what, mark, text: text.into(), hint: None }
    }

    pub(crate) fn good(what: &'static str, text: impl Into<String>) -> Self {
        Self::new(what, Mark::Good, text)
    }

    pub(crate) fn wrong(what: &'static str, text: impl Into<String>) -> Self {
        Self::new(what, Mark::Wrong, text)
    }

    pub(crate) fn note(what: &'static str, text: impl Into<String>) -> Self {
        Self::new(what, Mark::Note, text)
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(crate) fn is_wrong(&self) -> bool {
        self.mark == Mark::Wrong
    }

    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let mark = match self.mark {
            Mark::Good => '✓',
            Mark::Wrong => '✗',
            Mark::Note => '·',
        };
        write!(out, " {mark} {:<1$}", self.what, INDENT - 3)?;
        paragraph(out, INDENT, &self.text)?;
        if let Some(hint) = &self.hint {
            write!(out, "{:INDENT$}→ ", "")?;
            paragraph(out, INDENT + 2, hint)?;
        }
        out.flush()
    }
}

/// A name and its value, in a table of such.
pub(crate) fn field(out: &mut impl Write, name: &str, value: &str) -> io::Result<()> {
    write!(out, "   {name:<0$}", INDENT - 3)?;
    paragraph(out, INDENT, value)
}

/// The text's lines, each broken at `WIDTH` and indented, all but the first.
fn paragraph(out: &mut impl Write, indent: usize, text: &str) -> io::Result<()> {
    for (n, line) in wrap(text, WIDTH - indent).iter().enumerate() {
        if n > 0 {
            write!(out, "{:indent$}", "")?;
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// The text in lines of `width`, broken between words.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for part in text.split('\n') {
        let mut line = String::new();
        for word in part.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            } else if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// Text of others on one line, without what could do something to a terminal.
pub(crate) fn tame(text: &str) -> String {
    let visible = |c: char| if c.is_control() { '?' } else { c };
    text.chars().take(400).map(visible).collect()
}

/// A value as JSON, for `--json`.
pub(crate) fn json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("one\ntwo", 7), ["one", "two"]);
        assert_eq!(wrap("a verylongword b", 4), ["a", "verylongword", "b"]);
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn what_others_say_does_nothing_to_the_terminal() {
        assert_eq!(tame("a\u{1b}[2Jb\r\n"), "a?[2Jb??");
    }
}
