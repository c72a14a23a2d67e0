//! A node's figures at one moment, in a form of the tool's own, and where they come from.

use std::time::Duration;

use atomr_cluster::{DaemonSnapshot, MemberStatus};
use cluster_quic::{Address, Lane, LaneStats, PeerState, PeerStats, ReceivedStats};

use super::counter::Counted;

/// All that is read of a node at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) members: Vec<(String, Status)>,
    pub(crate) leader: Option<String>,
    pub(crate) peers: Vec<PeerSample>,
    /// Tells received for `/user/load`, and for other targets.
    pub(crate) load: Counted,
    pub(crate) others: Counted,
    /// For how long the oldest gossip probe waits for its answer.
    pub(crate) gossip_waits: Option<Duration>,
}

/// A member's status; atomr's own has no order and no default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Joining,
    Up,
    Leaving,
    Exiting,
    Down,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Joining => "Joining",
            Self::Up => "Up",
            Self::Leaving => "Leaving",
            Self::Exiting => "Exiting",
            Self::Down => "Down",
        }
    }
}

impl From<MemberStatus> for Status {
    fn from(status: MemberStatus) -> Self {
        match status {
            MemberStatus::Joining => Self::Joining,
            MemberStatus::WeaklyUp | MemberStatus::Up => Self::Up,
            MemberStatus::Leaving => Self::Leaving,
            MemberStatus::Exiting => Self::Exiting,
            MemberStatus::Down | MemberStatus::Removed => Self::Down,
        }
    }
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerSample {
    pub(crate) address: String,
    pub(crate) link: Link,
    pub(crate) incarnation: Option<String>,
    pub(crate) figures: Option<LinkFigures>,
    /// Tells sent that its sink has not handled yet.
    pub(crate) in_flight_bytes: u64,
    pub(crate) lanes: Vec<LaneSample>,
}

/// How the association stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Connected,
    /// For how long it has been tried.
    Connecting(Duration),
    Idle,
    Quarantined,
}

/// A connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkFigures {
    pub(crate) rtt: Duration,
    pub(crate) cwnd: u64,
    pub(crate) mtu: u16,
}

/// A lane, both ways; counted from the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LaneSample {
    pub(crate) queued_bytes: u64,
    pub(crate) in_flight_bytes: u64,
    pub(crate) out_tells: u64,
    pub(crate) out_bytes: u64,
    pub(crate) in_tells: u64,
    pub(crate) in_bytes: u64,
    pub(crate) lost: u64,
}

impl LaneSample {
    pub(crate) fn add(&mut self, other: &Self) {
        self.queued_bytes += other.queued_bytes;
        self.in_flight_bytes += other.in_flight_bytes;
        self.out_tells += other.out_tells;
        self.out_bytes += other.out_bytes;
        self.in_tells += other.in_tells;
        self.in_bytes += other.in_bytes;
        self.lost += other.lost;
    }

    /// What has been counted since `before`, and what stands now.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            queued_bytes: self.queued_bytes,
            in_flight_bytes: self.in_flight_bytes,
            out_tells: self.out_tells.saturating_sub(before.out_tells),
            out_bytes: self.out_bytes.saturating_sub(before.out_bytes),
            in_tells: self.in_tells.saturating_sub(before.in_tells),
            in_bytes: self.in_bytes.saturating_sub(before.in_bytes),
            lost: self.lost.saturating_sub(before.lost),
        }
    }
}

impl Sample {
    /// From what the transport and the daemon say.
    pub(crate) fn new(peers: &[PeerStats], daemon: &DaemonSnapshot) -> Self {
        let short = |address: String| match address.split_once("://") {
            Some((_, rest)) => rest.to_owned(),
            None => address,
        };
        let mut members: Vec<_> = daemon.state.members.iter().collect();
        members.sort_by_key(|member| member.address.to_string());
        let members = members.iter().map(|m| (short(m.address.to_string()), m.status.into()));
        let mut peers: Vec<_> = peers.iter().map(PeerSample::from).collect();
        peers.sort_by(|a, b| a.address.cmp(&b.address));
        Self {
            members: members.collect(),
            leader: daemon.leader.as_ref().map(|leader| short(leader.to_string())),
            peers,
            ..Self::default()
        }
    }
}

impl From<&PeerStats> for PeerSample {
    fn from(peer: &PeerStats) -> Self {
        let quarantined = peer.quarantined.is_some() && peer.quarantined == peer.incarnation;
        let link = match peer.state {
            _ if quarantined => Link::Quarantined,
            PeerState::Connected => Link::Connected,
            PeerState::Connecting => Link::Connecting(peer.unreachable_for.unwrap_or_default()),
            _ => Link::Idle,
        };
        let figures = |link: cluster_quic::LinkStats| LinkFigures {
            rtt: link.rtt,
            cwnd: link.congestion_window,
            mtu: link.mtu,
        };
        Self {
            address: short_of(&peer.address),
            link,
            incarnation: peer.incarnation.map(|incarnation| incarnation.to_string()),
            figures: peer.link.map(figures),
            in_flight_bytes: peer.tells().in_flight_bytes,
            lanes: lanes(&peer.lanes, &peer.received),
        }
    }
}

fn short_of(address: &Address) -> String {
    crate::words::short(address)
}

/// By number; a peer may send in more lanes than it is sent in.
fn lanes(out: &[(Lane, LaneStats)], received: &[(Lane, ReceivedStats)]) -> Vec<LaneSample> {
    let mut lanes = Vec::new();
    let mut at = |lane: &Lane| -> Option<usize> {
        let Lane::Tell(number) = *lane else { return None };
        let place = usize::from(number);
        lanes.resize(lanes.len().max(place + 1), LaneSample::default());
        Some(place)
    };
    let out: Vec<_> = out.iter().filter_map(|(lane, stats)| Some((at(lane)?, stats))).collect();
    let received: Vec<_> =
        received.iter().filter_map(|(lane, stats)| Some((at(lane)?, stats))).collect();
    for (place, stats) in out {
        let lane: &mut LaneSample = &mut lanes[place];
        lane.queued_bytes = stats.queued_bytes;
        lane.in_flight_bytes = stats.in_flight_bytes;
        lane.out_tells = stats.acknowledged_frames;
        lane.out_bytes = stats.acknowledged_bytes;
        lane.lost = stats.lost_in_all().frames;
    }
    for (place, stats) in received {
        lanes[place].in_tells = stats.delivered_frames;
        lanes[place].in_bytes = stats.delivered_bytes;
    }
    lanes
}
