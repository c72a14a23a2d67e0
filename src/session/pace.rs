//! When a lane's sink is called next: at once, or with more.
//!
//! Waking a sink's thread costs two switches of a core, some ten microseconds together: nothing beside the
//! way of a single tell, and a fifth of the processor time at full load if every read pays it. So a lane
//! that receives fast keeps what it has for a moment, as a network card does with its interrupts.

use std::time::Duration;

use tokio::time::Instant;

/// What a lane keeps back for at most so long ...
const HOLD: Duration = Duration::from_millis(1);

/// ... and at most so many bytes; who receives less in that time is not fast.
pub(super) const HOLD_BYTES: usize = 256 * 1024;

/// How fast a lane receives, by spans of [`HOLD`] and more.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    bytes: usize,
    fast: bool,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0, fast: false }
    }

    /// Takes note of what was received just now.
    pub(super) fn received(&mut self, bytes: usize, now: Instant) {
        self.bytes += bytes;
        let span = now - self.since;
        if span >= HOLD {
            self.fast =
                self.bytes as u128 * HOLD.as_micros() >= HOLD_BYTES as u128 * span.as_micros();
            (self.since, self.bytes) = (now, 0);
        }
    }

    /// Until when what waits is kept back for more to go with it; `None`: not at all. `budget`: bytes that
    /// the lane may hold.
    pub(super) fn hold(&self, waiting: usize, budget: usize, now: Instant) -> Option<Instant> {
        // Half a budget, for a lane that is full must not wait for more.
        (self.fast && !is_enough(waiting, budget)).then(|| now + HOLD)
    }
}

/// Whether so much waits that it is not kept back any longer.
pub(super) fn is_enough(waiting: usize, budget: usize) -> bool {
    waiting >= HOLD_BYTES.min(budget / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: usize = 32 << 20;
    const READ: usize = 64 * 1024;

    /// A lane that gets a read's worth every `every`; where it stands after 10 ms.
    fn after(every: Duration) -> (Pace, Instant) {
        let mut now = Instant::now();
        let (end, mut pace) = (now + 10 * HOLD, Pace::new(now));
        while now < end {
            now += every;
            pace.received(READ, now);
        }
        (pace, now)
    }

    #[test]
    fn a_slow_lane_delivers_at_once() {
        // One request at a time, of 64 KiB, three in a millisecond.
        let (pace, now) = after(HOLD / 3);
        assert_eq!(pace.hold(READ, BUDGET, now), None);
    }

    #[test]
    fn a_fast_lane_keeps_what_it_has_for_a_moment() {
        let (pace, now) = after(HOLD / 8);
        assert_eq!(pace.hold(READ, BUDGET, now), Some(now + HOLD));
        assert_eq!(pace.hold(HOLD_BYTES, BUDGET, now), None, "enough");
        assert_eq!(pace.hold(READ, 2 * READ, now), None, "its budget is used up by half");
    }

    #[test]
    fn a_pause_makes_it_slow() {
        let (mut pace, now) = after(HOLD / 8);
        let later = now + 20 * HOLD;
        pace.received(READ, later);
        assert_eq!(pace.hold(READ, BUDGET, later), None);
    }
}
