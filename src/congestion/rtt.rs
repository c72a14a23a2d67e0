//! What round-trip times say about the queue in the network.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The least round-trip time of the recent past: the *standing* RTT of Copa (section 2.2), free of the
/// jitter of single acknowledgements.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    /// Samples that no later one undercuts, oldest and smallest first.
    samples: VecDeque<(Instant, Duration)>,
}

impl Standing {
    pub(super) fn add(&mut self, now: Instant, sample: Duration, window: Duration) {
        while self.samples.back().is_some_and(|&(_, rtt)| rtt >= sample) {
            self.samples.pop_back();
        }
        self.samples.push_back((now, sample));
        while self.samples.len() > 1
            && self.samples.front().is_some_and(|&(at, _)| now.duration_since(at) > window)
        {
            self.samples.pop_front();
        }
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        self.samples.front().map(|&(_, rtt)| rtt)
    }

    pub(super) fn clear(&mut self) {
        self.samples.clear();
    }
}

/// How fast the path delivers: acknowledged bytes over about the last round trip.
#[derive(Debug, Clone, Default)]
pub(super) struct Delivery {
    total: u64,
    /// The total at some moments, no more than `POINTS` per span.
    points: VecDeque<(Instant, u64)>,
}

/// Enough for an eighth of a round trip's precision.
const POINTS: u32 = 8;

impl Delivery {
    pub(super) fn add(&mut self, now: Instant, bytes: u64, span: Duration) {
        self.total += bytes;
        let due = |&(at, _): &(Instant, u64)| now.duration_since(at) >= span / POINTS;
        if self.points.back().is_none_or(due) {
            self.points.push_back((now, self.total));
        }
        // One point at or beyond the span stays: it is where the rate is measured from.
        while self.points.get(1).is_some_and(|&(at, _)| now.duration_since(at) >= span) {
            self.points.pop_front();
        }
    }

    /// Bytes per second; `None` before two moments are known.
    pub(super) fn rate(&self, now: Instant) -> Option<f64> {
        let &(since, before) = self.points.front()?;
        let span = now.duration_since(since).as_secs_f64();
        (span > 0.0).then(|| (self.total - before) as f64 / span)
    }

    /// What the rate is measured over.
    pub(super) fn span(&self, now: Instant) -> Duration {
        self.points.front().map_or(Duration::ZERO, |&(since, _)| now.duration_since(since))
    }

    /// Forgets what was; idle time is no measure of the path.
    pub(super) fn clear(&mut self) {
        self.points.clear();
    }
}

/// The most that was delivered in the last ten to twenty seconds, in bytes per second.
#[derive(Debug, Clone, Default)]
pub(super) struct Peak {
    since: Option<Instant>,
    rate: f64,
    before: f64,
}

const PEAK_LIFE: Duration = Duration::from_secs(10);

impl Peak {
    pub(super) fn add(&mut self, now: Instant, rate: f64) {
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) > PEAK_LIFE {
            (self.since, self.before, self.rate) = (Some(now), self.rate, 0.0);
        }
        self.rate = self.rate.max(rate);
    }

    pub(super) fn rate(&self) -> f64 {
        self.rate.max(self.before)
    }
}
