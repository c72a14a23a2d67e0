//! Beside a flow that only losses stop: how such a one is told from a new route, and what is done then.
//!
//! Both show as a queue that cuts do not end: a *doubt*, and a drained round. Such a flow keeps what it
//! has taken, so either the drained round finds a longer RTT than before, or, where what it keeps just
//! fills the path, none; then there is a queue again, and another doubt, as soon as the window is
//! restored. (Flows that cut as well end it; a link that has become slower is matched by the next cut.)
//! Whether it is a route is seen from what becomes of the rate, against the *peak* of the last seconds;
//! the rate at the first doubt will not do, as a Cubic that starts up has most of the link by then.
//!
//! A new route that is longer and has less than 0.4 of the rate is taken for a competitor, until three
//! drained rounds find the same.

use std::time::{Duration, Instant};

use super::cubic::Cubic;
use super::drain::Why;
use super::{Base, Batch, LowDelay, Phase, TOLERATED};

/// What a drained round finds beyond the base RTT, at least, if that has risen; twice what is tolerated.
const RISEN: Duration = Duration::from_millis(2);

/// Doubts are of the same queue if less than this many round trips apart; one takes about ten.
pub(super) const APART: u32 = 20;

/// The part of its former rate below which a suspicious flow takes the queue for a competitor's, and the
/// part that it then claims.
const PUSHED_ASIDE: f64 = 0.4;
const CLAIM: f64 = 0.5;

/// For how long a flow is suspicious.
const SUSPICION: Duration = Duration::from_secs(30);

/// Checks in a row beyond the first that find the same RTT in a drained round, after which that is
/// taken for the base.
const SAME: u32 = 2;

/// How often a competitor's presence is checked.
const PROBE: Duration = Duration::from_secs(5);

/// There is a queue that is not this flow's: of a new route, or of a competitor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspicion {
    /// The base RTT before.
    pub(super) floor: Duration,
    /// What the drained round found.
    found: Duration,
    /// The peak before, in bytes per second.
    pub(super) rate: f64,
    /// The rate counts from here on.
    pub(super) from: Instant,
}

#[derive(Debug, Clone)]
pub(super) struct Competing {
    pub(super) cubic: Cubic,
    /// The RTT without the other's queue.
    pub(super) floor: Duration,
    /// When the other's presence was last checked.
    pub(super) checked: Instant,
    /// What the last check found, and how often it was the same in a row.
    pub(super) drained: Duration,
    pub(super) same: u32,
}

impl LowDelay {
    /// A drained round found this RTT where `before` was believed in.
    pub(super) fn suspect(&mut self, now: Instant, found: Duration, before: Duration) {
        if self.is_reverse_busy() {
            self.doubted = Some(now);
            return;
        }
        let risen = found > before + RISEN;
        let again = self.doubted.is_some_and(|last| now.duration_since(last) < found * APART);
        self.doubted = Some(now);
        if !risen && !again {
            return;
        }
        let peak = self.peak.rate();
        let (floor, rate) = match self.suspicion {
            Some(earlier) => (earlier.floor.min(before), earlier.rate.max(peak)),
            None => (before, peak),
        };
        self.suspicion = Some(Suspicion { floor, found, rate, from: now + found * 4 });
        if risen {
            self.window = self.window.max(CLAIM * rate * found.as_secs_f64());
        }
    }

    /// Whether this flow is being pushed aside.
    pub(super) fn is_pushed_aside(
        &mut self,
        now: Instant,
        standing: Duration,
    ) -> Option<Suspicion> {
        let suspicion = self.suspicion?;
        if now < suspicion.from || self.is_reverse_busy() {
            return None;
        }
        let past = now > suspicion.from + SUSPICION;
        if past || standing < suspicion.floor + RISEN {
            self.suspicion = None;
            return None;
        }
        let rate = self.delivery.rate(now)?;
        (rate < PUSHED_ASIDE * suspicion.rate).then_some(suspicion)
    }

    /// Takes Cubic's way, from half of the rate that this flow had alone.
    pub(super) fn begin_competing(&mut self, now: Instant, rtt: Duration, suspicion: Suspicion) {
        self.window = self.window.max(CLAIM * suspicion.rate * rtt.as_secs_f64());
        self.changed = Some(now);
        self.phase = Phase::Competing(Competing {
            cubic: Cubic::reduced_to(self.window / self.mtu, now),
            floor: suspicion.floor,
            checked: now,
            drained: suspicion.found,
            same: 0,
        });
    }

    pub(super) fn compete(&mut self, now: Instant, batch: Batch) {
        let Some((standing, _)) = self.rtts() else { return };
        let Phase::Competing(competing) = &mut self.phase else { return };
        if standing <= competing.floor + TOLERATED {
            return self.stop_competing(now, standing, self.window);
        }
        if now.duration_since(competing.checked) > PROBE.max(standing * 16) {
            let competing = competing.clone();
            return self.begin_drain(now, self.window, competing.floor, Why::Check(competing));
        }
        if self.changed.is_some_and(|changed| batch.newest < changed) {
            return;
        }
        let acked = batch.bytes as f64 / self.mtu;
        let srtt = self.smoothed.unwrap_or(standing);
        let cubic = &competing.cubic;
        self.window = cubic.grown(self.window / self.mtu, acked, srtt, now) * self.mtu;
        if self.is_reverse_busy() {
            let most = CLAIM * self.peak.rate() * standing.as_secs_f64();
            self.window = self.window.min(most);
        }
    }

    /// A drained round found this RTT; alone, this flow would hold `holds` bytes.
    pub(super) fn checked(
        &mut self,
        now: Instant,
        found: Duration,
        holds: f64,
        mut competing: Competing,
    ) {
        // A competitor's queue does not stay as it is.
        let near = TOLERATED.max(found / 100);
        let again = found.abs_diff(competing.drained) <= near;
        competing.same = if again { competing.same + 1 } else { 0 };
        if found <= competing.floor + RISEN || competing.same >= SAME {
            return self.stop_competing(now, found, self.window.min(holds));
        }
        (competing.checked, competing.drained) = (now, found);
        self.phase = Phase::Competing(competing);
    }

    fn stop_competing(&mut self, now: Instant, base: Duration, window: f64) {
        self.base = Some(Base { rtt: base, seen: now });
        if let Some(suspicion) = self.suspicion.take() {
            self.peak.add(now, suspicion.rate);
        }
        self.doubted = Some(now);
        self.cut_to(now, window);
    }
}
