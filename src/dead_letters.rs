//! Lost tells, given back to the user as far as they still exist.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::address::Address;
use crate::event::LostReason;
use crate::frame::{RemoteTellRef, TellDecoder, next_frame};
use crate::outbound::Loss;

/// A tell that was accepted and then reported lost; see
/// [`dead_letters`](crate::ClusterTransport::dead_letters).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter<'a> {
    /// The peer that it was for.
    pub to: &'a Address,
    /// The tell.
    pub tell: RemoteTellRef<'a>,
    /// Why it was lost.
    pub reason: LostReason,
    /// Whether it was handed to a connection: then the peer may have handled it.
    pub sent: bool,
}

/// What the user does with a dead letter.
pub(crate) type DeadLetters = Box<dyn Fn(DeadLetter<'_>) + Send + Sync>;

/// Gives each tell of `loss` to `hook`, in order; a panic costs the letter that it comes from. Returns
/// how many panicked. Blocks as long as the hook does.
pub(crate) fn give_back(to: &Address, loss: &Loss, hook: &DeadLetters) -> u64 {
    let (mut number, mut panics) = (0, 0);
    let mut decoder = TellDecoder::default();
    for chunk in &loss.chunks {
        let mut rest = &chunk[..];
        while let Some(frame) = next_frame(&mut rest) {
            let sent = number < loss.sent;
            number += 1;
            // Our own encoding, of whole frames.
            let Ok(tell) = decoder.decode(frame) else { continue };
            let letter = DeadLetter { to, tell, reason: loss.reason, sent };
            panics += u64::from(catch_unwind(AssertUnwindSafe(|| hook(letter))).is_err());
        }
    }
    panics
}
