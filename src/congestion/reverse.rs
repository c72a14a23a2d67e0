//! Beside tells in the other direction, whose queue is in the RTT as well.
//!
//! Packets wait in one direction's queue, and their acknowledgements in the other's. A flow cannot tell
//! the two apart: by Little's law its rate is its window over the RTT, wherever the waiting was. If it
//! takes the other direction's queue for its own, its cuts do not end it, and it starves; then it takes
//! it for a longer route or a competitor's, and fills its own buffer, which does the same to the other.
//! But a node knows how much it receives. While that is a good part of what it sends:
//!
//! * Two such flows cause twice the delay that one may, so twice as much is allowed. quinn's bursts of
//!   ten packets delay acknowledgements too; the standing RTT is the least of two round trips, which
//!   sees between them.
//! * A cut leaves what the path delivered *lately* in the RTT that is allowed. More than that is this
//!   flow's queue, less is not. Both flows do so, and whose queue it is cuts it. The RTT that is allowed
//!   and not the base: a rate that was measured with a queue is below the link's, and would fall from
//!   cut to cut. And no longer one: what is left beyond it keeps the other flow from growing, which then
//!   never gets its share. "Lately" is about fifty round trips, so that a link that becomes slower is
//!   followed.
//! * What a drained round finds is no base RTT, unless three in a row find the same.
//! * Nobody is suspected of being a competitor. A flow that competes already has no more in flight than
//!   gives it half of its former rate, which by itself makes no queue, so that two that compete with
//!   each other's queues end it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Base, LowDelay, TOLERATED};

/// The part of this flow's own rate from which on the other direction counts as busy.
const BUSY: f64 = 0.125;

/// What a drained round leaves that ended the queue, over what the path held before it.
const LEFT: f64 = 1.3;

/// Round trips over which a rate is measured, so that acknowledgements that waited for each other and
/// come at once do not count for more than they are.
const SPAN: u32 = 4;

/// How many such rates are remembered.
const SPANS: usize = 12;

/// Drained rounds in a row beyond the first that find the same RTT, after which that is the base.
const SAME: u32 = 2;

/// What is received.
#[derive(Debug, Clone, Default)]
pub(super) struct Reverse {
    last: Option<(Instant, u64)>,
    /// Bytes per second.
    rate: f64,
}

impl Reverse {
    pub(super) fn add(&mut self, now: Instant, total: u64, span: Duration) {
        let (at, before) = *self.last.get_or_insert((now, total));
        let past = now.duration_since(at);
        if past >= span {
            self.rate = total.saturating_sub(before) as f64 / past.as_secs_f64();
            self.last = Some((now, total));
        }
    }
}

/// The most that was delivered lately.
#[derive(Debug, Clone, Default)]
pub(super) struct Lately {
    since: Option<Instant>,
    bytes: u64,
    rates: VecDeque<f64>,
}

impl Lately {
    pub(super) fn add(&mut self, now: Instant, bytes: u64, rtt: Duration) {
        let since = *self.since.get_or_insert(now);
        self.bytes += bytes;
        let span = now.duration_since(since);
        if span > rtt * SPAN {
            if self.rates.len() == SPANS {
                self.rates.pop_front();
            }
            self.rates.push_back(self.bytes as f64 / span.as_secs_f64());
            (self.since, self.bytes) = (Some(now), 0);
        }
    }

    /// Forgets all but the newest: the link is not as fast as it was.
    fn forget(&mut self) {
        self.rates.drain(..self.rates.len().saturating_sub(1));
    }

    fn newest(&self) -> f64 {
        self.rates.back().copied().unwrap_or(0.0)
    }

    /// Bytes per second.
    fn rate(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }
}

impl LowDelay {
    /// Whether the other direction's queue may be in the RTT.
    pub(super) fn is_reverse_busy(&self) -> bool {
        self.reverse.rate > BUSY * self.lately.newest()
    }

    /// What a cut leaves at least; `allowed`: how long the RTT may be.
    pub(super) fn left_by_cuts(&self, allowed: Duration) -> f64 {
        match self.is_reverse_busy() {
            true => self.lately.rate() * allowed.as_secs_f64(),
            false => 0.0,
        }
    }

    /// Whether the RTT that a drained round found may be the other direction's queue; `delivered` is
    /// what the path held in a base RTT before it.
    pub(super) fn is_found_of_reverse(
        &mut self,
        now: Instant,
        found: Duration,
        before: Base,
        delivered: f64,
    ) -> bool {
        let risen = self.risen.take();
        if !self.is_reverse_busy() {
            return false;
        }
        self.doubted = Some(now);
        if found <= before.rtt + TOLERATED * 2 {
            // The round ended the queue, so it was this flow's.
            self.lately.forget();
            self.window = self.window.min(LEFT * delivered);
            self.clamp();
            return found > before.rtt;
        }
        let near = TOLERATED.max(found / 100);
        let same = match risen {
            Some((rtt, same)) if rtt.abs_diff(found) <= near => same + 1,
            _ => 0,
        };
        self.risen = (same < SAME).then_some((found, same));
        same < SAME
    }
}
