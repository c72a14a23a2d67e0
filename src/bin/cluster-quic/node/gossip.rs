//! The daemon's gossip on its way out and in, with the probes that measure it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use atomr_cluster::{GossipPdu, GossipTransport, VectorClock};
use atomr_core::actor::Address as AtomrAddress;
use cluster_quic::{Address, ClusterTransport, Gossip, PeerState};
use tokio::sync::mpsc::{Receiver, UnboundedSender};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::probes::{Asker, Probes};

/// One member after the other is probed, so that it costs the same in a large cluster.
const EVERY: Duration = Duration::from_millis(100);

/// The transport that the daemon gossips over: takes note of its questions, and puts probes behind them.
pub(crate) struct Gossiping {
    transport: ClusterTransport,
    peers: Mutex<HashMap<Address, Probes>>,
    /// The daemon is not to be heard any more. Changed under the lock of `peers`.
    silent: AtomicBool,
}

impl GossipTransport for Gossiping {
    fn send(&self, target: &AtomrAddress, pdu: GossipPdu) {
        let Ok(to) = Address::try_from(target) else {
            return GossipTransport::send(&self.transport, target, pdu);
        };
        let mut peers = self.peers();
        if self.silent.load(Relaxed) {
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
        Arc::new(Self { transport, peers: Mutex::default(), silent: AtomicBool::new(false) })
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<Address, Probes>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn probes<'a>(
        &self,
        peers: &'a mut HashMap<Address, Probes>,
        peer: &Address,
        now: Instant,
    ) -> &'a mut Probes {
        let probes = peers.entry(peer.clone()).or_default();
        let stats = self.transport.peer_stats(peer);
        let life = stats.map(|peer| (peer.associations, peer.gossip.dropped));
        let (associations, dropped) = life.unwrap_or_default();
        probes.note(associations, dropped, now);
        probes
    }

    /// Asks a peer's daemon for its envelope, if the peer is connected; whether it was asked.
    fn probe(&self, to: &Address) -> bool {
        let (mut peers, now) = (self.peers(), Instant::now());
        let probes = self.probes(&mut peers, to, now);
        self.probe_with(probes, to, now)
    }

    fn probe_with(&self, probes: &mut Probes, to: &Address, now: Instant) -> bool {
        let stats = self.transport.peer_stats(to);
        if stats.is_none_or(|peer| peer.state != PeerState::Connected) || !probes.may_probe() {
            return false;
        }
        let from = self.transport.address().to_string();
        let merge = GossipPdu::Merge { from, version: VectorClock::new() };
        let sent = self.transport.send_gossip(to, &merge).is_ok();
        if sent {
            probes.merge(Asker::Probe, now);
        }
        sent
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
                let probes = self.probes(&mut peers, &from, now);
                match &message {
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
            self.peers().retain(|peer, _| members.contains(peer));
            if !members.is_empty() {
                self.probe(&members[turn % members.len()]);
            }
        }
    }

    /// The daemon's last word: silences it, sends `pdu` to every one of `members` that is connected, and
    /// waits until their daemons have handled it, as an answer to the question behind it shows; at most
    /// `limit`, and so long where there can be no question.
    pub(crate) async fn last_word(&self, members: &[Address], pdu: &GossipPdu, limit: Duration) {
        {
            let _order = self.peers();
            self.silent.store(true, Relaxed);
        }
        let begin = Instant::now();
        let mut all_asked = true;
        for to in members {
            let connected = |peer: cluster_quic::PeerStats| peer.state == PeerState::Connected;
            if self.transport.peer_stats(to).is_some_and(connected)
                && self.transport.send_gossip(to, pdu).is_ok()
            {
                all_asked &= self.probe(to);
            }
        }
        let open = || {
            let peers = self.peers();
            members.iter().filter_map(|to| peers.get(to)?.newest()).any(|at| at >= begin)
        };
        while begin.elapsed() < limit && (!all_asked || open()) {
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// For how long the oldest probe waits for its answer.
    pub(crate) fn waiting(&self) -> Option<Duration> {
        let oldest = self.peers().values().filter_map(Probes::oldest).min();
        oldest.map(|at| at.elapsed())
    }
}
