//! A qlog file that ends at a record's end when it, or all of them together, would grow too large.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a file takes of the allowance before its first record: no number of connections makes more files
/// than the allowance has of these.
pub(super) const FILE: u64 = 64 * 1024;

/// What all files of a node may still grow by.
#[derive(Debug)]
pub(super) struct Allowance {
    left: AtomicU64,
    said: AtomicBool,
}

impl Allowance {
    pub(super) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(bytes), said: AtomicBool::new(false) })
    }

    pub(super) fn take(&self, bytes: u64) -> bool {
        let rest = |left: u64| left.checked_sub(bytes);
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).is_ok();
        if !taken && !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!("qlog files have reached their limit in all; nothing more is written");
        }
        taken
    }
}

/// Writes whole records, each of which ends with a line feed. Never fails: a log is not worth a connection,
/// and quinn would say so with every packet.
pub(super) struct Records<W> {
    out: Option<W>,
    record: Vec<u8>,
    /// What the file may still grow by, and how much of that is paid for.
    left: u64,
    paid: u64,
    allowance: Arc<Allowance>,
}

impl<W: Write> Records<W> {
    /// `paid`: what was taken of the allowance for it.
    pub(super) fn new(out: W, limit: u64, paid: u64, allowance: Arc<Allowance>) -> Self {
        Self { out: Some(out), record: Vec::new(), left: limit, paid, allowance }
    }

    fn end_record(&mut self) {
        let Some(out) = &mut self.out else { return };
        let len = self.record.len() as u64;
        let unpaid = len.saturating_sub(self.paid);
        let fits = len <= self.left && (unpaid == 0 || self.allowance.take(unpaid));
        let written = match fits {
            true => out.write_all(&self.record),
            false => Err(io::ErrorKind::FileTooLarge.into()),
        };
        self.left = self.left.saturating_sub(len);
        self.paid = self.paid.saturating_sub(len);
        self.record.clear();
        if let Err(error) = written {
            if fits {
                tracing::warn!(%error, "a qlog file cannot be written; it ends here");
            }
            self.out = None;
            self.record = Vec::new();
        }
    }
}

impl<W: Write> Write for Records<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.out.is_some() {
            self.record.extend_from_slice(buf);
            // JSON has no line feeds within.
            if buf.last() == Some(&b'\n') {
                self.end_record();
            }
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(out) = &mut self.out {
            let _ = out.flush();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(records: &mut Records<&mut Vec<u8>>, text: &str) {
        for part in text.as_bytes().chunks(3) {
            records.write_all(part).unwrap();
        }
        records.write_all(b"\n").unwrap();
    }

    #[test]
    fn a_file_ends_with_a_whole_record_at_its_limit() {
        let mut file = Vec::new();
        let allowance = Allowance::new(1_000);
        let mut records = Records::new(&mut file, 26, 0, Arc::clone(&allowance));
        for n in 0..9 {
            write(&mut records, &format!("record {n}"));
        }
        assert_eq!(file, b"record 0\nrecord 1\n");
        assert!(!allowance.take(983) && allowance.take(982), "18 of 1000 were taken");
    }

    #[test]
    fn all_files_together_have_a_limit() {
        let allowance = Allowance::new(20);
        let mut files = [Vec::new(), Vec::new()];
        let [a, b] = &mut files;
        let mut a = Records::new(a, 1_000, 0, Arc::clone(&allowance));
        let mut b = Records::new(b, 1_000, 10, Arc::clone(&allowance));
        for n in 0..9 {
            write(&mut a, &format!("record {n}"));
            write(&mut b, &format!("record {n}"));
        }
        // Nine bytes each: a took 18 of 20, and the first of b was paid for. Its second, for which one more
        // byte was, found two left.
        assert_eq!(files[0], b"record 0\nrecord 1\n");
        assert_eq!(files[1], b"record 0\n");
    }

    #[test]
    fn a_disk_that_is_full_ends_the_file_and_nothing_else() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut records = Records::new(Full, 1_000, 0, Allowance::new(1_000));
        for _ in 0..3 {
            records.write_all(b"record\n").unwrap();
        }
        assert!(records.out.is_none());
    }
}
