//! How things end other than well.

use std::fmt;
use std::io::Write;

/// Why the demo ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Ctrl-C, or the parent process is gone.
    Interrupted,
    /// Anything else, for people to read.
    Because(String),
}

/// Any error becomes a failure by `?`.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Because(error.to_string())
    }
}

/// A failure in one's own words.
pub(crate) fn because(problem: impl fmt::Display) -> Failure {
    Failure::Because(problem.to_string())
}

/// Says what is wrong, to whoever still reads standard error.
pub(crate) fn complain(problem: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "two_node: {problem}");
}
