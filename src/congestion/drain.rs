//! A drained round: what the RTT is while little of this flow is in flight.

use std::time::{Duration, Instant};

use super::competing::Competing;
use super::steady::Steady;
use super::{Base, Batch, LowDelay, MIN_PACKETS, Phase};

/// The part of what the path holds that is left in flight while the queue is drained.
const DRAINED: f64 = 0.5;

/// Holds little in flight for one round trip, to see the RTT of an empty queue.
#[derive(Debug, Clone)]
pub(super) struct Drain {
    why: Why,
    /// Goes on with this window.
    pub(super) restore: f64,
    target: f64,
    begun: Instant,
    /// Since when little enough has been in flight.
    empty: Option<Instant>,
    least: Option<Duration>,
}

#[derive(Debug, Clone)]
pub(super) enum Why {
    /// The base RTT was not seen for long, or cuts did not shorten the queue.
    Base,
    /// Is the other flow still there?
    Check(Competing),
}

impl LowDelay {
    pub(super) fn begin_drain(&mut self, now: Instant, restore: f64, base: Duration, why: Why) {
        let holds = self.delivery.rate(now).unwrap_or(0.0) * base.as_secs_f64();
        let target = (holds * DRAINED).min(self.window).max(MIN_PACKETS * self.mtu);
        self.window = target;
        let drain = Drain { why, restore, target, begun: now, empty: None, least: None };
        self.phase = Phase::Drain(drain);
    }

    pub(super) fn drain(&mut self, now: Instant, batch: Batch, in_flight: u64) {
        let Some((standing, base)) = self.rtts() else { return };
        let Phase::Drain(drain) = &mut self.phase else { return };
        let Some(empty) = drain.empty else {
            let late = now.duration_since(drain.begun) > standing * 3;
            if in_flight as f64 <= drain.target || late {
                drain.empty = Some(now);
            }
            return;
        };
        if batch.newest < empty {
            return;
        }
        let sample = now.duration_since(batch.newest);
        let least = *drain.least.insert(drain.least.map_or(sample, |least| least.min(sample)));
        // One round trip of samples.
        if now.duration_since(empty) < least * 2 {
            return;
        }
        let Drain { why, restore, target, .. } = drain.clone();
        self.window = restore;
        self.changed = Some(now);
        self.standing.clear();
        match why {
            Why::Base => self.rebase(now, least, base, target / DRAINED),
            Why::Check(competing) => self.checked(now, least, target / DRAINED, competing),
        }
    }

    /// Goes on from the RTT that was found.
    fn rebase(&mut self, now: Instant, found: Duration, before: Base, delivered: f64) {
        if self.is_found_of_reverse(now, found, before, delivered) {
            self.base = Some(Base { rtt: before.rtt, seen: now });
            self.phase = Phase::Steady(Steady::new(now));
            return;
        }
        self.base = Some(Base { rtt: found, seen: now });
        self.suspect(now, found, before.rtt);
        self.phase = Phase::Steady(Steady::new(now));
    }
}
