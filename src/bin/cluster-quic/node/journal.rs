//! What happened, in a line each.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use crate::words::Level;

/// Entries that are kept.
const CAPACITY: usize = 200;

/// For how long the same again is but counted.
const SAME_AGAIN: Duration = Duration::from_secs(10);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) at: SystemTime,
    pub(crate) level: Level,
    pub(crate) text: String,
    /// How often, within a few seconds.
    pub(crate) times: u64,
}

/// The last entries, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: VecDeque<Entry>,
    added: usize,
}

impl Journal {
    /// Adds an entry; the same as one of a few seconds ago is counted there.
    pub(crate) fn add(&mut self, at: SystemTime, level: Level, text: impl Into<String>) {
        let text = text.into();
        let recent = |entry: &Entry| {
            at.duration_since(entry.at).is_ok_and(|since| since < SAME_AGAIN)
                && entry.level == level
                && entry.text == text
        };
        // Of the last few: two that take turns are no news either.
        if let Some(entry) = self.entries.iter_mut().rev().take(4).find(|entry| recent(entry)) {
            entry.times += 1;
            return;
        }
        if self.entries.len() == CAPACITY {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { at, level, text, times: 1 });
        self.added += 1;
    }

    /// The entries, the newest first.
    pub(crate) fn newest(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().rev()
    }

    /// The entries that came after `seen` others, in their order; then `seen` is up to date.
    pub(crate) fn since(&self, seen: &mut usize) -> impl Iterator<Item = &Entry> {
        let new = (self.added - *seen).min(self.entries.len());
        *seen = self.added;
        self.entries.iter().skip(self.entries.len() - new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_again_is_counted() {
        let (mut journal, begin) = (Journal::default(), SystemTime::UNIX_EPOCH);
        let mut seen = 0;
        let second = Duration::from_secs(1);
        journal.add(begin, Level::Bad, "a");
        journal.add(begin, Level::Bad, "b");
        journal.add(begin + second, Level::Bad, "a");
        let texts: Vec<_> = journal.newest().map(|entry| (&*entry.text, entry.times)).collect();
        assert_eq!(texts, [("b", 1), ("a", 2)]);
        assert_eq!(journal.since(&mut seen).count(), 2);
        assert_eq!(journal.since(&mut seen).count(), 0);
        // Later it is news.
        journal.add(begin + SAME_AGAIN, Level::Bad, "a");
        assert_eq!(journal.since(&mut seen).count(), 1);
    }

    #[test]
    fn only_so_much_is_kept() {
        let (mut journal, mut seen) = (Journal::default(), 0);
        for n in 0..3 * CAPACITY {
            journal.add(SystemTime::UNIX_EPOCH, Level::Plain, n.to_string());
        }
        assert_eq!(journal.newest().count(), CAPACITY);
        assert_eq!(journal.since(&mut seen).count(), CAPACITY);
    }
}
