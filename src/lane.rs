//! The lane table: which streams an association has, and what each of them is promised.
//!
//! | lane | id | priority | bound | when full | after a cut |
//! |---|---|---|---|---|---|
//! | control | 0 | 20 | one message of each kind | coalesced | said anew |
//! | gossip | 1 | 10 | bytes | the oldest is dropped, and counted | not resent |
//! | tell 0..N | 2.. | 0 | bytes | refused, or waits | resent from where the peer stands |

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most tell lanes that a node may have.
pub const MAX_TELL_LANES: u8 = 16;

/// The streams that one association opens at most, in each direction.
pub(crate) const MAX_STREAMS: u8 = FIRST_TELL + MAX_TELL_LANES;

const FIRST_TELL: u8 = 2;

/// A lane of an association; displays as `control`, `gossip` or `tell 3`.
///
/// Not `non_exhaustive`: these are all that the wire has, and others would be another wire version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Lane {
    /// Greetings, acknowledgements, goodbyes.
    Control,
    /// Membership gossip.
    Gossip,
    /// Tells whose target path hashes to this number.
    Tell(u8),
}

impl Lane {
    /// The lane of a tell, out of `lanes`: a stable hash of its target path, so that the order per
    /// target is kept and one large tell delays its own lane alone.
    #[inline]
    pub(crate) fn of_target(target_path: &str, lanes: u8) -> u8 {
        if lanes == 1 {
            return 0;
        }
        // Only the sender computes it, but a lane must not change with a library's version:
        // multiply-fold over 8-byte words, as in wyhash.
        const K: u64 = 0x9e37_79b9_7f4a_7c15;
        let fold = |h: u64, word: u64| {
            let wide = u128::from(h ^ word) * u128::from(K | 1);
            (wide as u64) ^ ((wide >> 64) as u64)
        };
        let (words, rest) = target_path.as_bytes().as_chunks::<8>();
        let mut hash = K ^ target_path.len() as u64;
        for word in words {
            hash = fold(hash, u64::from_le_bytes(*word));
        }
        // The rest, filled up with zeros: cut off the last whole word where there is one.
        let last = match target_path.as_bytes().last_chunk::<8>() {
            Some(_) if rest.is_empty() => 0,
            Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
            None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        hash = fold(fold(hash, last), K);
        // The high half of a product spreads a hash over a range without a division (Lemire 2019).
        ((u128::from(hash) * u128::from(lanes)) >> 64) as u8
    }

    /// quinn's stream priority: strict between levels, round-robin within one.
    pub(crate) fn priority(self) -> i32 {
        match self {
            Self::Control => 20,
            Self::Gossip => 10,
            Self::Tell(_) => 0,
        }
    }

    /// The id in a stream's header.
    pub(crate) fn id(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Gossip => 1,
            Self::Tell(n) => FIRST_TELL + n,
        }
    }

    pub(crate) fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::Control),
            1 => Some(Self::Gossip),
            FIRST_TELL..MAX_STREAMS => Some(Self::Tell(id - FIRST_TELL)),
            _ => None,
        }
    }
}

impl From<Lane> for u8 {
    fn from(lane: Lane) -> u8 {
        lane.id()
    }
}

impl TryFrom<u8> for Lane {
    type Error = UnknownLane;

    fn try_from(id: u8) -> Result<Self, UnknownLane> {
        Self::from_id(id).ok_or(UnknownLane { id })
    }
}

/// A number that is no lane's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown lane {id}")]
#[non_exhaustive]
pub struct UnknownLane {
    /// The number.
    pub id: u8,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control => f.write_str("control"),
            Self::Gossip => f.write_str("gossip"),
            Self::Tell(n) => write!(f, "tell {n}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_names_one_lane() {
        for id in 0..=u8::MAX {
            match Lane::from_id(id) {
                Some(lane) => assert_eq!(lane.id(), id),
                None => assert!(id >= MAX_STREAMS),
            }
        }
    }

    #[test]
    fn a_number_that_is_no_lane_s_is_named() {
        let error = Lane::try_from(MAX_STREAMS).unwrap_err();
        assert_eq!((error.id, &*error.to_string()), (18, "unknown lane 18"));
        assert_eq!(Lane::try_from(17), Ok(Lane::Tell(15)));
    }

    #[test]
    fn a_target_keeps_its_lane() {
        // Written down from the first version: per-lane figures stay comparable over versions.
        assert_eq!(Lane::of_target("akka.quic://s@h:1/user/a", 16), 13);
        assert_eq!(Lane::of_target("akka.quic://s@h:1/user/b", 16), 14);
        assert_eq!(Lane::of_target("", 16), 13);
        for (path, lane) in [
            ("/user/target-00", 10),
            ("/", 2),
            ("/a", 10),
            ("/user", 13),
            ("/users/", 0),
            ("/users/b", 0),
            ("/users/bc", 2),
            ("/user/éü/0123", 14),
        ] {
            assert_eq!(Lane::of_target(path, 16), lane, "{path}");
        }
    }

    #[test]
    fn targets_spread_over_the_lanes() {
        for lanes in 1..=MAX_TELL_LANES {
            let mut count = vec![0_u32; usize::from(lanes)];
            for i in 0..16_000 {
                count[usize::from(Lane::of_target(&format!("/user/actor-{i}"), lanes))] += 1;
            }
            let fair = 16_000 / u32::from(lanes);
            assert!(count.iter().all(|&n| n > fair * 8 / 10 && n < fair * 12 / 10), "{count:?}");
        }
    }
}
