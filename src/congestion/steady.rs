//! The steady state: small steps up while the queue is short, and a cut that empties it when it is not.

use std::time::{Duration, Instant};

use super::competing::APART;
use super::drain::Why;
use super::{Batch, LowDelay, PACKETS, Phase};

/// A cut leaves at least this part of the window.
const DEEPEST_CUT: f64 = 0.3;

/// A round's growth at most, as a part of the window: it shows in the queue only a round later.
const STEEPEST: f64 = 0.125;

/// How long a base RTT is believed in without a sample near it.
const BASE_LIFE: Duration = Duration::from_secs(10);

/// Cuts in a row, each meant to empty the queue, after which it is doubted that the queue is ours.
const DOUBT: u32 = 4;

#[derive(Debug, Clone)]
pub(super) struct Steady {
    /// Copa's velocity: packets per round trip, over `PACKETS`.
    pub(super) velocity: f64,
    /// Rounds of growth since the last cut.
    pub(super) rounds: u32,
    pub(super) round: Instant,
    /// In a row, without a round of growth between them.
    pub(super) cuts: u32,
    /// The window before the cuts in a row.
    pub(super) before: f64,
}

impl Steady {
    pub(super) fn new(now: Instant) -> Self {
        Self { velocity: 1.0, rounds: 0, round: now, cuts: 0, before: 0.0 }
    }
}

impl LowDelay {
    pub(super) fn steady(&mut self, now: Instant, batch: Batch, app_limited: bool) {
        // What was sent before the last cut tells nothing about it.
        if self.changed.is_some_and(|changed| batch.newest < changed) {
            return;
        }
        let Some((standing, base)) = self.rtts() else { return };
        if let Some(suspicion) = self.is_pushed_aside(now, standing) {
            return self.begin_competing(now, standing, suspicion);
        }
        let allowed = self.allowed(standing, base);
        let mtu = self.mtu;
        let left = self.left_by_cuts(allowed);
        let soon = self.is_reverse_busy()
            && self.doubted.is_some_and(|last| now.duration_since(last) < standing * APART);
        let Phase::Steady(steady) = &mut self.phase else { return };
        if standing > allowed {
            if steady.cuts >= DOUBT && !soon {
                let restore = steady.before;
                return self.begin_drain(now, restore, base.rtt, Why::Base);
            }
            let factor = base.rtt.as_secs_f64() / standing.as_secs_f64();
            let next = (self.window * factor.max(DEEPEST_CUT)).max(left.min(self.window));
            self.cut_to(now, next);
            return;
        }
        if app_limited {
            return;
        }
        if now.duration_since(base.seen) > BASE_LIFE {
            return self.begin_drain(now, self.window, base.rtt, Why::Base);
        }
        if batch.newest >= steady.round {
            steady.round = now;
            steady.rounds += 1;
            steady.cuts = 0;
            if steady.rounds > 3 {
                steady.velocity *= 2.0;
            }
        }
        steady.velocity = steady.velocity.min((self.window * STEEPEST / (PACKETS * mtu)).max(1.0));
        self.window += steady.velocity * PACKETS * mtu * batch.bytes as f64 / self.window;
    }
}
