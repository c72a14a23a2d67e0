//! How the association with one peer stands, as its driver says and its users ask.

use std::collections::BTreeMap;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::address::Incarnation;
use crate::delivery::Fault;
use crate::error::AssociationError;
use crate::stats::{ConnectionInfo, LinkStats, PeerState};

/// Faults alike that wait for the driver; more of them at once say nothing new.
const MAX_FAULTS: usize = 16;

/// Reads what is known of a connection, whatever its type.
pub(crate) trait LinkProbe: Send {
    fn stats(&self) -> LinkStats;
    fn info(&self) -> ConnectionInfo;
}

#[derive(Default)]
pub(crate) struct Status {
    pub(crate) state: Option<PeerState>,
    pub(crate) incarnation: Option<Incarnation>,
    /// Since when the peer is wanted and not had.
    pub(crate) wanted_since: Option<Instant>,
    pub(crate) last_error: Option<AssociationError>,
    pub(crate) associations: u64,
    /// When the certificate expires that the peer showed last.
    pub(crate) certificate_expires: Option<SystemTime>,
    pub(crate) link: Option<Box<dyn LinkProbe>>,
    /// Packets sent and lost over the connections before.
    packets: (u64, u64),
    /// By the reason's kind.
    pub(crate) ended: BTreeMap<&'static str, u64>,
    pub(crate) failed_dials: BTreeMap<&'static str, u64>,
    pub(crate) disconnect: bool,
    pub(crate) connect: bool,
    /// The life of the peer that the user wants refused, for the driver to see to.
    pub(crate) quarantine: Option<Incarnation>,
    pub(crate) quarantined: Option<Incarnation>,
    /// Lanes that are stuck or were.
    pub(crate) stuck: BTreeMap<u8, Stuck>,
    pub(super) faults: Vec<Fault>,
}

impl Status {
    /// Leaves a fault for the driver. The limit is one for those alike: a sink that panics must not cover up
    /// a frame that is to end the association, nor must frames of an earlier connection.
    pub(super) fn note_fault(&mut self, fault: Fault) {
        let alike = |waiting: &&Fault| match (waiting, &fault) {
            (Fault::SinkPanicked(_), Fault::SinkPanicked(_)) => true,
            (Fault::Frame { epoch: a, .. }, Fault::Frame { epoch: b, .. }) => a == b,
            _ => false,
        };
        if self.faults.iter().filter(alike).count() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    /// The connection is gone, or replaced.
    pub(crate) fn end_link(&mut self) {
        self.packets = self.packets();
        self.link = None;
    }

    pub(super) fn packets(&self) -> (u64, u64) {
        let link = self.link.as_ref().map(|probe| probe.stats()).unwrap_or_default();
        (self.packets.0 + link.sent_packets, self.packets.1 + link.lost_packets)
    }
}

/// A lane's standing still, as it was reported.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stuck {
    /// If it does now.
    pub(crate) since: Option<Instant>,
    pub(super) episodes: u64,
}

impl Stuck {
    pub(crate) fn begin(&mut self, since: Instant) {
        self.since = Some(since);
        self.episodes += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FrameError;
    use crate::lane::Lane;

    #[test]
    fn no_number_of_other_faults_covers_up_a_bad_frame() {
        let mut status = Status::default();
        let frame = |epoch| Fault::Frame { lane: Lane::Gossip, error: FrameError::Empty, epoch };
        for _ in 0..100 {
            status.note_fault(Fault::SinkPanicked(Lane::Tell(0)));
            status.note_fault(frame(1));
        }
        status.note_fault(frame(2));
        let panics = status.faults.iter().filter(|f| matches!(f, Fault::SinkPanicked(_))).count();
        let of = |n| {
            let of = |f: &&Fault| matches!(f, Fault::Frame { epoch, .. } if *epoch == n);
            status.faults.iter().filter(of).count()
        };
        assert_eq!((panics, of(1), of(2)), (MAX_FAULTS, MAX_FAULTS, 1));
    }
}
