//! Cubic's window (RFC 9438), for sharing a link with flows that only losses stop.

use std::time::{Duration, Instant};

const BETA: f64 = 0.7;
/// In packets per second cubed.
const C: f64 = 0.4;

#[derive(Debug, Clone)]
pub(super) struct Cubic {
    /// In packets, where the last reduction was made.
    w_max: f64,
    /// Seconds from there until the window is as large again.
    k: f64,
    /// When the last reduction was made.
    since: Instant,
}

impl Cubic {
    /// Goes on from a window (in packets) as if it had just been reduced to it.
    pub(super) fn reduced_to(window: f64, now: Instant) -> Self {
        let w_max = window / BETA;
        Self { w_max, k: (w_max * (1.0 - BETA) / C).cbrt(), since: now }
    }

    /// The window, in packets, after `acked` packets more.
    pub(super) fn grown(&self, window: f64, acked: f64, srtt: Duration, now: Instant) -> f64 {
        let t = now.duration_since(self.since).as_secs_f64();
        let rtt = srtt.as_secs_f64().max(1e-6);
        let cubic = C * (t + rtt - self.k).powi(3) + self.w_max;
        // What Reno would have by now (section 4.3).
        let alpha = 3.0 * (1.0 - BETA) / (1.0 + BETA);
        let reno = self.w_max * BETA + alpha * t / rtt;
        // At most half a window a round trip (section 4.4).
        let target = cubic.max(reno).clamp(window, window * 1.5);
        window + (target - window) / window * acked
    }

    /// The window, in packets, after a loss.
    pub(super) fn reduce(&mut self, window: f64, now: Instant) -> f64 {
        // Fast convergence (section 4.7).
        let w_max = if window < self.w_max { window * (1.0 + BETA) / 2.0 } else { window };
        let reduced = window * BETA;
        *self = Self { w_max, k: (((w_max - reduced).max(0.0)) / C).cbrt(), since: now };
        reduced
    }
}
