//! What is shown of a node: made from samples and events, with the time passed in. No drawing, no IO.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use super::counter::Counted;
use super::journal::Journal;
use super::sample::{LaneSample, Link, PeerSample, Sample, Status};
use crate::figures::Percentiles;
use crate::words::Level;

/// Over how long rates are taken.
const RATES_OVER: Duration = Duration::from_secs(2);

/// Over how long gossip's percentiles are taken.
const GOSSIP_OVER: Duration = Duration::from_secs(60);

/// A column of the sparkline: the worst within it.
pub(crate) const COLUMN: Duration = Duration::from_millis(500);

/// Columns that are kept; wider terminals than that show no more.
const COLUMNS: usize = 400;

/// Everything that is shown.
#[derive(Debug)]
pub(crate) struct Model {
    /// The node's own address, in full and without the scheme.
    pub(crate) address: String,
    pub(crate) name: String,
    pub(crate) incarnation: String,
    begin: Instant,
    pub(crate) age: Duration,
    pub(crate) nodes: Vec<Node>,
    pub(crate) leader: Option<String>,
    /// By number, since the beginning, over all peers.
    lanes: Vec<LaneSample>,
    peers: HashMap<String, Vec<LaneSample>>,
    moments: VecDeque<(Instant, Vec<LaneSample>)>,
    pub(crate) load: Counted,
    pub(crate) others: Counted,
    pub(crate) gossip: Gossip,
    pub(crate) journal: Journal,
    /// Why the node is ending, once it is.
    pub(crate) ending: Option<String>,
}

/// A member, a peer, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) own: bool,
    pub(crate) leader: bool,
    /// `None` for a peer that is no member.
    pub(crate) status: Option<Status>,
    pub(crate) peer: Option<PeerSample>,
}

/// A lane over all peers: what stands, and what flows per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct LaneRow {
    pub(crate) queued_bytes: u64,
    pub(crate) in_flight_bytes: u64,
    pub(crate) out_tells: u64,
    pub(crate) out_bytes: u64,
    pub(crate) in_tells: u64,
    pub(crate) in_bytes: u64,
    /// Since the beginning.
    pub(crate) lost: u64,
}

impl Model {
    pub(crate) fn new(address: String, name: String, incarnation: String, now: Instant) -> Self {
        Self {
            address,
            name,
            incarnation,
            begin: now,
            age: Duration::ZERO,
            nodes: Vec::new(),
            leader: None,
            lanes: Vec::new(),
            peers: HashMap::new(),
            moments: VecDeque::new(),
            load: Counted::default(),
            others: Counted::default(),
            gossip: Gossip::new(now),
            journal: Journal::default(),
            ending: None,
        }
    }

    /// Takes in the figures of this moment.
    pub(crate) fn observe(&mut self, sample: Sample, now: Instant, clock: SystemTime) {
        self.age = now.saturating_duration_since(self.begin);
        self.count(&sample.peers, now);
        self.gossip.waits = sample.gossip_waits;
        self.gossip.turn(now);
        (self.load, self.others) = (sample.load, sample.others);
        self.note_changes(&sample, clock);
        self.leader.clone_from(&sample.leader);
        self.nodes = nodes(sample, &self.name);
    }

    /// Members' changes: a daemon publishes only those that it makes itself.
    fn note_changes(&mut self, sample: &Sample, clock: SystemTime) {
        for (name, status) in &sample.members {
            let before = self.nodes.iter().find(|node| node.name == *name).and_then(|n| n.status);
            if before != Some(*status) {
                let level = match status {
                    Status::Up => Level::Good,
                    Status::Down => Level::Bad,
                    _ => Level::Plain,
                };
                self.journal.add(clock, level, format!("{name} is {}", status.name()));
            }
        }
        for node in self.nodes.iter().filter(|node| node.status.is_some()) {
            if !sample.members.iter().any(|(name, _)| *name == node.name) {
                self.journal.add(
                    clock,
                    Level::Plain,
                    format!("{} is no member any more", node.name),
                );
            }
        }
        if let Some(leader) = &sample.leader
            && self.leader.as_ref() != Some(leader)
        {
            self.journal.add(clock, Level::Plain, format!("{leader} is the leader"));
        }
    }

    /// Sums the peers up. One that is forgotten, or counts anew, takes nothing away.
    fn count(&mut self, peers: &[PeerSample], now: Instant) {
        let mut known = HashMap::with_capacity(peers.len());
        for lane in &mut self.lanes {
            (lane.queued_bytes, lane.in_flight_bytes) = (0, 0);
        }
        for peer in peers {
            let before = self.peers.remove(&peer.address).unwrap_or_default();
            if self.lanes.len() < peer.lanes.len() {
                self.lanes.resize(peer.lanes.len(), LaneSample::default());
            }
            for (place, lane) in peer.lanes.iter().enumerate() {
                let before = before.get(place).copied().unwrap_or_default();
                self.lanes[place].add(&lane.since(&before));
            }
            known.insert(peer.address.clone(), peer.lanes.clone());
        }
        self.peers = known;
        self.moments.push_back((now, self.lanes.clone()));
        // One that is older stays, so that there always is a time to divide by.
        while self.moments.get(1).is_some_and(|(at, _)| now - *at >= RATES_OVER) {
            self.moments.pop_front();
        }
    }

    /// A row for each lane, by number.
    pub(crate) fn lanes(&self) -> Vec<LaneRow> {
        let Some((now, _)) = self.moments.back() else { return Vec::new() };
        let Some((then, before)) = self.moments.front() else { return Vec::new() };
        let seconds = (*now - *then).as_secs_f64();
        let rate = |number: u64| if seconds > 0.0 { (number as f64 / seconds) as u64 } else { 0 };
        let row = |(place, lane): (usize, &LaneSample)| {
            let since = lane.since(&before.get(place).copied().unwrap_or_default());
            LaneRow {
                queued_bytes: lane.queued_bytes,
                in_flight_bytes: lane.in_flight_bytes,
                out_tells: rate(since.out_tells),
                out_bytes: rate(since.out_bytes),
                in_tells: rate(since.in_tells),
                in_bytes: rate(since.in_bytes),
                lost: lane.lost,
            }
        };
        self.lanes.iter().enumerate().map(row).collect()
    }

    /// All lanes together.
    pub(crate) fn all_lanes(&self) -> LaneRow {
        self.lanes().iter().fold(LaneRow::default(), |sum, lane| LaneRow {
            queued_bytes: sum.queued_bytes + lane.queued_bytes,
            in_flight_bytes: sum.in_flight_bytes + lane.in_flight_bytes,
            out_tells: sum.out_tells + lane.out_tells,
            out_bytes: sum.out_bytes + lane.out_bytes,
            in_tells: sum.in_tells + lane.in_tells,
            in_bytes: sum.in_bytes + lane.in_bytes,
            lost: sum.lost + lane.lost,
        })
    }

    /// Members, and how many of them are Up.
    pub(crate) fn members(&self) -> (usize, usize) {
        let members = self.nodes.iter().filter_map(|node| node.status);
        (members.clone().count(), members.filter(|status| *status == Status::Up).count())
    }

    /// Peers that are connected.
    pub(crate) fn connected(&self) -> usize {
        let peers = self.nodes.iter().filter_map(|node| node.peer.as_ref());
        peers.filter(|peer| peer.link == Link::Connected).count()
    }
}

/// Members in order of their names, then peers that are none, while something is going on with them.
fn nodes(sample: Sample, own: &str) -> Vec<Node> {
    let Sample { members, leader, mut peers, .. } = sample;
    let mut nodes = Vec::with_capacity(members.len());
    for (name, status) in members {
        let peer = peers.iter().position(|peer| peer.address == name);
        nodes.push(Node {
            own: name == own,
            leader: leader.as_ref() == Some(&name),
            status: Some(status),
            peer: peer.map(|place| peers.remove(place)),
            name,
        });
    }
    let present = peers.into_iter().filter(|peer| peer.link != Link::Idle);
    nodes.extend(present.map(|peer| Node {
        name: peer.address.clone(),
        own: false,
        leader: false,
        status: None,
        peer: Some(peer),
    }));
    nodes
}

/// How long gossip takes, there and back.
#[derive(Debug)]
pub(crate) struct Gossip {
    recent: VecDeque<(Instant, Duration)>,
    /// The worst of each column, the oldest first; `None` where nothing was answered.
    pub(crate) columns: VecDeque<Option<Duration>>,
    column_ends: Instant,
    /// For how long the oldest question waits.
    pub(crate) waits: Option<Duration>,
}

impl Gossip {
    fn new(now: Instant) -> Self {
        Self {
            recent: VecDeque::new(),
            columns: VecDeque::from([None]),
            column_ends: now + COLUMN,
            waits: None,
        }
    }

    /// An answer came.
    pub(crate) fn add(&mut self, delay: Duration, now: Instant) {
        self.turn(now);
        self.recent.push_back((now, delay));
        if let Some(column) = self.columns.back_mut() {
            *column = (*column).max(Some(delay));
        }
    }

    /// Lets time pass.
    fn turn(&mut self, now: Instant) {
        while self.recent.front().is_some_and(|(at, _)| now - *at > GOSSIP_OVER) {
            self.recent.pop_front();
        }
        // After a long pause (a suspended machine) no more than all of them.
        for _ in 0..COLUMNS {
            if now < self.column_ends {
                return;
            }
            self.column_ends += COLUMN;
            self.columns.push_back(None);
            if self.columns.len() > COLUMNS {
                self.columns.pop_front();
            }
        }
        self.column_ends = now + COLUMN;
    }

    /// The last answer.
    pub(crate) fn latest(&self) -> Option<Duration> {
        self.recent.back().map(|(_, delay)| *delay)
    }

    /// Over the last minute.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        Percentiles::of(self.recent.iter().map(|(_, delay)| *delay))
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
