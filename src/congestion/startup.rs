//! The startup: doubling per round trip until the queue shows.

use std::time::{Duration, Instant};

use super::{Batch, LowDelay, Phase};

/// How many samples of a round of the startup are looked at.
const HEAD: u32 = 8;

/// A round of the startup. Its first samples are its least: a round leaves as a train of packets at
/// twice the rate of the link, whose tail queues behind its head (HyStart++, RFC 9406, section 4.2).
#[derive(Debug, Clone)]
pub(super) struct Startup {
    round: Instant,
    samples: u32,
    least: Duration,
}

impl Startup {
    pub(super) fn new(now: Instant) -> Self {
        Self { round: now, samples: 0, least: Duration::MAX }
    }
}

impl LowDelay {
    pub(super) fn start_up(&mut self, now: Instant, batch: Batch) {
        self.window += batch.bytes as f64;
        let Some((standing, base)) = self.rtts() else { return };
        let allowed = self.allowed(standing, base);
        let Phase::Startup(startup) = &mut self.phase else { return };
        if batch.newest >= startup.round {
            *startup = Startup::new(now);
        }
        if startup.samples >= HEAD {
            return;
        }
        startup.samples += 1;
        startup.least = startup.least.min(now.duration_since(batch.newest));
        if startup.samples == HEAD && startup.least > allowed {
            // What the path delivers is known by now, and the window is up to twice of it.
            let rate = self.delivery.rate(now).unwrap_or(0.0);
            self.cut_to(now, (rate * base.rtt.as_secs_f64()).min(self.window));
        }
    }
}
