//! A lane's ledger by pairs of incarnations.

use super::LaneStats;
use crate::address::Incarnation;

/// Tells to one peer in one lane, by pairs of incarnations: this node's, which is the same all its life, and
/// the peer's. Each pair has a ledger of its own, which [balances](LaneStats::is_balanced) at every moment.
///
/// A tell belongs to the pair that it is sent in. Until it is sent it belongs to the current one, and goes over
/// to the next when the peer comes back as another incarnation: the new pair's `accepted` begins with what was
/// queued then, and is taken out of the old one's. What was sent in the old pair and not acknowledged is reported
/// lost in it ([`LostReason::PeerRestarted`](crate::LostReason::PeerRestarted)). What was accepted, or expired,
/// before any incarnation of the peer was known belongs to the first pair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PairStats {
    /// The peer's life in the current pair; `None` before the first association.
    pub incarnation: Option<Incarnation>,
    /// The current pair's ledger.
    pub current: LaneStats,
    /// How many pairs were before it, in this node's memory of the peer.
    pub former_pairs: u64,
    /// The sum of their ledgers. Nothing of it is pending.
    pub former: LaneStats,
}

impl PairStats {
    /// Whether the ledgers hold: the current pair's, and that of all former ones, which have nothing pending.
    pub fn is_balanced(&self) -> bool {
        let over = self.former.pending().frames == 0 && self.former.pending().bytes == 0;
        self.current.is_balanced() && self.former.is_balanced() && over
    }

    /// `all`: the lane's figures over all pairs.
    pub(crate) fn with_current(mut self, all: &LaneStats) -> Self {
        self.current = all.since(&self.former);
        self
    }

    /// The peer's life is `incarnation` from now on. `all`: the lane's figures over all pairs, in which
    /// nothing is in flight any more.
    pub(crate) fn begin(&mut self, incarnation: Incarnation, all: impl FnOnce() -> LaneStats) {
        let Some(old) = self.incarnation.replace(incarnation) else { return };
        if old == incarnation {
            return;
        }
        let all = all();
        self.former_pairs += 1;
        self.former = LaneStats {
            accepted_frames: all.accepted_frames - all.queued_frames,
            accepted_bytes: all.accepted_bytes - all.queued_bytes,
            queued_frames: 0,
            queued_bytes: 0,
            ..all
        };
    }
}
