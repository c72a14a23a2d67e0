//! What a test and the process that it starts say to each other: a line of JSON each.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// How a node differs from the others.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    /// 0: any.
    pub(crate) port: u16,
    pub(crate) lanes: u8,
    pub(crate) stream_window: u64,
    pub(crate) lane_budget: usize,
    pub(crate) peer_budget: usize,
    pub(crate) large_budget: usize,
    pub(crate) retention_ms: u64,
    pub(crate) idle_timeout_ms: u64,
    pub(crate) dial_timeout_ms: u64,
    /// How many tells the sink takes before it blocks.
    pub(crate) takes: Option<u64>,
    /// How long the sink takes for each.
    pub(crate) pause_us: u64,
    /// The sink remembers what it was told; otherwise it counts.
    pub(crate) remembers: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            lanes: 4,
            stream_window: 256 * 1024,
            lane_budget: 32 << 20,
            peer_budget: 128 << 20,
            large_budget: 32 << 20,
            retention_ms: 60_000,
            idle_timeout_ms: 10_000,
            dial_timeout_ms: 2_000,
            takes: None,
            pause_us: 0,
            remembers: true,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Queues tells with these numbers, of so many bytes.
    Tell {
        to: String,
        numbers: Range<u64>,
        bytes: usize,
    },
    /// Sends until every lane has refused; returns how many were accepted.
    Flood {
        to: String,
    },
    /// Waits until all of them are acknowledged.
    Flush {
        to: String,
    },
    /// The sink goes on.
    Open,
    Report,
    /// Starts so many more nodes, each of which sends a tell to `to` and waits until it is acknowledged.
    Join {
        to: String,
        nodes: usize,
    },
    /// Shuts them down; returns how many of them had everything acknowledged.
    Leave,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Up { address: String, incarnation: u64 },
    Done(u64),
    Report(Box<Report>),
}

/// A process's own figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) received: Received,
    /// How many peers are in which state, and their last error.
    pub(crate) peers_by_state: BTreeMap<String, usize>,
    /// Peers that are associated.
    pub(crate) connected: usize,
    /// Bytes received that wait for the sink.
    pub(crate) waiting: u64,
    /// Packets sent to all peers, over their present connections.
    pub(crate) sent_packets: u64,
    pub(crate) tasks: usize,
    /// Bytes of the heap in use.
    pub(crate) allocated: usize,
    pub(crate) descriptors: usize,
    /// Processor time so far, in milliseconds.
    pub(crate) processor_ms: u64,
    /// Resident bytes now, and the most there were.
    pub(crate) resident: u64,
    pub(crate) peak: u64,
}

/// What a sink saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) tells: u64,
    pub(crate) duplicates: u64,
    /// Tells that came after a later one to the same target.
    pub(crate) inversions: u64,
    pub(crate) lowest: Option<u64>,
    pub(crate) highest: Option<u64>,
}
