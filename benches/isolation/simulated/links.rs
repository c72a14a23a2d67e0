//! The simulated links, and what gossip's delay and the tells' part of the link are to be.

use std::time::Duration;

pub(crate) struct Link {
    pub(crate) name: &'static str,
    pub(crate) bytes_per_second: f64,
    pub(crate) rtt: Duration,
    /// Bytes.
    pub(crate) buffer: u64,
    pub(crate) loss: f64,
    /// Whether the rate drops to a tenth for the middle third of the time.
    pub(crate) drops: bool,
    /// The tells' part of the link is to be at least this.
    pub(crate) least_share: f64,
    pub(crate) seed: u64,
}

impl Link {
    const fn new(name: &'static str, megabits: u64, rtt_ms: u64, buffer: u64) -> Self {
        Self {
            name,
            bytes_per_second: (megabits * 125_000) as f64,
            rtt: Duration::from_millis(rtt_ms),
            buffer,
            loss: 0.0,
            drops: false,
            least_share: 0.9,
            seed: 7,
        }
    }

    const fn loss(mut self, loss: f64, least_share: f64) -> Self {
        (self.loss, self.least_share) = (loss, least_share);
        self
    }

    const fn drops(mut self) -> Self {
        self.drops = true;
        self
    }

    /// Parts of the time, each with what of the rate there is.
    pub(crate) fn phases(&self, time: Duration) -> Vec<(Duration, f64)> {
        match self.drops {
            true => vec![(time / 3, 1.0), (time / 3, 0.1), (time / 3, 1.0)],
            false => vec![(time, 1.0)],
        }
    }

    /// What gossip's p99 is to stay within: the propagation delay, and 10 ms, or two round trips
    /// where packets are lost.
    pub(crate) fn allowed(&self) -> Duration {
        let propagation = self.rtt / 2;
        propagation + if self.loss > 0.0 { self.rtt * 2 } else { Duration::from_millis(10) }
    }

    /// The same where both directions are full, and 5 ms more: round trips then hold both queues.
    pub(crate) fn allowed_both_ways(&self) -> Duration {
        self.allowed() + Duration::from_millis(5)
    }

    /// What the tells' part of each direction is to be.
    pub(crate) fn least_share_both_ways(&self) -> f64 {
        self.least_share.min(0.75)
    }
}

pub(crate) const LINKS: [Link; 8] = [
    Link::new("10Mbit-20ms", 10, 20, 1_000_000),
    Link::new("10Mbit-20ms-loss1%", 10, 20, 1_000_000).loss(0.01, 0.9),
    Link::new("16Mbit-20ms", 16, 20, 4_000_000),
    Link::new("100Mbit-10ms", 100, 10, 2_500_000),
    Link::new("1Gbit-2ms", 1000, 2, 2_000_000),
    Link::new("1Gbit-40ms", 1000, 40, 5_000_000),
    Link::new("1Gbit-40ms-loss0.1%", 1000, 40, 5_000_000).loss(0.001, 0.75),
    Link::new("100Mbit-10ms-drops", 100, 10, 2_500_000).drops(),
];
