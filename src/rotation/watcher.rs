//! What to make of files that are looked at now and then. Pure: what time it is, is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a content must have stood still: whoever replaces several files, or writes a long one, is
/// through by then.
const SETTLED: Duration = Duration::from_secs(1);

/// Rejected contents that are remembered. Files that change back and forth among more are news.
const REJECTED: usize = 16;

/// SHA-256 of a content.
type Hash = [u8; 32];

#[derive(Debug)]
pub(super) struct Watcher {
    period: Duration,
    /// What the node has.
    accepted: Option<Hash>,
    /// What was seen last, and since when it is there.
    seen: Option<(Hash, Instant)>,
    rejected: VecDeque<Hash>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There is nothing new.
    Rest,
    /// It is new, and may be unfinished.
    Wait,
    /// It has stood still: the node should have it, if it is in order. Answered by
    /// [`accept`](Watcher::accept) or [`reject`](Watcher::reject).
    Try,
}

impl Watcher {
    pub(super) fn new(period: Duration) -> Self {
        Self { period, accepted: None, seen: None, rejected: VecDeque::new() }
    }

    fn settled(&self) -> Duration {
        SETTLED.min(self.period)
    }

    /// What to do about a content.
    pub(super) fn see(&mut self, now: Instant, hash: Hash) -> Step {
        let since = match self.seen {
            Some((seen, since)) if seen == hash => since,
            _ => now,
        };
        self.seen = Some((hash, since));
        if self.accepted == Some(hash) {
            Step::Rest
        } else if now.saturating_duration_since(since) < self.settled() {
            Step::Wait
        } else {
            Step::Try
        }
    }

    /// The node has what was seen last.
    pub(super) fn accept(&mut self) {
        self.accepted = self.seen.map(|(hash, _)| hash);
        self.rejected.clear();
    }

    /// What was seen last is not in order. Whether that is news: it was given its time, and is not known.
    pub(super) fn reject(&mut self, now: Instant) -> bool {
        let Some((hash, since)) = self.seen else { return false };
        if now.saturating_duration_since(since) < self.period || self.rejected.contains(&hash) {
            return false;
        }
        if self.rejected.len() == REJECTED {
            self.rejected.pop_front();
        }
        self.rejected.push_back(hash);
        true
    }

    /// When to look again.
    pub(super) fn pause(&self, step: Step) -> Duration {
        match step {
            Step::Wait => self.settled(),
            Step::Rest | Step::Try => self.period,
        }
    }
}

#[cfg(test)]
impl Watcher {
    pub(super) fn remembered(&self) -> usize {
        self.rejected.len()
    }
}
