//! How long a next dial waits.

use std::time::{Duration, Instant};

use super::{Association, State};

impl Association {
    pub(super) fn back_off(&mut self, now: Instant) -> Duration {
        self.back_off_for(now, self.doubled(self.failures))
    }

    pub(super) fn back_off_for(&mut self, now: Instant, full: Duration) -> Duration {
        let wait = self.wait(full);
        self.state = State::Backoff { until: now + wait };
        wait
    }

    /// Twice as long after each failure.
    pub(super) fn doubled(&self, failures: u32) -> Duration {
        let full = self.timing.backoff_min * (1 << failures.saturating_sub(1).min(16));
        full.min(self.timing.backoff_max)
    }

    /// Between half and all of it: peers that lost each other together do not come back together.
    pub(super) fn wait(&mut self, full: Duration) -> Duration {
        full.mul_f64(self.jitter.next(0.5))
    }
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): jitter needs no more.
#[derive(Debug)]
pub(super) struct Jitter(pub(super) u64);

impl Jitter {
    /// From `low` up to 1.
    fn next(&mut self, low: f64) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        low + (1.0 - low) * (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}
