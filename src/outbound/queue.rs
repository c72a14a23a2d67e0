//! The frames of one tell lane, as they lie in memory: pure, and without a lock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::{AHEAD, CHUNK, Loss, SMALL};
use crate::address::Incarnation;
use crate::event::LostReason;
use crate::frame::{self, RemoteTellRef};
use crate::stats::{LaneStats, Lost, PairStats};

/// A lane's first buffer after it was idle; each further one doubles, up to [`CHUNK`].
const FIRST_BLOCK: usize = 2 * 1024;

/// Small frames are encoded into memory that stays in the processor's nearest cache, and copied into the lane's
/// block so many bytes at a time. A block's memory was last read on another core; a lock that is given back
/// waits for each write to it, and with many lanes in turn that is once or twice a tell.
const STAGE: usize = 1024;

/// A frame up to it is small.
const STAGED: usize = 256;

/// Room for chunks that an empty lane keeps.
const FEW_CHUNKS: usize = 64;

/// Points in time kept, per age after which frames expire.
const MARKS: u32 = 64;

#[derive(Debug)]
pub(super) struct Queue {
    /// From `acked` on, in order; the last frames are in `tail`.
    pub(super) chunks: VecDeque<Chunk>,
    tail: BytesMut,
    tail_frames: u64,
    /// The last small frames, which go into `tail` together: see [`STAGE`].
    staged: BytesMut,
    staged_frames: u64,
    block: usize,
    /// Acknowledged before the current writer has taken them, since they went over a connection before its
    /// own; it takes them first, for its stream numbers frames by counting. No budget has them any more. They
    /// are what the peer's sink had still to handle of the old connection's: its stream's window or two.
    pub(super) overtaken: VecDeque<Chunk>,
    /// The first chunk that the current writer has not taken.
    pub(super) cursor: usize,
    /// Bytes of the chunks before it.
    pub(super) taken: usize,
    /// Somebody waits for the writer to catch up.
    pub(super) awaited: bool,
    /// Waiting for it was in vain.
    pub(super) slow: bool,
    pub(super) acked: u64,
    /// Frames before it were handed to some connection.
    pub(super) sent: u64,
    pub(super) next: u64,
    /// Bytes from `acked` on, and how many of them the node's budget has granted.
    pub(super) held: usize,
    pub(super) granted: usize,
    /// (when, `next` then), for the age of what is retained.
    pub(super) marks: VecDeque<(Instant, u64)>,
    pub(super) writer: Writer,
    /// When the last writer went.
    pub(super) detached: Option<Instant>,
    /// Counts the writers; an earlier one that still runs gets nothing more.
    pub(super) epoch: u64,
    pub(super) closed: bool,
    /// The peer is quarantined: nothing is taken for it.
    pub(super) quarantined: bool,
    pub(super) totals: Totals,
    /// The pairs of incarnations before the current one.
    pub(super) pairs: PairStats,
}

#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) accepted_bytes: u64,
    pub(super) acked_frames: u64,
    pub(super) acked_bytes: u64,
    pub(super) lost: [Lost; LostReason::ALL.len()],
    pub(super) refused_full: u64,
    pub(super) resent: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    None,
    Waiting,
    Busy,
}

#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) first: u64,
    pub(super) frames: u64,
    pub(super) bytes: Bytes,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            chunks: VecDeque::new(),
            tail: BytesMut::new(),
            tail_frames: 0,
            staged: BytesMut::new(),
            staged_frames: 0,
            block: FIRST_BLOCK,
            overtaken: VecDeque::new(),
            cursor: 0,
            taken: 0,
            awaited: false,
            slow: false,
            acked: 0,
            sent: 0,
            next: 0,
            held: 0,
            granted: 0,
            marks: VecDeque::new(),
            writer: Writer::None,
            detached: None,
            epoch: 0,
            closed: false,
            quarantined: false,
            totals: Totals::default(),
            pairs: PairStats::default(),
        }
    }

    /// Notes that everything accepted so far was accepted before `now`; often enough to tell which is
    /// `age` old.
    pub(super) fn mark(&mut self, now: Instant, age: Duration) {
        while self.marks.front().is_some_and(|&(_, next)| next <= self.acked) {
            self.marks.pop_front();
        }
        // Of those of a full age, the last tells all.
        while self.marks.get(1).is_some_and(|&(at, _)| now.saturating_duration_since(at) >= age) {
            self.marks.pop_front();
        }
        let due = self.marks.back().is_none_or(|&(at, next)| {
            next < self.next && now.saturating_duration_since(at) >= age / MARKS
        });
        if self.next > self.acked && due {
            self.marks.push_back((now, self.next));
        }
    }

    /// The next chunk for the writer, and the number behind its last frame. Small ones go together.
    pub(super) fn take(&mut self) -> Option<(u64, Bytes)> {
        if let Some(chunk) = self.overtaken.pop_front() {
            return Some((chunk.first + chunk.frames, chunk.bytes));
        }
        let first = self.chunks.get(self.cursor)?;
        let (mut end, bytes) = (first.first + first.frames, first.bytes.clone());
        self.cursor += 1;
        self.taken += bytes.len();
        let fits = |len: usize, next: &Chunk| len + next.bytes.len() <= CHUNK;
        match self.chunks.get(self.cursor) {
            Some(next) if bytes.len() < SMALL && fits(bytes.len(), next) => {}
            _ => return Some((end, bytes)),
        }
        let mut together = BytesMut::from(&bytes[..]);
        while let Some(next) = self.chunks.get(self.cursor).filter(|c| fits(together.len(), c)) {
            together.extend_from_slice(&next.bytes);
            end = next.first + next.frames;
            self.cursor += 1;
        }
        self.taken += together.len() - bytes.len();
        Some((end, together.freeze()))
    }

    /// Bytes that no writer has taken.
    pub(super) fn ahead(&self) -> usize {
        self.held - self.taken
    }

    /// Whether who can wait is to wait for the writer.
    pub(super) fn is_ahead(&self) -> bool {
        self.writer == Writer::Busy && !self.slow && self.ahead() >= AHEAD
    }

    /// All frames before it were accepted `age` ago or earlier, as far as marks tell.
    pub(super) fn accepted_before(&self, now: Instant, age: Duration) -> u64 {
        let old = |&&(at, _): &&(Instant, u64)| now.saturating_duration_since(at) >= age;
        self.marks.iter().take_while(old).last().map_or(self.acked, |&(_, next)| next)
    }

    pub(super) fn stats(&self) -> LaneStats {
        // Sent frames are whole chunks, but for the part of one that was acknowledged.
        let taken = self.chunks.partition_point(|chunk| chunk.first < self.sent);
        let in_flight_bytes: usize =
            self.chunks.range(..taken).map(|chunk| chunk.bytes.len()).sum();
        LaneStats {
            accepted_frames: self.next,
            accepted_bytes: self.totals.accepted_bytes,
            acknowledged_frames: self.totals.acked_frames,
            acknowledged_bytes: self.totals.acked_bytes,
            lost: self.totals.lost,
            queued_frames: self.next - self.sent,
            queued_bytes: (self.held - in_flight_bytes) as u64,
            in_flight_frames: self.sent - self.acked,
            in_flight_bytes: in_flight_bytes as u64,
            refused_full: self.totals.refused_full,
            resent_frames: self.totals.resent,
            // The driver knows of these.
            stuck_for: None,
            stuck_episodes: 0,
        }
    }

    /// Gives up what comes before `next`.
    pub(super) fn lose(&mut self, next: u64, reason: LostReason) -> Option<Loss> {
        let sent = self.sent.min(next).saturating_sub(self.acked);
        let mut chunks = Vec::new();
        let (frames, bytes) = self.take_before(next, |gone, _| chunks.push(gone.bytes));
        let lost = &mut self.totals.lost[reason.index()];
        lost.frames += frames;
        lost.bytes += bytes;
        (frames > 0).then_some(Loss { frames, bytes, reason, sent, chunks })
    }

    /// The peer is another instance, of `incarnation`: what was sent to the one before is lost, the rest is
    /// for this one. The first has nothing before it.
    pub(super) fn restart(&mut self, incarnation: Incarnation) -> Option<Loss> {
        let loss = self.lose(self.sent, LostReason::PeerRestarted);
        let mut pairs = self.pairs;
        pairs.begin(incarnation, || self.stats());
        self.pairs = pairs;
        loss
    }

    /// Appends a tell's frame, which takes `len` bytes with its prefix, and `frame_len` without.
    pub(super) fn append(&mut self, tell: &RemoteTellRef<'_>, frame_len: u32, len: usize) {
        if len > STAGED || self.staged.len() + len > STAGE {
            self.unstage();
        }
        if len > STAGED {
            self.make_room(len);
            frame::encode_tell(tell, frame_len, &mut self.tail);
            self.tail_frames += 1;
        } else {
            if self.staged.capacity() == 0 {
                self.staged = BytesMut::with_capacity(STAGE);
            }
            frame::encode_tell(tell, frame_len, &mut self.staged);
            self.staged_frames += 1;
        }
        self.next += 1;
    }

    fn unstage(&mut self) {
        if self.staged_frames > 0 {
            self.make_room(self.staged.len());
            self.tail.extend_from_slice(&self.staged);
            self.tail_frames += std::mem::take(&mut self.staged_frames);
            self.staged.clear();
        }
    }

    /// Makes `tail` fit for `len` more bytes, in blocks that grow while the lane is busy.
    fn make_room(&mut self, len: usize) {
        if self.tail.len() + len > CHUNK {
            self.end_chunk();
        }
        if self.tail.capacity() - self.tail.len() >= len {
            return;
        }
        // Ending the chunk before the block ends keeps the encoded bytes where they are.
        self.end_chunk();
        self.tail = BytesMut::with_capacity(len.max(self.block));
        self.block = (self.block * 2).min(CHUNK);
    }

    /// Ends the chunk that is being filled.
    pub(super) fn seal(&mut self) {
        self.unstage();
        self.end_chunk();
    }

    fn end_chunk(&mut self) {
        if self.tail_frames > 0 {
            let frames = std::mem::take(&mut self.tail_frames);
            let bytes = self.tail.split().freeze();
            let first = self.next - self.staged_frames - frames;
            self.chunks.push_back(Chunk { first, frames, bytes });
        }
    }

    /// Makes a chunk begin at frame `at`, which is not acknowledged yet.
    pub(super) fn split_at(&mut self, at: u64) {
        self.seal();
        let index = self.chunks.partition_point(|chunk| chunk.first + chunk.frames <= at);
        let Some(chunk) = self.chunks.get_mut(index) else { return };
        if chunk.first < at {
            let head = chunk.split_to(at);
            self.chunks.insert(index, head);
            if self.cursor > index {
                self.cursor += 1;
            }
        }
    }

    /// All frames before `next` are acknowledged; returns how many are so by that, and their bytes.
    pub(super) fn acknowledge(&mut self, next: u64) -> (u64, u64) {
        let mut overtaken = std::mem::take(&mut self.overtaken);
        let has_writer = self.writer != Writer::None;
        let done = self.take_before(next, |gone, was_taken| {
            if has_writer && !was_taken {
                overtaken.push_back(gone);
            }
        });
        self.overtaken = overtaken;
        done
    }

    /// Forgets all frames before `next`, giving them to `keep`, and whether the writer has taken them;
    /// returns how many, and their bytes.
    fn take_before(&mut self, next: u64, mut keep: impl FnMut(Chunk, bool)) -> (u64, u64) {
        let (mut frames, mut bytes) = (0, 0);
        if next > self.next - self.staged_frames - self.tail_frames {
            self.seal();
        }
        while let Some(chunk) = self.chunks.front_mut() {
            if chunk.first >= next {
                break;
            }
            let was_taken = self.cursor > 0;
            let gone = if chunk.first + chunk.frames <= next {
                self.cursor = self.cursor.saturating_sub(1);
                self.chunks.pop_front()
            } else {
                Some(chunk.split_to(next))
            };
            let Some(gone) = gone else { break };
            if was_taken {
                self.taken -= gone.bytes.len();
            }
            frames += gone.frames;
            bytes += gone.bytes.len();
            keep(gone, was_taken);
        }
        self.held -= bytes;
        self.acked = self.acked.max(next);
        self.sent = self.sent.max(self.acked);
        if self.held == 0 {
            // An idle lane holds no buffer to speak of.
            (self.tail, self.staged) = (BytesMut::new(), BytesMut::new());
            self.block = FIRST_BLOCK;
            self.chunks.shrink_to(FEW_CHUNKS);
        }
        (frames, bytes as u64)
    }
}

impl Chunk {
    /// Splits off the frames before `at`, which lies within.
    pub(super) fn split_to(&mut self, at: u64) -> Self {
        let frames = at - self.first;
        // Our own encoding: whole frames, every one of them counted when it was pushed.
        let len = frame::whole_frames(&self.bytes, frames).map_or(self.bytes.len(), |(_, len)| len);
        let head = Self { first: self.first, frames, bytes: self.bytes.slice(..len) };
        self.bytes.advance(len);
        self.first = at;
        self.frames -= frames;
        head
    }
}
