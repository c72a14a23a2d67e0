//! One life of a node: its transport, what it was given to send, and what it has received.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cluster_quic::{
    Address, AssociationError, ClusterTransport, Event, Events, Lane, LaneStats, LostReason, Peer,
    PeerStats, SendError, ShutdownReport, bench_support, gossip_inbox,
};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::heard::{Ears, Letters, Talk};
use crate::sink::{Record, Sink, TARGETS, target_path, tell};

pub(crate) struct Life {
    pub(crate) number: usize,
    pub(crate) incarnation: u64,
    transport: Option<ClusterTransport>,
    pub(crate) sink: Arc<Sink>,
    peers: Vec<Option<Peer>>,
    pub(crate) sent: Vec<Sent>,
    events: Events,
    /// What the events have told: per peer, lane and reason the frames and bytes lost.
    pub(crate) losses: BTreeMap<(usize, Lane, &'static str), (u64, u64)>,
    /// When associations ended, and why.
    pub(crate) downs: Vec<(Instant, usize, AssociationError)>,
    pub(crate) ups: Vec<(Instant, usize)>,
    /// Dials that failed, and when the next follows.
    pub(crate) failures: Vec<(Instant, usize, AssociationError, Duration)>,
    pub(crate) refusals: Vec<AssociationError>,
    missed: u64,
    pub(crate) ears: Arc<Ears>,
    pub(crate) letters: Arc<Letters>,
    gossiped: u64,
    /// The world's.
    begin: Instant,
    addresses: Vec<Address>,
    drain: Option<JoinHandle<ShutdownReport>>,
    pub(crate) report: Option<ShutdownReport>,
    /// How the ledger stood when the life ended.
    pub(crate) last: Option<Vec<Option<PeerStats>>>,
}

/// What one life was given to send to one node.
#[derive(Default)]
pub(crate) struct Sent {
    /// Tells of an earlier part of the run, all of them settled: they have the first numbers.
    pub(crate) settled: u64,
    /// How many of these have arrived, per lane.
    pub(crate) arrived: Vec<u64>,
    /// Per later tell, by its number: the lane, and the place in it.
    pub(crate) places: Vec<(u8, u64)>,
    /// Tells so far, per lane.
    pub(crate) lanes: Vec<u64>,
    /// (incarnation of the receiver, per lane how many were sent when it began): it gets none of these.
    pub(crate) floors: Vec<(u64, Vec<u64>)>,
    /// Per lane the acknowledged ones at the last check.
    pub(crate) acknowledged: Vec<u64>,
    /// Tells that were refused since the lane was full.
    pub(crate) refused: u64,
}

impl Life {
    pub(crate) fn start(
        number: usize,
        transport: ClusterTransport,
        addresses: &[Address],
        begin: Instant,
    ) -> Self {
        let sink = Arc::new(Sink::default());
        let (inbox, gossip) = gossip_inbox(64);
        let events = transport.events();
        transport.start(inbox, Arc::clone(&sink)).unwrap();
        let (ears, letters) = (Arc::<Ears>::default(), Arc::<Letters>::default());
        let listening = Arc::clone(&ears);
        tokio::spawn(async move { listening.listen(gossip, begin).await });
        let returned = Arc::clone(&letters);
        transport.dead_letters(move |letter| returned.take(letter)).unwrap();
        let peer = |(n, address)| (n != number).then(|| transport.peer(address).unwrap());
        let peers: Vec<_> = addresses.iter().enumerate().map(peer).collect();
        Self {
            number,
            incarnation: transport.incarnation().0,
            sink,
            sent: peers.iter().map(|_| Sent::default()).collect(),
            peers,
            transport: Some(transport),
            events,
            losses: BTreeMap::new(),
            downs: Vec::new(),
            ups: Vec::new(),
            failures: Vec::new(),
            refusals: Vec::new(),
            missed: 0,
            ears,
            letters,
            gossiped: 0,
            begin,
            addresses: addresses.to_vec(),
            drain: None,
            report: None,
            last: None,
        }
    }

    pub(crate) fn peer(&self, n: usize) -> &Peer {
        self.peers[n].as_ref().expect("no node is its own peer")
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = (usize, &Peer)> {
        self.peers.iter().enumerate().filter_map(|(n, peer)| Some((n, peer.as_ref()?)))
    }

    pub(crate) fn transport(&self) -> &ClusterTransport {
        self.transport.as_ref().expect("the node lives")
    }

    /// The figures now, or when the life ended.
    pub(crate) fn stats(&self, to: usize) -> PeerStats {
        match &self.last {
            Some(last) => last[to].clone().expect("no node is its own peer"),
            None => self.peer(to).stats(),
        }
    }

    /// Another life of node `to` begins: what was sent until now is not for it.
    pub(crate) fn note_restart(&mut self, to: usize, incarnation: u64) {
        let sent = |(_, lane): &(Lane, LaneStats)| lane.accepted_frames - lane.queued_frames;
        let floor = self.stats(to).lanes.iter().map(sent).collect();
        self.sent[to].floors.push((incarnation, floor));
    }

    pub(crate) fn tell(&mut self, to: usize, count: u64, size: usize) -> u64 {
        let Some(peer) = &self.peers[to] else { return 0 };
        let lanes = peer.stats().lanes.len();
        let sent = &mut self.sent[to];
        sent.lanes.resize(lanes, 0);
        for n in 0..count {
            let number = sent.settled + sent.places.len() as u64;
            let target = number % TARGETS;
            let record =
                Record { from: self.number as u64, incarnation: self.incarnation, target, number };
            match peer.tell(tell(record, size)) {
                Ok(()) => {}
                Err(SendError::Full { .. }) => {
                    sent.refused += 1;
                    return n;
                }
                Err(SendError::ShuttingDown(_) | SendError::Quarantined(_)) => return n,
                Err(other) => panic!("{other}"),
            }
            let lane = bench_support::lane_of(&target_path(target), lanes as u8);
            let place = &mut sent.lanes[usize::from(lane)];
            sent.places.push((lane, *place));
            *place += 1;
        }
        count
    }

    /// Returns its number.
    pub(crate) fn gossip(&mut self, to: usize) -> u64 {
        let Some(peer) = &self.peers[to] else { return 0 };
        self.gossiped += 1;
        let (incarnation, number) = (self.incarnation, self.gossiped);
        match peer.send_gossip(&Talk { incarnation, number, sent: self.begin.elapsed() }) {
            Ok(()) | Err(SendError::ShuttingDown(())) => number,
            Err(other) => panic!("{other}"),
        }
    }

    /// Begins another part of the run.
    pub(crate) fn settle(&mut self, to: usize, arrived: Vec<u64>) {
        let sent = &mut self.sent[to];
        sent.settled += sent.places.len() as u64;
        sent.arrived = arrived;
        sent.places.clear();
        self.downs.clear();
        self.ups.clear();
        self.failures.clear();
    }

    /// Takes what the events tell.
    pub(crate) fn hear(&mut self) {
        let now = Instant::now();
        while let Some(event) = next(&mut self.events) {
            let number = |of: &Address| self.addresses.iter().position(|known| known == of);
            match event {
                Event::TellsLost { peer, lane, frames, bytes, reason } => {
                    let key = (number(&peer).unwrap_or(usize::MAX), lane, name(reason));
                    let lost = self.losses.entry(key).or_default();
                    *lost = (lost.0 + frames, lost.1 + bytes);
                }
                Event::PeerDown { peer, reason } => {
                    self.downs.push((now, number(&peer).unwrap_or(usize::MAX), reason));
                }
                Event::PeerUp { peer, .. } => {
                    self.ups.push((now, number(&peer).unwrap_or(usize::MAX)));
                }
                Event::DialFailed { peer, error, retry_in } => {
                    let peer = number(&peer).unwrap_or(usize::MAX);
                    self.failures.push((now, peer, error, retry_in));
                }
                Event::IncomingRefused { error, .. } => self.refusals.push(error),
                Event::Missed { events } => self.missed += events,
                Event::FrameRefused { error, .. } => panic!("a good frame was refused: {error}"),
                _ => {}
            }
        }
    }

    /// Whether events were missed, so that their sums say less than the statistics.
    pub(crate) fn missed_events(&self) -> bool {
        self.missed > 0
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.peers().any(|(_, peer)| {
            let stats = peer.stats();
            stats.tells().pending_frames() > 0 || stats.tells_received().waiting_frames > 0
        })
    }

    pub(crate) fn drain(&mut self, deadline: Duration) {
        let transport = self.transport().clone();
        self.drain
            .get_or_insert_with(|| tokio::spawn(async move { transport.shutdown(deadline).await }));
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    pub(crate) async fn drained(&mut self) {
        if let Some(drain) = self.drain.take() {
            self.report = Some(drain.await.expect("a shutdown does not panic"));
        }
    }

    /// The life is over: how the ledger stands stays.
    pub(crate) fn end(&mut self) {
        self.hear();
        self.sink.kill();
        let stats = self.peers.iter().map(|peer| Some(peer.as_ref()?.stats()));
        self.last = Some(stats.collect());
        if let Some(drain) = self.drain.take() {
            // Killed in the middle of it.
            drain.abort();
        }
        self.transport = None;
        self.peers.clear();
    }
}

pub(crate) fn name(reason: LostReason) -> &'static str {
    match reason {
        LostReason::Expired => "expired",
        LostReason::PeerRestarted => "peer restarted",
        LostReason::ShutDown => "shut down",
        LostReason::Quarantined => "quarantined",
        _ => "another reason",
    }
}

/// The next event, if one is there.
fn next(events: &mut Events) -> Option<Event> {
    let next = pin!(events.recv());
    match next.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(event) => event,
        Poll::Pending => None,
    }
}
