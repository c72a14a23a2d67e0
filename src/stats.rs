//! What a node knows of its traffic, as plain numbers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::address::{Address, Incarnation};
use crate::error::AssociationError;
use crate::event::LostReason;
use crate::lane::Lane;

mod pairs;

pub use pairs::PairStats;

/// One peer, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStats {
    /// The peer.
    pub address: Address,
    /// How the association stands.
    pub state: PeerState,
    /// Which life of the peer was last associated with.
    pub incarnation: Option<Incarnation>,
    /// The life of the peer that is [quarantined](crate::Peer::quarantine), with all before it.
    pub quarantined: Option<Incarnation>,
    /// For how long the peer was wanted and not associated; `None` while it is associated, or not
    /// needed.
    pub unreachable_for: Option<Duration>,
    /// Why the last dial failed or the last association ended.
    pub last_error: Option<AssociationError>,
    /// Associations so far.
    pub associations: u64,
    /// When the certificate expires that the peer showed last. `None` before the first association, and on
    /// the in-process backend.
    pub certificate_expires: Option<SystemTime>,
    /// Associations that ended, by the [kind](AssociationError::kind) of the reason.
    pub ended: BTreeMap<&'static str, u64>,
    /// Dials that failed, by the [kind](AssociationError::kind) of the failure.
    pub failed_dials: BTreeMap<&'static str, u64>,
    /// Packets sent over all connections so far. Zero where a backend has none.
    pub sent_packets: u64,
    /// Those of them that were taken for lost.
    pub lost_packets: u64,
    /// The connection, while there is one.
    pub link: Option<LinkStats>,
    /// Gossip to the peer.
    pub gossip: GossipStats,
    /// Gossip frames received from the peer.
    pub gossip_received: u64,
    /// Tells to the peer, by lane, over all its lives.
    pub lanes: Vec<(Lane, LaneStats)>,
    /// The same by pairs of incarnations, read in the same moment.
    pub pairs: Vec<(Lane, PairStats)>,
    /// Tells from the peer, by lane.
    pub received: Vec<(Lane, ReceivedStats)>,
    /// Tells this knowledge of the peer from an earlier one, which was forgotten: sums begin anew.
    pub(crate) session: u64,
}

impl PeerStats {
    /// All tell lanes to the peer together.
    pub fn tells(&self) -> LaneStats {
        let mut sum = LaneStats::default();
        for (_, lane) in &self.lanes {
            sum.add(lane);
        }
        sum
    }

    /// Whether every ledger holds: each lane's over all lives of the peer, each pair's of incarnations, and
    /// together they are the same.
    pub fn is_balanced(&self) -> bool {
        let same = |((lane, all), (of, pairs)): (&(Lane, LaneStats), &(Lane, PairStats))| {
            let mut sum = pairs.current;
            sum.add(&pairs.former);
            // What stands still is no matter of a ledger, and known of the lane alone.
            (sum.stuck_for, sum.stuck_episodes) = (all.stuck_for, all.stuck_episodes);
            lane == of && sum == *all && all.is_balanced() && pairs.is_balanced()
        };
        self.lanes.len() == self.pairs.len() && self.lanes.iter().zip(&self.pairs).all(same)
    }

    /// All tell lanes from the peer together.
    pub fn tells_received(&self) -> ReceivedStats {
        let mut sum = ReceivedStats::default();
        for (_, lane) in &self.received {
            sum.add(lane);
        }
        sum
    }
}

/// How the association with a peer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerState {
    /// Nothing is under way, nothing is needed.
    Idle,
    /// A dial is under way, or the next one is waited for.
    Connecting,
    /// Lanes flow.
    Connected,
}

/// A connection, as the backend sees it. Zero where a backend has no such thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkStats {
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Congestion window in bytes.
    pub congestion_window: u64,
    /// The largest UDP payload in use, in bytes.
    pub mtu: u16,
    /// Packets sent over this connection and taken for lost; [`PeerStats::lost_packets`] has the sum over all.
    pub lost_packets: u64,
    /// Packets sent over this connection; [`PeerStats::sent_packets`] has the sum over all.
    pub sent_packets: u64,
}

/// What the two ends of a connection have shown each other and agreed on; from
/// [`Peer::connection`](crate::Peer::connection). Empty where a backend has no such thing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Where the peer's packets come from.
    pub remote: Option<SocketAddr>,
    /// The peer's certificate chain as DER, its own certificate first. It was verified.
    pub certificates: Vec<Vec<u8>>,
    /// The ALPN protocol.
    pub protocol: String,
    /// The version of the control messages, which is the same on both sides.
    pub wire_version: u16,
    /// Tell lanes in which the peer sends.
    pub tell_lanes: u8,
    /// Bytes per lane that the peer holds unread: its `stream_window`.
    pub stream_window: u64,
}

/// Tells to one peer in one lane. At every moment `accepted = acknowledged + lost + queued + in
/// flight`, in frames and in bytes (on the wire, with the frame's length prefix).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneStats {
    /// Tells that `tell` took.
    pub accepted_frames: u64,
    /// Their bytes.
    pub accepted_bytes: u64,
    /// Tells for which the peer's sink has returned.
    pub acknowledged_frames: u64,
    /// Their bytes.
    pub acknowledged_bytes: u64,
    /// Tells reported lost, by the reason's place in [`LostReason`]; see [`lost`](Self::lost).
    pub(crate) lost: [Lost; LostReason::ALL.len()],
    /// Tells not yet handed to a connection.
    pub queued_frames: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Tells sent and retained until they are acknowledged.
    pub in_flight_frames: u64,
    /// Their bytes.
    pub in_flight_bytes: u64,
    /// Tries that were refused since the lane was full, those of waiting callers included; not part of
    /// `accepted`.
    pub refused_full: u64,
    /// Frames sent again after a reconnect.
    pub resent_frames: u64,
    /// For how long the lane has stood still, if it is [stuck](crate::Event::LaneStuck). Of several lanes the
    /// longest.
    pub stuck_for: Option<Duration>,
    /// How often it was found stuck.
    pub stuck_episodes: u64,
}

impl LaneStats {
    /// Tells reported lost for one reason.
    pub fn lost(&self, reason: LostReason) -> Lost {
        self.lost[reason.index()]
    }

    /// Tells reported lost for any reason.
    pub fn lost_in_all(&self) -> Lost {
        self.lost.iter().fold(Lost::default(), |sum, lost| Lost {
            frames: sum.frames + lost.frames,
            bytes: sum.bytes + lost.bytes,
        })
    }

    /// Frames and bytes that are neither acknowledged nor lost.
    pub(crate) fn pending(&self) -> Lost {
        let bytes = self.queued_bytes + self.in_flight_bytes;
        Lost { frames: self.pending_frames(), bytes }
    }

    /// Tells that are neither acknowledged nor lost.
    pub fn pending_frames(&self) -> u64 {
        self.queued_frames + self.in_flight_frames
    }

    /// Whether the ledger holds: accepted = acknowledged + lost + pending, in frames and bytes.
    pub fn is_balanced(&self) -> bool {
        let lost = self.lost_in_all();
        let pending_bytes = self.queued_bytes + self.in_flight_bytes;
        self.accepted_frames == self.acknowledged_frames + lost.frames + self.pending_frames()
            && self.accepted_bytes == self.acknowledged_bytes + lost.bytes + pending_bytes
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted_frames += other.accepted_frames;
        self.accepted_bytes += other.accepted_bytes;
        self.acknowledged_frames += other.acknowledged_frames;
        self.acknowledged_bytes += other.acknowledged_bytes;
        for (sum, lost) in self.lost.iter_mut().zip(&other.lost) {
            sum.frames += lost.frames;
            sum.bytes += lost.bytes;
        }
        self.queued_frames += other.queued_frames;
        self.queued_bytes += other.queued_bytes;
        self.in_flight_frames += other.in_flight_frames;
        self.in_flight_bytes += other.in_flight_bytes;
        self.refused_full += other.refused_full;
        self.resent_frames += other.resent_frames;
        self.stuck_for = self.stuck_for.max(other.stuck_for);
        self.stuck_episodes += other.stuck_episodes;
    }

    /// What came on top of `before`, an earlier state of the same figures.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let lost = |n: usize| Lost {
            frames: self.lost[n].frames - before.lost[n].frames,
            bytes: self.lost[n].bytes - before.lost[n].bytes,
        };
        Self {
            accepted_frames: self.accepted_frames - before.accepted_frames,
            accepted_bytes: self.accepted_bytes - before.accepted_bytes,
            acknowledged_frames: self.acknowledged_frames - before.acknowledged_frames,
            acknowledged_bytes: self.acknowledged_bytes - before.acknowledged_bytes,
            lost: std::array::from_fn(lost),
            queued_frames: self.queued_frames - before.queued_frames,
            queued_bytes: self.queued_bytes - before.queued_bytes,
            in_flight_frames: self.in_flight_frames - before.in_flight_frames,
            in_flight_bytes: self.in_flight_bytes - before.in_flight_bytes,
            refused_full: self.refused_full - before.refused_full,
            resent_frames: self.resent_frames - before.resent_frames,
            // Of the lane, whoever is at its other end.
            stuck_for: None,
            stuck_episodes: 0,
        }
    }
}

/// Tells reported lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// How many.
    pub frames: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
}

/// Gossip to one peer: `accepted = sent + dropped + queued`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GossipStats {
    /// Frames that `send_gossip` took.
    pub accepted: u64,
    /// Frames handed to a connection.
    pub sent: u64,
    /// Frames that newer ones displaced before they were sent.
    pub dropped: u64,
    /// Frames that wait.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
}

/// Tells from one peer in one lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceivedStats {
    /// Tells handed to the sink.
    pub delivered_frames: u64,
    /// Their bytes, on the wire.
    pub delivered_bytes: u64,
    /// Tells received again after a reconnect, and left out.
    pub duplicates: u64,
    /// Frames that could not be decoded.
    pub refused_frames: u64,
    /// Tells on which the sink panicked.
    pub sink_panics: u64,
    /// Tells received and not yet handed to the sink.
    pub waiting_frames: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
}

impl ReceivedStats {
    fn add(&mut self, other: &Self) {
        self.delivered_frames += other.delivered_frames;
        self.delivered_bytes += other.delivered_bytes;
        self.duplicates += other.duplicates;
        self.refused_frames += other.refused_frames;
        self.sink_panics += other.sink_panics;
        self.waiting_frames += other.waiting_frames;
        self.waiting_bytes += other.waiting_bytes;
    }
}

/// What a shutdown achieved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Tells that were accepted and are acknowledged, over the node's life.
    pub acknowledged: u64,
    /// Tells that were accepted and, during the shutdown, given up for whatever reason; each peer's
    /// are reported by [`Event::TellsLost`](crate::Event::TellsLost) too.
    pub lost: Vec<(Address, Lost)>,
    /// How long it took.
    pub took: Duration,
}

impl ShutdownReport {
    /// Whether everything accepted was acknowledged.
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty()
    }
}
