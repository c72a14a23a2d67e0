//! Beside a flow that only losses stop: how such a one is told from a new route, and what is done then.

use std::time::{Duration, Instant};

use super::cubic::Cubic;
use super::drain::Why;
use super::{Base, Batch, LowDelay, Phase, TOLERATED};

/// What a flow that fills the buffer adds to the RTT at least.
const FILLED: Duration = Duration::from_millis(5);

/// The part of its former rate below which a flow whose base RTT has risen takes the rise for a
/// competitor's queue, and the part that it then claims.
const PUSHED_ASIDE: f64 = 0.4;
const CLAIM: f64 = 0.5;

/// For how long a risen base RTT is suspicious.
const SUSPICION: Duration = Duration::from_secs(30);

/// Checks in a row beyond the first that find the same RTT in a drained round, after which that is
/// taken for the base.
const SAME: u32 = 2;

/// How often a competitor's presence is checked.
const PROBE: Duration = Duration::from_secs(5);

/// The base RTT has risen: by a new route, or by a competitor that keeps the buffer full.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspicion {
    /// The base RTT before.
    pub(super) floor: Duration,
    /// Bytes per second before.
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
    pub(super) drained: Option<Duration>,
    pub(super) same: u32,
}

impl LowDelay {
    /// A drained round found this RTT where `before` was believed in. If that is much more, a new route
    /// or a competitor is to be told apart by what becomes of the rate.
    pub(super) fn suspect(&mut self, now: Instant, found: Duration, before: Duration, rate: f64) {
        if found <= before + FILLED {
            return;
        }
        let (floor, rate) = match self.suspicion {
            Some(earlier) => (earlier.floor.min(before), earlier.rate.max(rate)),
            None => (before, rate),
        };
        self.suspicion = Some(Suspicion { floor, rate, from: now + found * 4 });
        self.window = self.window.max(CLAIM * rate * found.as_secs_f64());
    }

    /// Whether this flow is being pushed aside.
    pub(super) fn is_pushed_aside(
        &mut self,
        now: Instant,
        standing: Duration,
    ) -> Option<Suspicion> {
        let suspicion = self.suspicion?;
        let past = now > suspicion.from + SUSPICION;
        if past || standing < suspicion.floor + FILLED {
            self.suspicion = None;
            return None;
        }
        let rate = self.delivery.rate(now)?;
        (now > suspicion.from && rate < PUSHED_ASIDE * suspicion.rate).then_some(suspicion)
    }

    /// Takes Cubic's way, from half of the rate that this flow had alone.
    pub(super) fn begin_competing(&mut self, now: Instant, rtt: Duration, suspicion: Suspicion) {
        self.window = self.window.max(CLAIM * suspicion.rate * rtt.as_secs_f64());
        self.changed = Some(now);
        self.phase = Phase::Competing(Competing {
            cubic: Cubic::reduced_to(self.window / self.mtu, now),
            floor: suspicion.floor,
            checked: now,
            drained: None,
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
        let again = competing.drained.is_some_and(|before| found.abs_diff(before) <= near);
        competing.same = if again { competing.same + 1 } else { 0 };
        if found <= competing.floor + FILLED || competing.same >= SAME {
            return self.stop_competing(now, found, self.window.min(holds));
        }
        (competing.checked, competing.drained) = (now, Some(found));
        self.phase = Phase::Competing(competing);
    }

    fn stop_competing(&mut self, now: Instant, base: Duration, window: f64) {
        self.base = Some(Base { rtt: base, seen: now });
        self.suspicion = None;
        self.cut_to(now, window);
    }
}
