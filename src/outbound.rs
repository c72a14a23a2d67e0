//! What waits to be sent to one peer: a bounded byte queue per tell lane, which retains what was sent
//! until it is acknowledged, and a latest-wins queue for gossip.
//!
//! A tell is encoded into its lane's buffer under the lane's lock, and that is the only lock it takes. A
//! lane's frames are numbered from 0; the numbers go on over connections and incarnations, so
//! `accepted = acknowledged + lost + pending` can be read off at any moment:
//!
//! ```text
//!        acked        sent          next
//!          │ in flight  │   queued    │
//!   ───────┴────────────┴─────────────┴──►  sequence numbers
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::error::{BudgetScope, FrameError};
use crate::event::LostReason;

mod gossip;
mod lane;
mod queue;
#[cfg(test)]
mod tests;

pub(crate) use gossip::GossipQueue;
pub(crate) use lane::TellLane;

/// What a chunk of small frames may grow to before the next one begins: enough that quinn's send
/// buffer has few segments, small enough that a lane's first bytes leave early.
pub(crate) const CHUNK: usize = 64 * 1024;

/// The largest segment that quinn is handed. A frame a little over a chunk goes as one, for a tail of a few
/// bytes costs as much as another chunk.
pub(crate) const PIECE: usize = CHUNK + CHUNK / 4;

/// Bytes that wait for a fast writer, beyond which who can wait does. Filling a whole budget of 32 MiB
/// would make no tell leave earlier, and each go through memory that has left the processor's caches: by a
/// tenth slower at 64 KiB.
const AHEAD: usize = 1024 * 1024;

/// A writer that does not catch up by half of [`AHEAD`] in this time (100 MB/s) is slow: caches are no
/// matter then, and a sender of several lanes that waits for one would leave the others empty.
pub(crate) const CATCH_UP: Duration = Duration::from_millis(5);

/// Accepted bytes that count as one step of a task, of the 128 or so that tokio lets it take before others
/// have their turn: a step for every tell of a few bytes would mean turns, and packets, of 10 KiB.
const UNIT: u64 = 8 * 1024;

/// A segment below it is small.
const SMALL: usize = 4 * 1024;

/// Chunks in flight beyond which small ones are held back a little.
const CROWD: usize = 64;

/// The bytes that several lanes may hold together: those to one peer, within those of the node. Lanes take
/// from it in grants of [`CHUNK`].
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
    pub(crate) freed: Notify,
    whole: Option<Arc<Budget>>,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), freed: Notify::new(), whole: None }
    }

    /// A part of `whole`, whose limit holds too.
    pub(crate) fn within(whole: &Arc<Self>, limit: usize) -> Self {
        Self { whole: Some(Arc::clone(whole)), ..Self::new(limit) }
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> Result<(), BudgetScope> {
        let within = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= self.limit);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_err() {
            return Err(match self.whole {
                Some(_) => BudgetScope::Peer,
                None => BudgetScope::Node,
            });
        }
        let taken = self.whole.as_ref().map_or(Ok(()), |whole| whole.take(bytes));
        if taken.is_err() {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            // Somebody may have found no room for these.
            self.freed.notify_waiters();
        }
        taken
    }

    fn give(&self, bytes: usize) {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            self.freed.notify_waiters();
            if let Some(whole) = &self.whole {
                whole.give(bytes);
            }
        }
    }
}

/// Why a frame was not taken into a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    Full(BudgetScope),
    /// It is not full, but who can wait is [`AHEAD`] of its writer.
    Ahead,
    Closed,
    Quarantined,
    Frame(FrameError),
}

/// Whether who pushes can wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// No: the whole budget is there for it.
    None,
    /// Yes, so it is let no further than [`AHEAD`] before a fast writer.
    Waits,
}

/// What a push did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) wake: Wake,
    /// It was a unit's worth of work of the task that pushes: see [`UNIT`].
    pub(crate) unit: bool,
}

/// Whom a push has to wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Somebody is at it already.
    Nobody,
    /// The lane's writer, which waits on [`TellLane::ready`]; it has been woken.
    Writer,
    /// The peer's driver: there is no writer yet.
    Driver,
}

/// Frames lost together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) reason: LostReason,
    /// How many of them, the first ones, were handed to some connection.
    pub(crate) sent: u64,
    /// The frames themselves, in order.
    pub(crate) chunks: Vec<Bytes>,
}

/// A writer's right to take chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) epoch: u64,
    /// Sequence number of the first frame that it will get.
    pub(crate) first: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taken {
    Chunk {
        bytes: Bytes,
        /// It is small, and so are many before it that are not acknowledged yet.
        crowded: bool,
    },
    /// Wait on [`TellLane::ready`].
    Nothing,
    /// Another writer has taken over, or none: stop.
    Detached,
    /// Everything was taken, and nothing more will come: end the lane.
    Closed,
}
