//! How things end other than well.

use std::fmt;

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
