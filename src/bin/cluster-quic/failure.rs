//! Why a command ended otherwise than well. `main` prints it, once.

use std::fmt::Display;
use std::io;

/// What ends a command early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line asks for what cannot be done: exit code 2.
    Usage(String),
    /// Something is wrong with what was checked, reached or loaded: exit code 1.
    Wrong(String),
    /// It is wrong, and everything about it is printed already: exit code 1.
    Told,
    /// Whoever read the output has closed it: no more to say, and no fault.
    ClosedPipe,
}

impl Failure {
    pub(crate) fn usage(text: impl Display) -> Self {
        Self::Usage(text.to_string())
    }

    pub(crate) fn wrong(text: impl Display) -> Self {
        Self::Wrong(text.to_string())
    }
}

/// For writing to standard output with `?`.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::ClosedPipe
        } else {
            Self::Wrong(format!("the output cannot be written: {error}"))
        }
    }
}
