//! The file whose lines are sent, and digests of what arrives.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use cluster_quic::MAX_FRAME;

use crate::outcome::{Failure, because};

/// Line i goes to target i modulo this, so that several lanes carry them.
pub(crate) const TARGETS: usize = 8;

/// The longest line that fits into a frame, with room for the rest of a tell.
const MAX_LINE: usize = MAX_FRAME - 1024;

/// A file, to be sent over and over.
#[derive(Clone)]
pub(crate) struct Source {
    path: PathBuf,
    pub(crate) lines: u64,
    pub(crate) passes: u64,
}

impl Source {
    /// Counts the lines; the file is to be sent as often as it takes for `tells`.
    pub(crate) fn open(path: &Path, tells: u64) -> Result<Self, Failure> {
        let mut source = Self { path: path.to_owned(), lines: 0, passes: 1 };
        let named = |error| because(format_args!("{}: {error}", path.display()));
        if !path.metadata().map_err(named)?.is_file() {
            return Err(because(format_args!("{} is not a file", path.display())));
        }
        let mut lines = 0;
        source.each(|_, _| {
            lines += 1;
            Ok(())
        })?;
        if lines == 0 {
            return Err(because(format_args!("{} has no lines", path.display())));
        }
        (source.lines, source.passes) = (lines, tells.div_ceil(lines));
        Ok(source)
    }

    pub(crate) fn tells(&self) -> u64 {
        self.lines * self.passes
    }

    pub(crate) fn file_name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// What the receiver's digest must be: computed from the file alone.
    pub(crate) fn digest(&self) -> Result<String, Failure> {
        let mut digests = Digests::default();
        self.each(|number, line| {
            digests.targets[target_of(number)].update(line);
            Ok(())
        })?;
        Ok(digests.combined())
    }

    /// Calls `take` with every line's number and content, the line's end included.
    pub(crate) fn each(
        &self,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (mut number, mut line) = (0, Vec::new());
        for _ in 0..self.passes {
            let named =
                |error: io::Error| because(format_args!("{}: {error}", self.path.display()));
            let mut reader = BufReader::new(File::open(&self.path).map_err(named)?);
            loop {
                line.clear();
                let mut limited = (&mut reader).take(MAX_LINE as u64 + 1);
                match limited.read_until(b'\n', &mut line).map_err(named)? {
                    0 => break,
                    length if length > MAX_LINE => {
                        let what = "has a line that is too long for a tell";
                        return Err(because(format_args!("{} {what}", self.path.display())));
                    }
                    _ => take(number, &line)?,
                }
                number += 1;
            }
        }
        Ok(())
    }
}

/// The target of the line with this number.
pub(crate) fn target_of(number: u64) -> usize {
    (number % TARGETS as u64) as usize
}

/// SHA-256 of the lines to each target, since lanes run at their own pace.
pub(crate) struct Digests {
    pub(crate) targets: [Context; TARGETS],
}

impl Default for Digests {
    fn default() -> Self {
        Self { targets: std::array::from_fn(|_| Context::new(&SHA256)) }
    }
}

impl Digests {
    /// SHA-256 of the targets' digests, as hex digits.
    pub(crate) fn combined(self) -> String {
        let mut all = Context::new(&SHA256);
        for target in self.targets {
            all.update(target.finish().as_ref());
        }
        all.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
