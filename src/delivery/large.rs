//! Room for large frames.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for the large frames of one peer, whatever their lanes: each is granted it when it begins to come,
/// and gives it back when the sink has it. Without, every lane could hold one of the largest size.
#[derive(Debug, Clone)]
pub(crate) struct LargeFrames {
    /// In units of [`GRAIN`].
    room: Arc<Semaphore>,
    all: u32,
    /// Frames up to this length are not large: the lane's own budget is for them.
    above: usize,
}

/// A large frame's room.
#[derive(Debug)]
pub(crate) struct Grant(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

/// What room for large frames is counted in.
const GRAIN: usize = 1024;

impl LargeFrames {
    pub(super) fn new(above: usize, bytes: usize) -> Self {
        let all = u32::try_from(bytes / GRAIN).unwrap_or(u32::MAX);
        let all = all.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self { room: Arc::new(Semaphore::new(all as usize)), all, above }
    }

    /// Waits for room for a frame of `len` bytes; in order of asking. `None` if it is not large. Cancel-safe.
    pub(crate) async fn grant(&self, len: usize) -> Option<Grant> {
        if len <= self.above {
            return None;
        }
        let grains = u32::try_from(len.div_ceil(GRAIN)).unwrap_or(u32::MAX).min(self.all);
        // Never closed.
        Arc::clone(&self.room).acquire_many_owned(grains).await.ok().map(Grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn large_frames_share_their_room_and_small_ones_need_none() {
        const MIB: usize = 1 << 20;
        let large = LargeFrames::new(MIB, 32 * MIB);
        assert!(large.grant(MIB).await.is_none());
        let first = large.grant(16 * MIB + 4).await.expect("a large one");
        let limit = std::time::Duration::from_secs(1);
        let second = tokio::time::timeout(limit, large.grant(16 * MIB)).await;
        assert!(second.is_err(), "no room for a second one");
        assert!(large.grant(MIB).await.is_none(), "small ones do not wait");
        drop(first);
        large.grant(usize::MAX).await.expect("all of the room, for one larger than it");
    }
}
