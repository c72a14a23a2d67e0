//! The daemon's gossip on its way out and in, with the probes that measure it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use atomr_cluster::{GossipPdu, GossipTransport, Member, MemberStatus, VectorClock};
use atomr_core::actor::Address as AtomrAddress;
use cluster_quic::{Address, ClusterTransport, Gossip, PeerState};
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, UnboundedSender};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::probes::{Asker, Probes, is_announcement};

/// One member after the other is probed, so that it costs the same in a large cluster.
const EVERY: Duration = Duration::from_millis(100);

/// How soon a goodbye is said again.
const AGAIN: Duration = Duration::from_millis(200);

/// The transport that the daemon gossips over: takes note of its questions, and puts probes behind them.
pub(crate) struct Gossiping {
    transport: ClusterTransport,
    peers: Mutex<Peers>,
    /// Somebody has heard the goodbye.
    heard: Notify,
}

/// What is asked of the other members, and at the end, who of them knows that this node leaves.
#[derive(Default)]
struct Peers {
    probes: HashMap<Address, Probes>,
    /// The daemon is not to be heard any more.
    silent: bool,
    knowing: HashSet<Address>,
}

impl Peers {
    fn silence(&mut self) {
        self.silent = true;
    }

    fn knows(&self, peer: &Address) -> bool {
        self.knowing.contains(peer)
    }
}

impl GossipTransport for Gossiping {
    fn send(&self, target: &AtomrAddress, pdu: GossipPdu) {
        let Ok(to) = Address::try_from(target) else {
            return GossipTransport::send(&self.transport, target, pdu);
        };
        let mut peers = self.peers();
        if peers.silent {
            return;
        }
        let now = Instant::now();
        let probes = self.probes(&mut peers, &to, now);
        match &pdu {
            GossipPdu::Status { version, .. } => probes.status(version.clone()),
            GossipPdu::Merge { .. } => probes.merge(Asker::Daemon, now),
            _ => {}
        }
        let is_status = matches!(pdu, GossipPdu::Status { .. });
        // Under the lock, so that the lane has the same order.
        GossipTransport::send(&self.transport, target, pdu);
        if is_status {
            self.probe_with(probes, &to, now);
        }
    }
}

impl Gossiping {
    pub(crate) fn new(transport: ClusterTransport) -> Arc<Self> {
        Arc::new(Self { transport, peers: Mutex::default(), heard: Notify::new() })
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn probes<'a>(&self, peers: &'a mut Peers, peer: &Address, now: Instant) -> &'a mut Probes {
        let probes = peers.probes.entry(peer.clone()).or_default();
        let stats = self.transport.peer_stats(peer);
        let life = stats.map(|peer| (peer.associations, peer.gossip.dropped));
        let (associations, dropped) = life.unwrap_or_default();
        probes.note(associations, dropped, now);
        probes
    }

    /// Asks a peer's daemon for its envelope, if the peer is connected.
    fn probe(&self, to: &Address) {
        let (mut peers, now) = (self.peers(), Instant::now());
        let probes = self.probes(&mut peers, to, now);
        self.probe_with(probes, to, now);
    }

    fn probe_with(&self, probes: &mut Probes, to: &Address, now: Instant) {
        if !self.is_connected(to) || !probes.may_probe() {
            return;
        }
        let from = self.transport.address().to_string();
        let merge = GossipPdu::Merge { from, version: VectorClock::new() };
        if self.transport.send_gossip(to, &merge).is_ok() {
            probes.merge(Asker::Probe, now);
        }
    }

    /// Takes what comes in: answers to probes to `delays`, all else to the daemon. Ends with the
    /// transport.
    pub(crate) async fn receive(
        self: Arc<Self>,
        mut inbox: Receiver<Gossip<GossipPdu>>,
        daemon: UnboundedSender<GossipPdu>,
        delays: UnboundedSender<Duration>,
    ) {
        while let Some(Gossip { from, message, .. }) = inbox.recv().await {
            let now = Instant::now();
            let answer = {
                let mut peers = self.peers();
                if peers.silent {
                    if !calls_up(&message, self.transport.address()) {
                        peers.knowing.insert(from);
                        self.heard.notify_one();
                    }
                    continue;
                }
                let probes = self.probes(&mut peers, &from, now);
                match &message {
                    // For the daemon, whatever is asked.
                    announcement if is_announcement(announcement) => None,
                    GossipPdu::Envelope { version, .. } => probes.envelope(version, now),
                    GossipPdu::Merge { .. } => {
                        probes.asked_back();
                        None
                    }
                    _ => None,
                }
            };
            if let Some(answer) = answer {
                let _ = delays.send(answer.delay);
                // The daemon has not asked for it: ten states a second more than it knows of would bring
                // downed members back all the more often.
                if answer.asked_by == Asker::Probe {
                    continue;
                }
            }
            if daemon.send(message).is_err() {
                return;
            }
        }
    }

    /// Probes the members, one every tenth of a second, for ever.
    pub(crate) async fn probe_members(self: Arc<Self>, members: impl Fn() -> Vec<Address>) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for turn in 0_usize.. {
            tick.tick().await;
            let members = members();
            self.peers().probes.retain(|peer, _| members.contains(peer));
            if !members.is_empty() {
                self.probe(&members[turn % members.len()]);
            }
        }
    }

    /// The daemon's last word: silences it, and sends `goodbye` to every one of `members` that is
    /// connected, until its daemon's own state shows that it has heard; at most `limit`.
    pub(crate) async fn last_word(
        &self,
        members: &[Address],
        goodbye: &GossipPdu,
        limit: Duration,
    ) {
        self.peers().silence();
        let begin = Instant::now();
        while begin.elapsed() < limit {
            let waiting =
                members.iter().filter(|to| self.is_connected(to) && !self.peers().knows(to));
            let waiting: Vec<_> = waiting.collect();
            if waiting.is_empty() {
                return;
            }
            for to in waiting {
                let from = self.transport.address().to_string();
                let merge = GossipPdu::Merge { from, version: VectorClock::new() };
                // It fails only while the node shuts down.
                let _ = self.transport.send_gossip(to, goodbye);
                let _ = self.transport.send_gossip(to, &merge);
            }
            // Again before long, should it be lost with a connection.
            let round = timeout(AGAIN, self.heard.notified());
            let _ = round.await;
        }
    }

    fn is_connected(&self, to: &Address) -> bool {
        self.transport.peer_stats(to).is_some_and(|peer| peer.state == PeerState::Connected)
    }

    /// For how long the oldest probe waits for its answer.
    pub(crate) fn waiting(&self) -> Option<Duration> {
        let oldest = self.peers().probes.values().filter_map(Probes::oldest).min();
        oldest.map(|at| at.elapsed())
    }
}

/// Whether it says that `own` is a member, or says nothing of members.
fn calls_up(message: &GossipPdu, own: &Address) -> bool {
    let GossipPdu::Envelope { state, .. } = message else { return true };
    let own = AtomrAddress::from(own);
    let is_own = |member: &&Member| member.address == own;
    let entry = state.members.iter().find(is_own);
    entry
        .is_some_and(|entry| !matches!(entry.status, MemberStatus::Exiting | MemberStatus::Removed))
}
