//! Frames that wait for the sink.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::BytesMut;

use crate::frame::Run;

/// A run shorter than it is copied behind what waits: alone it would keep more memory than it counts for,
/// a kilobyte for a frame of nine bytes.
const SHORT: usize = 4 * 1024;

/// What is copied behind one run at most, as it is freed with it.
const TOGETHER: usize = 16 * 1024;

/// A run, and short ones that came behind it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) first: u64,
    /// How many frames there are, and how long they are together.
    pub(super) frames: u64,
    pub(super) len: usize,
    run: Run,
    short: BytesMut,
    pub(super) epoch: u64,
    /// The position of the instance that sent it.
    pub(super) position: Arc<AtomicU64>,
}

impl Waiting {
    pub(super) fn new(first: u64, run: Run, epoch: u64, position: Arc<AtomicU64>) -> Self {
        let (frames, len) = (run.frames, run.len);
        Self { first, frames, len, run, short: BytesMut::new(), epoch, position }
    }

    /// Takes frames that begin at `first`, too, if they are few, of the same connection, and come next.
    pub(super) fn take(
        &mut self,
        first: u64,
        run: Run,
        epoch: u64,
        position: &Arc<AtomicU64>,
    ) -> Result<(), Run> {
        let follows = self.first + self.frames == first
            && self.epoch == epoch
            && Arc::ptr_eq(&self.position, position);
        if !follows || run.len >= SHORT || self.short.len() + run.len > TOGETHER {
            return Err(run);
        }
        run.pieces.iter().for_each(|piece| self.short.extend_from_slice(piece));
        self.frames += run.frames;
        self.len += run.len;
        Ok(())
    }

    /// All frames in order; each piece begins and ends with one.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.run.pieces.iter().map(|piece| &piece[..]).chain([&self.short[..]])
    }

    /// What it keeps beside the run, in bytes.
    #[cfg(test)]
    pub(super) fn overhead(&self) -> usize {
        size_of::<Self>() + self.short.capacity()
    }
}
