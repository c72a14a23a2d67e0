//! What a node tells its user without being asked: associations and losses.

use std::time::{Duration, SystemTime};

use crate::address::{Address, Incarnation};
use crate::error::{AssociationError, FrameError};
use crate::lane::Lane;

/// Something that happened; received through [`ClusterTransport::events`].
///
/// Its variants are not `non_exhaustive`: what handles events can be tested with any of them. Match them with
/// `..`, for they may get more fields in a minor release before 1.0.
///
/// [`ClusterTransport::events`]: crate::ClusterTransport::events
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An association is established: lanes flow in both directions. Comes again, without a
    /// [`PeerDown`](Event::PeerDown) between, when the peer replaces the connection.
    PeerUp {
        /// The peer.
        peer: Address,
        /// Which life of it.
        incarnation: Incarnation,
    },
    /// The association ended. Unacknowledged tells are retained and resume with the next one.
    PeerDown {
        /// The peer.
        peer: Address,
        /// Why.
        reason: AssociationError,
    },
    /// The peer came back as a new process. What was sent to the old one and not acknowledged is
    /// reported by [`TellsLost`](Event::TellsLost).
    PeerRestarted {
        /// The peer.
        peer: Address,
        /// The life that ended.
        old: Incarnation,
        /// The life that began.
        new: Incarnation,
    },
    /// A life of the peer was [quarantined](crate::Peer::quarantine). It ends with the
    /// [`PeerUp`](Event::PeerUp) of another.
    PeerQuarantined {
        /// The peer.
        peer: Address,
        /// The life that is refused from now on.
        incarnation: Incarnation,
    },
    /// A dial failed; the next follows by itself while there is something to send.
    DialFailed {
        /// The peer.
        peer: Address,
        /// Why.
        error: AssociationError,
        /// When the next attempt is made.
        retry_in: Duration,
    },
    /// Somebody connected and was refused.
    IncomingRefused {
        /// Socket address, or the node's in-process address. Where the refusal is one of a known peer (an older
        /// incarnation, a quarantined one, a connection that cannot be used), that peer's address.
        remote: String,
        /// Why.
        error: AssociationError,
    },
    /// The node's socket has failed for good, or its network was taken from it
    /// ([`InProcessNetwork::kill`](crate::InProcessNetwork::kill)): it reaches nobody any more, and nobody
    /// reaches it. Only another node helps; shut this one down. Once.
    SocketFailed,
    /// Accepted tells that will not be delivered, or may have been without our knowing.
    TellsLost {
        /// The peer they were for.
        peer: Address,
        /// Their lane.
        lane: Lane,
        /// How many.
        frames: u64,
        /// Their length on the wire in bytes.
        bytes: u64,
        /// Why.
        reason: LostReason,
    },
    /// A tell lane stands still although the peer is alive: tells are pending in it, none was acknowledged
    /// for [`lane_stuck_after`](crate::ConfigBuilder::lane_stuck_after), and the peer's transport answers.
    /// So its sink blocks, or it has not called [`start`](crate::ClusterTransport::start); or a large tell
    /// takes long over a slow path. Once per episode; [`LaneUnstuck`](Event::LaneUnstuck) ends it.
    LaneStuck {
        /// The peer.
        peer: Address,
        /// The lane.
        lane: Lane,
        /// For how long it has stood still.
        stuck_for: Duration,
        /// Tells that wait in it, or are in flight.
        pending: u64,
    },
    /// A lane that was reported stuck is not any more: its first tell was acknowledged or given up, or the
    /// association ended.
    LaneUnstuck {
        /// The peer.
        peer: Address,
        /// The lane.
        lane: Lane,
        /// For how long it stood still in all.
        stuck_for: Duration,
    },
    /// A received frame was not one; its sender lost the association.
    FrameRefused {
        /// Who sent it.
        peer: Address,
        /// In which lane.
        lane: Lane,
        /// What was wrong with it.
        error: FrameError,
    },
    /// The node has another identity, by [`renew`](crate::ClusterTransport::renew) or by itself: new
    /// connections are made with it from now on, and standing ones are replaced, which
    /// [`PeerUp`](Event::PeerUp) tells of.
    IdentityRenewed {
        /// SHA-256 of the node's certificate (DER), 64 lower-case hex digits.
        fingerprint: String,
        /// When it expires.
        expires: SystemTime,
    },
    /// The [watched](crate::ClusterTransport::watch_identity) files hold what the node cannot use, and it
    /// keeps the identity that it has. Once for each content.
    IdentityRejected {
        /// Which file, what is wrong with it, and what to do.
        reason: String,
    },
    /// A certificate in use expires soon, or has expired; see
    /// [`expiry_warning`](crate::ConfigBuilder::expiry_warning). Once for each certificate, and again
    /// every day while it is in use.
    CertificateExpiring {
        /// Whose certificate.
        whose: CertificateOf,
        /// When it expires; may be past.
        at: SystemTime,
    },
    /// The subscriber lagged behind, and this many events before the next one are gone. The
    /// statistics have their sums.
    Missed {
        /// How many.
        events: u64,
    },
    /// A sink panicked on a tell, which counts as delivered; the next ones go on.
    SinkPanicked {
        /// Who sent the tell.
        peer: Address,
        /// In which lane.
        lane: Lane,
    },
}

/// Whose certificate an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateOf {
    /// This node's own.
    ThisNode,
    /// The one that a peer showed on the present connection.
    Peer(Address),
}

/// Why accepted tells were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostReason {
    /// No association for longer than `retention`, or none over which the peer took any notice of tells.
    Expired,
    /// Sent to an earlier incarnation of the peer and not acknowledged: it may have handled them.
    PeerRestarted,
    /// The deadline of the shutdown passed, or the transport was dropped.
    ShutDown,
    /// The peer was quarantined.
    Quarantined,
}

impl LostReason {
    /// All reasons, in the order of [`index`](Self::index).
    pub(crate) const ALL: [Self; 4] =
        [Self::Expired, Self::PeerRestarted, Self::ShutDown, Self::Quarantined];

    /// Its name in snake case, for labels of metrics.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::PeerRestarted => "peer_restarted",
            Self::ShutDown => "shut_down",
            Self::Quarantined => "quarantined",
        }
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Expired => 0,
            Self::PeerRestarted => 1,
            Self::ShutDown => 2,
            Self::Quarantined => 3,
        }
    }
}
