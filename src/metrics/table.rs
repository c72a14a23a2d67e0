//! All metrics: name, kind, unit, labels, and what they say. `docs/observability.md` has the same table.

use ::metrics::Unit;

/// One metric.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: Unit,
    pub(super) labels: Labels,
    pub(super) help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    /// Of several peers or lanes, the sum.
    Gauge,
    /// Of several, the largest.
    Largest,
    /// Of several, the smallest.
    Smallest,
}

/// Whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Labels {
    /// The node's, by one of a few fixed words; the label's name.
    NodeBy(&'static str),
    Node,
    Peer,
    /// A peer's, by a fixed word.
    PeerBy(&'static str),
    Lane,
    /// A lane's, by a fixed word.
    LaneBy(&'static str),
}

impl Labels {
    /// The name of the label that has one of a few fixed words.
    pub(super) fn word(self) -> Option<&'static str> {
        match self {
            Self::NodeBy(word) | Self::PeerBy(word) | Self::LaneBy(word) => Some(word),
            Self::Node | Self::Peer | Self::Lane => None,
        }
    }
}

macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal $unit:ident $labels:expr, $help:literal;)*) => {
        $(pub(super) static $id: Metric = Metric {
            name: concat!("cluster_quic_", $name),
            kind: Kind::$kind,
            unit: Unit::$unit,
            labels: { use Labels::*; $labels },
            help: $help,
        };)*
        pub(super) static ALL: &[&Metric] = &[$(&$id),*];
    };
}

metrics! {
    PEERS = Gauge "peers" Count NodeBy("state"), "Known peers, by state: idle, connecting, connected.";
    HELD = Gauge "held_bytes" Bytes Node, "What all tell lanes hold together, in grants of 64 KiB; at most node_budget.";
    REFUSED = Counter "connections_refused_total" Count NodeBy("reason"), "Connections of others that were refused.";
    OWN_EXPIRY = Gauge "identity_expires_seconds" Seconds Node, "Until the node's own certificate expires; negative afterwards.";

    ASSOCIATIONS = Counter "associations_total" Count Peer, "Associations established.";
    ENDED = Counter "associations_ended_total" Count PeerBy("reason"), "Associations that ended, or were replaced (superseded).";
    DIALS_FAILED = Counter "dials_failed_total" Count PeerBy("reason"), "Dials that failed.";
    CONNECTED = Gauge "peer_connected" Count Peer, "1 while an association stands.";
    UNREACHABLE = Largest "peer_unreachable_seconds" Seconds Peer, "For how long the peer has been wanted and not associated; 0 while it is, or is not needed.";
    QUARANTINED = Gauge "peer_quarantined" Count Peer, "1 while a life of the peer is quarantined.";
    EXPIRY = Smallest "peer_certificate_expires_seconds" Seconds Peer, "Until the certificate expires that the peer showed last; negative afterwards.";
    PACKETS_SENT = Counter "packets_sent_total" Count Peer, "QUIC packets sent.";
    PACKETS_LOST = Counter "packets_lost_total" Count Peer, "Packets sent and taken for lost.";
    RTT = Largest "rtt_seconds" Seconds Peer, "Smoothed round-trip time of the connection.";
    WINDOW = Gauge "congestion_window_bytes" Bytes Peer, "Congestion window of the connection.";
    MTU = Smallest "mtu_bytes" Bytes Peer, "The largest UDP payload in use.";
    GOSSIP_ACCEPTED = Counter "gossip_accepted_total" Count Peer, "Gossip that send_gossip took.";
    GOSSIP_SENT = Counter "gossip_sent_total" Count Peer, "Gossip handed to a connection.";
    GOSSIP_DROPPED = Counter "gossip_dropped_total" Count Peer, "Gossip that newer gossip displaced before it was sent.";
    GOSSIP_RECEIVED = Counter "gossip_received_total" Count Peer, "Gossip received.";
    GOSSIP_QUEUED = Gauge "gossip_queued" Count Peer, "Gossip that waits to be sent.";
    GOSSIP_QUEUED_BYTES = Gauge "gossip_queued_bytes" Bytes Peer, "Its bytes.";

    ACCEPTED = Counter "tells_accepted_total" Count Lane, "Tells that tell took: the sum of acknowledged, lost, queued and in flight.";
    ACCEPTED_BYTES = Counter "tells_accepted_bytes_total" Bytes Lane, "Their bytes on the wire.";
    ACKNOWLEDGED = Counter "tells_acknowledged_total" Count Lane, "Tells for which the peer's sink has returned.";
    ACKNOWLEDGED_BYTES = Counter "tells_acknowledged_bytes_total" Bytes Lane, "Their bytes.";
    LOST = Counter "tells_lost_total" Count LaneBy("reason"), "Accepted tells that were reported lost.";
    LOST_BYTES = Counter "tells_lost_bytes_total" Bytes LaneBy("reason"), "Their bytes.";
    FULL = Counter "tells_refused_total" Count Lane, "Tries that found the lane full, those of waiting callers included.";
    RESENT = Counter "tells_resent_total" Count Lane, "Tells sent again after a reconnect.";
    QUEUED = Gauge "tells_queued" Count Lane, "Tells not yet handed to a connection.";
    QUEUED_BYTES = Gauge "tells_queued_bytes" Bytes Lane, "Their bytes.";
    IN_FLIGHT = Gauge "tells_in_flight" Count Lane, "Tells sent and not acknowledged.";
    IN_FLIGHT_BYTES = Gauge "tells_in_flight_bytes" Bytes Lane, "Their bytes.";
    STUCK = Counter "lane_stuck_total" Count Lane, "How often the lane stood still although the peer was alive.";
    STUCK_FOR = Largest "lane_stuck_seconds" Seconds Lane, "For how long it has; 0 while it does not.";

    DELIVERED = Counter "tells_delivered_total" Count Lane, "Tells from the peer that were handed to the sink.";
    DUPLICATED = Counter "tells_duplicated_total" Count Lane, "Tells received again after a reconnect, and left out.";
    FRAMES_REFUSED = Counter "frames_refused_total" Count Lane, "Frames of tells that could not be decoded.";
    PANICS = Counter "sink_panics_total" Count Lane, "Tells on which the sink panicked.";
    WAITING = Gauge "tells_waiting" Count Lane, "Tells received and not yet handed to the sink.";
    WAITING_BYTES = Gauge "tells_waiting_bytes" Bytes Lane, "Their bytes.";
}
