//! Runs of whole frames, cut out of a stream's chunks.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use super::{PREFIX, frame_len, whole_frames};
use crate::error::FrameError;

/// Whole frames of one lane, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    /// Each begins and ends with a frame; prefixes included.
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) frames: u64,
    /// The length of all pieces.
    pub(crate) len: usize,
    /// Whether a piece is still where it was received.
    pub(crate) in_place: bool,
    /// What is to be given back when the frames are done with.
    pub(crate) held: Vec<Arc<dyn Debug + Send + Sync>>,
}

impl Run {
    /// The frames in memory of their own. A piece in place keeps the whole packet or batch of packets
    /// that it came in, so what is to wait for long is better copied; what was gathered is already.
    pub(crate) fn compact(&mut self) {
        if !std::mem::take(&mut self.in_place) {
            return;
        }
        let mut together = BytesMut::with_capacity(self.len);
        self.pieces.drain(..).for_each(|piece| together.extend_from_slice(&piece));
        self.pieces.push(together.freeze());
    }

    /// Pieces that may keep what they were received in.
    pub(crate) fn pieces_in_place(&self) -> usize {
        if self.in_place { self.pieces.len() } else { 0 }
    }

    /// Leaves out the first frames, `max` of them at most; returns how many.
    pub(crate) fn skip(&mut self, max: u64) -> Result<u64, FrameError> {
        let mut skipped = 0;
        while skipped < max {
            let Some(piece) = self.pieces.first_mut() else { break };
            let (frames, len) = whole_frames(piece, max - skipped)?;
            piece.advance(len);
            self.len -= len;
            skipped += frames;
            if piece.is_empty() {
                self.pieces.remove(0);
            } else if frames == 0 {
                break;
            }
        }
        self.frames -= skipped;
        Ok(skipped)
    }
}

/// Cuts the chunks of one stream into runs of whole frames.
///
/// Whole frames stay where they are in a chunk. A frame that straddles chunks is gathered in a buffer
/// that grows with the bytes that came, and never with a claimed length; the frames of a chunk that is
/// too small to be worth keeping go there too.
#[derive(Debug, Default)]
pub(crate) struct FrameDecoder {
    /// Whole frames that belong before what comes next, and behind them the beginning of another.
    gathered: BytesMut,
    /// The length of the whole ones.
    whole: usize,
}

/// Bytes that are made room for on a length prefix's word.
const CREDIT: usize = 256 * 1024;

/// A chunk with fewer bytes of whole frames is copied: it would keep more memory than it holds.
const WORTH_KEEPING: usize = 1024;

/// The least that is made room for, so that many small frames that straddle chunks share a block.
const BLOCK: usize = 1024;

impl FrameDecoder {
    /// Takes the stream's next chunks, which are emptied; returns the frames that they completed, if any.
    pub(crate) fn push_all(&mut self, chunks: &mut Vec<Bytes>) -> Result<Option<Run>, FrameError> {
        let mut run = Run::default();
        for mut chunk in chunks.drain(..) {
            if self.gathered.len() > self.whole && !self.finish_frame(&mut chunk, &mut run)? {
                continue;
            }
            let (frames, len) = whole_frames(&chunk, u64::MAX)?;
            run.frames += frames;
            if len >= WORTH_KEEPING {
                self.seal(&mut run);
                run.in_place = true;
                run.len += len;
                run.pieces.push(chunk.split_to(len));
            } else {
                self.gather(&chunk.split_to(len), 0);
                self.whole += len;
            }
            if !chunk.is_empty() {
                let claimed = frame_len(&chunk)?.unwrap_or(PREFIX);
                self.gather(&chunk, claimed.min(CREDIT));
            }
        }
        self.seal(&mut run);
        if self.gathered.is_empty() {
            // Lets go of the block, which an idle lane would otherwise keep.
            self.gathered = BytesMut::new();
        }
        Ok((run.frames > 0).then_some(run))
    }

    /// Bytes held of a frame that is not yet complete.
    pub(crate) fn pending(&self) -> usize {
        self.gathered.len() - self.whole
    }

    /// The length of the frame under way, prefix included; `None` if none is, or its prefix is not all there.
    pub(crate) fn claimed(&self) -> Result<Option<usize>, FrameError> {
        frame_len(&self.gathered[self.whole..])
    }

    /// Takes what the frame under way still wants off `chunk`; `false` if it wants more than that.
    fn finish_frame(&mut self, chunk: &mut Bytes, run: &mut Run) -> Result<bool, FrameError> {
        loop {
            // Its prefix first, if it is not all there.
            let begun = &self.gathered[self.whole..];
            let known = frame_len(begun)?;
            let missing = known.unwrap_or(PREFIX) - begun.len();
            let part = chunk.split_to(missing.min(chunk.len()));
            self.gather(&part, missing.min(CREDIT));
            if part.len() < missing {
                return Ok(false);
            }
            if known.is_some() {
                self.whole = self.gathered.len();
                run.frames += 1;
                return Ok(true);
            }
        }
    }

    /// Appends `bytes`, with room for `expected` where there is none for them.
    fn gather(&mut self, bytes: &[u8], expected: usize) {
        if self.gathered.capacity() - self.gathered.len() < bytes.len() {
            self.gathered.reserve(bytes.len().max(expected).max(BLOCK));
        }
        self.gathered.extend_from_slice(bytes);
    }

    /// Ends the piece that is being gathered, but for an incomplete frame at its end.
    fn seal(&mut self, run: &mut Run) {
        let whole = std::mem::take(&mut self.whole);
        if whole > 0 {
            run.len += whole;
            run.pieces.push(self.gathered.split_to(whole).freeze());
        }
    }
}
