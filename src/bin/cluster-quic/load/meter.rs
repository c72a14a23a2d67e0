//! Measures gossip: asks the node's daemon for its envelope, over and over.

use std::time::{Duration, Instant};

use atomr_cluster::{GossipPdu, VectorClock};
use cluster_quic::{Gossip, Peer};

use crate::figures::Percentiles;
use crate::probes::{Asker, Probes};

/// Round trips on the gossip lane, through the node's daemon.
pub(crate) struct Meter {
    peer: Peer,
    own: String,
    probes: Probes,
    load_began: Option<Instant>,
    idle: Delays,
    load: Delays,
}

#[derive(Debug, Default)]
struct Delays {
    sent: u64,
    /// When asked, and how long it took.
    answers: Vec<Duration>,
}

/// What was found in a phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) sent: u64,
    pub(crate) of: Option<Percentiles>,
}

impl Meter {
    pub(crate) fn new(peer: Peer, own: String) -> Self {
        Self {
            peer,
            own,
            probes: Probes::default(),
            load_began: None,
            idle: Delays::default(),
            load: Delays::default(),
        }
    }

    /// What is asked from now on is asked under load.
    pub(crate) fn load_begins(&mut self, now: Instant) {
        self.load_began = Some(now);
    }

    fn note(&mut self, now: Instant) {
        let stats = self.peer.stats();
        self.probes.note(stats.associations, stats.gossip.dropped, now);
    }

    /// Asks, unless earlier questions may still be answered out of turn.
    pub(crate) fn probe(&mut self) {
        let now = Instant::now();
        self.note(now);
        let connected = self.peer.stats().state == cluster_quic::PeerState::Connected;
        if !connected || !self.probes.may_probe() {
            return;
        }
        let merge = GossipPdu::Merge { from: self.own.clone(), version: VectorClock::new() };
        if self.peer.send_gossip(&merge).is_ok() {
            self.probes.merge(Asker::Probe, now);
            if self.load_began.is_some() { self.load.sent += 1 } else { self.idle.sent += 1 }
        }
    }

    /// Takes what came.
    pub(crate) fn heard(&mut self, gossip: Gossip<GossipPdu>) {
        let GossipPdu::Envelope { version, .. } = gossip.message else { return };
        let now = Instant::now();
        self.note(now);
        let Some(answer) = self.probes.envelope(&version, now) else { return };
        let under_load = self.load_began.is_some_and(|begin| now - answer.delay >= begin);
        let delays = if under_load { &mut self.load } else { &mut self.idle };
        delays.answers.push(answer.delay);
    }

    /// Whether an answer is still to come.
    pub(crate) fn is_waiting(&self) -> bool {
        self.probes.oldest().is_some()
    }

    /// For how long the oldest question waits.
    pub(crate) fn waits(&self) -> Option<Duration> {
        self.probes.oldest().map(|at| at.elapsed())
    }

    /// Of the present phase, its last answer.
    pub(crate) fn latest(&self) -> Option<Duration> {
        let delays = if self.load_began.is_some() { &self.load } else { &self.idle };
        delays.answers.last().copied()
    }

    /// Idle, and under load.
    pub(crate) fn figures(&self) -> [Figures; 2] {
        [&self.idle, &self.load].map(|delays| Figures {
            sent: delays.sent,
            of: Percentiles::of(delays.answers.iter().copied()),
        })
    }
}
