//! The most memory that a node can use, as its configuration has it.

use crate::backend::quic::link::READ_BATCH;
use crate::backend::quic::{INCOMING_BUFFERS, UNADMITTED_WINDOW};
use crate::config::Config;
use crate::delivery::IN_PLACE;
use crate::frame::MAX_FRAME;
use crate::greetings::MAX_GREETING;
use crate::lane::{MAX_STREAMS, MAX_TELL_LANES};

const KIB: u64 = 1024;

/// Tasks, maps, TLS configuration, allocator: of a node, of an association, of a handshake under way.
const NODE: u64 = 4 * 1024 * KIB;
const ASSOCIATION: u64 = 96 * KIB;
const HANDSHAKE: u64 = 96 * KIB;

/// A thread in a sink that blocks: what it touches of its stack.
const SINK_THREAD: u64 = 32 * KIB;

/// A batch of packets as the system hands it over.
const BATCH: u64 = 64 * KIB;

/// quinn's buffer for what it receives at a time: so many batches of so many packets.
const BATCHES: u64 = 32;
const PACKETS: u64 = 64;

/// Gossip in a connection's send buffer.
const GOSSIP_IN_FLIGHT: u64 = 2 * 1024 * KIB;

impl Config {
    /// The most bytes that a node of this configuration can hold in memory, with the exception below, with
    /// `peers` peers, each of them flooding it in as many lanes as a node may have, with a sink that blocks
    /// for ever, and with a full queue to each. What the application itself keeps (gossip in its inbox, tells in its sink) comes on
    /// top, and so does what the process needs without a node.
    ///
    /// ```text
    /// node       4 MiB + 2048 x max_udp_payload + 256 greetings x (96 + 96 + 2.5 x 64) KiB + 8 MiB
    /// to peers   2 x min(node_budget, peers x peer_budget, peers x tell_lanes x lane_budget)
    /// each peer  gossip_budget + 2 MiB
    ///            + 18 streams x (2.5 x stream_window + 32 KiB)              in QUIC's buffers
    ///            + 16 lanes   x (3.5 x stream_window + 32 x max_udp_payload waiting, or being gathered
    ///                            + 32 KiB of a thread)
    ///            + 128 x 64 KiB kept by pieces of batches
    ///            + 1.5 x large_budget + 1.5 x 16 MiB of gossip being gathered + 96 KiB
    /// ```
    ///
    /// It is a worst case of bytes, not a forecast: an idle association takes some 75 kB. One thing is not
    /// in it: packets that the system hands over in one batch of up to 64 KiB share its memory, and QUIC's
    /// buffers count packets. A lane that stands still while the others of its peer flow can keep more than
    /// its window for that, as much as ten times with batches as quinn sends them.
    pub fn memory_limit(&self, peers: usize) -> u64 {
        let peers = peers as u64;
        let node = NODE
            + BATCHES * PACKETS * u64::from(self.max_udp_payload)
            + MAX_GREETING as u64 * (ASSOCIATION + HANDSHAKE + buffered(UNADMITTED_WINDOW.into()))
            + INCOMING_BUFFERS;
        node + self.outbound(peers) + peers.saturating_mul(self.for_peer())
    }

    /// Queues, and once more where QUIC has copies of small chunks.
    fn outbound(&self, peers: u64) -> u64 {
        let lanes = u64::from(self.tell_lanes).saturating_mul(self.lane_budget as u64);
        let peer = lanes.min(self.peer_budget as u64);
        2 * peers.saturating_mul(peer).min(self.node_budget as u64)
    }

    fn for_peer(&self) -> u64 {
        let run = READ_BATCH as u64 * u64::from(self.max_udp_payload);
        // A queue takes one run beyond its bound, and short runs are put together in buffers that double;
        // gathering, a buffer grows by halves at worst.
        let lane = 2 * self.stream_window + run + grown(self.stream_window) + SINK_THREAD;
        let gossip = self.gossip_budget as u64 + GOSSIP_IN_FLIGHT + grown(MAX_FRAME as u64);
        ASSOCIATION
            + u64::from(MAX_STREAMS) * (buffered(self.stream_window) + 32 * KIB)
            + u64::from(MAX_TELL_LANES) * lane
            + IN_PLACE as u64 * BATCH
            + grown(self.large_budget as u64)
            + gossip
    }
}

/// What quinn may hold for a window: it copies once packets keep more than 1.5 times of what they hold.
fn buffered(window: u64) -> u64 {
    window * 5 / 2
}

/// While a buffer grows, the old one is there too.
fn grown(bytes: u64) -> u64 {
    bytes + bytes / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * KIB;

    #[test]
    fn the_limit_of_the_defaults_in_numbers() {
        let config = Config::builder("sys").build().unwrap();
        let limit = |peers| config.memory_limit(peers);
        assert_eq!(limit(0) / MIB, 112);
        assert_eq!(config.for_peer() / MIB, 111);
        // Up to eight peers each can have their whole budget, twice; then the node's holds.
        assert_eq!(limit(8) - limit(0), 8 * (config.for_peer() + 256 * MIB));
        assert_eq!(limit(50) - limit(0), 50 * config.for_peer() + 2048 * MIB);
    }

    #[test]
    fn every_bound_moves_it() {
        let base = || {
            let base = Config::builder("sys").stream_window(64 * KIB).lane_budget(1 << 20);
            base.peer_budget(24 << 20).node_budget(20 << 20).gossip_budget(1 << 16)
        };
        let limit = |builder: crate::ConfigBuilder| builder.build().unwrap().memory_limit(2);
        let lowest = limit(base());
        assert!(limit(base().stream_window(128 * KIB)) > lowest);
        assert!(limit(base().lane_budget(2 << 20)) > lowest);
        assert!(limit(base().tell_lanes(4)) < lowest);
        assert!(limit(base().large_budget(48 << 20)) > lowest);
        assert!(limit(base().gossip_budget(1 << 20)) > lowest);
        assert!(limit(base().max_udp_payload(1500)) < lowest);
        // 2 peers x 8 lanes x 1 MiB are less than the node's budget.
        assert_eq!(limit(base().node_budget(100 << 20)), lowest);
        assert!(limit(base().node_budget(100 << 20).lane_budget(8 << 20)) > lowest);
    }

    #[test]
    fn no_number_of_peers_overflows() {
        let config = Config::builder("sys").node_budget(1 << 50).peer_budget(1 << 50);
        assert!(config.build().unwrap().memory_limit(1 << 24) > 1 << 40);
    }
}
