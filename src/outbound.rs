//! What waits to be sent to one peer: a bounded byte queue per tell lane, which retains what was sent
//! until it is acknowledged, and a latest-wins queue for gossip.
//!
//! A tell is encoded straight into its lane's buffer under the lane's lock, and that is the only
//! lock it takes. A lane's frames are numbered from 0; the numbers go on over connections and
//! incarnations, so `accepted = acknowledged + lost + pending` can be read off at any moment:
//!
//! ```text
//!        acked        sent          next
//!          │ in flight  │   queued    │
//!   ───────┴────────────┴─────────────┴──►  sequence numbers
//! ```

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::Notify;

use crate::error::FrameError;
use crate::event::LostReason;
use crate::frame::{self, PREFIX, RemoteTellRef};
use crate::stats::{LaneStats, Lost};

mod gossip;
#[cfg(test)]
mod tests;

pub(crate) use gossip::GossipQueue;

/// What a chunk of small frames may grow to before the next one begins: enough that quinn's send
/// buffer has few segments, small enough that a lane's first bytes leave early.
pub(crate) const CHUNK: usize = 64 * 1024;

/// A lane's first buffer after it was idle; each further one doubles, up to [`CHUNK`].
const FIRST_BLOCK: usize = 2 * 1024;

/// The most points in time kept for the age of what waits.
const MAX_MARKS: usize = 128;

/// The bytes that all lanes of a node may hold together. Lanes take from it in grants of [`CHUNK`].
#[derive(Debug)]
pub(crate) struct NodeBudget {
    limit: usize,
    used: AtomicUsize,
    pub(crate) freed: Notify,
}

impl NodeBudget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), freed: Notify::new() }
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let within = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
    }

    fn give(&self, bytes: usize) {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            self.freed.notify_waiters();
        }
    }
}

/// Why a frame was not taken into a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
    Frame(FrameError),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) reason: LostReason,
}

/// The outbound side of one tell lane.
#[derive(Debug)]
pub(crate) struct TellLane {
    queue: Mutex<Queue>,
    /// Wakes the lane's writer.
    pub(crate) ready: Notify,
    /// Wakes those who wait for room, or for acknowledgements.
    pub(crate) progress: Notify,
    node: Arc<NodeBudget>,
    budget: usize,
}

#[derive(Debug)]
struct Queue {
    /// From `acked` on, in order; the last frames are in `tail`.
    chunks: VecDeque<Chunk>,
    tail: BytesMut,
    tail_frames: u64,
    block: usize,
    /// The first chunk that the current writer has not taken.
    cursor: usize,
    acked: u64,
    /// Frames before it were handed to some connection.
    sent: u64,
    next: u64,
    /// Bytes from `acked` on, and how many of them the node's budget has granted.
    held: usize,
    granted: usize,
    /// (when, `next` then), for the age of what is retained.
    marks: VecDeque<(Instant, u64)>,
    writer: Writer,
    /// Counts the writers; an earlier one that still runs gets nothing more.
    epoch: u64,
    closed: bool,
    totals: Totals,
}

#[derive(Debug, Default)]
struct Totals {
    accepted_bytes: u64,
    acked_frames: u64,
    acked_bytes: u64,
    lost: [Lost; LostReason::ALL.len()],
    refused_full: u64,
    resent: u64,
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
    Chunk(Bytes),
    /// Wait on [`TellLane::ready`].
    Nothing,
    /// Another writer has taken over, or none: stop.
    Detached,
    /// Everything was taken, and nothing more will come: end the lane.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    None,
    Waiting,
    Busy,
}

#[derive(Debug)]
struct Chunk {
    first: u64,
    frames: u64,
    bytes: Bytes,
}

impl TellLane {
    pub(crate) fn new(budget: usize, node: Arc<NodeBudget>) -> Self {
        let queue = Queue {
            chunks: VecDeque::new(),
            tail: BytesMut::new(),
            tail_frames: 0,
            block: FIRST_BLOCK,
            cursor: 0,
            acked: 0,
            sent: 0,
            next: 0,
            held: 0,
            granted: 0,
            marks: VecDeque::new(),
            writer: Writer::None,
            epoch: 0,
            closed: false,
            totals: Totals::default(),
        };
        let (ready, progress) = (Notify::new(), Notify::new());
        Self { queue: Mutex::new(queue), ready, progress, node, budget }
    }

    /// Takes a tell whose frame is `len` bytes long without its prefix.
    ///
    /// A frame larger than the whole budget is taken by an empty lane, so that the limit on frames
    /// is the same whatever the budget.
    pub(crate) fn push(&self, tell: &RemoteTellRef<'_>, len: usize) -> Result<Wake, Refused> {
        let len = len + PREFIX;
        let mut queue = self.lock();
        let q = &mut *queue;
        if q.closed {
            return Err(Refused::Closed);
        }
        let held = q.held + len;
        if held > self.budget && q.held > 0 {
            q.totals.refused_full += 1;
            return Err(Refused::Full);
        }
        if held > q.granted {
            let grant = (held - q.granted).next_multiple_of(CHUNK);
            if !self.node.take(grant) {
                q.totals.refused_full += 1;
                return Err(Refused::Full);
            }
            q.granted += grant;
        }
        q.make_room(len);
        if let Err(e) = frame::encode_tell(tell, &mut q.tail) {
            return Err(Refused::Frame(e));
        }
        q.tail_frames += 1;
        q.next += 1;
        q.held = held;
        q.totals.accepted_bytes += len as u64;
        Ok(match q.writer {
            Writer::Busy => Wake::Nobody,
            Writer::None if q.next - q.sent > 1 => Wake::Nobody,
            Writer::None => Wake::Driver,
            Writer::Waiting => {
                q.writer = Writer::Busy;
                drop(queue);
                self.ready.notify_one();
                Wake::Writer
            }
        })
    }

    /// Attaches a writer for a new connection, which begins at `resume` (the peer's next expected
    /// sequence number), or at the first unacknowledged frame.
    pub(crate) fn attach(&self, resume: Option<u64>) -> Result<Attached, String> {
        let mut q = self.lock();
        let from = resume.unwrap_or(q.acked);
        if from > q.sent {
            return Err(format!("the peer expects frame {from}, but {} is the next", q.sent));
        }
        // What the peer has received but not yet acknowledged stays retained, and is not resent.
        let from = from.max(q.acked);
        q.split_at(from);
        q.cursor = q.chunks.partition_point(|chunk| chunk.first < from);
        q.totals.resent += q.sent - from;
        q.writer = Writer::Busy;
        q.epoch += 1;
        Ok(Attached { epoch: q.epoch, first: from })
    }

    /// Detaches the writer: its connection is gone.
    pub(crate) fn detach(&self) {
        let mut q = self.lock();
        q.writer = Writer::None;
        q.epoch += 1;
    }

    /// The next chunk for the writer that attached as `epoch`.
    pub(crate) fn take(&self, epoch: u64) -> Taken {
        let mut q = self.lock();
        if q.epoch != epoch {
            return Taken::Detached;
        }
        if q.cursor == q.chunks.len() {
            q.seal();
        }
        let Some(chunk) = q.chunks.get(q.cursor) else {
            q.writer = Writer::Waiting;
            return Taken::Nothing;
        };
        let (end, bytes) = (chunk.first + chunk.frames, chunk.bytes.clone());
        q.cursor += 1;
        q.sent = q.sent.max(end);
        Taken::Chunk(bytes)
    }

    /// Whether there is something to send and nobody who does.
    pub(crate) fn needs_writer(&self) -> bool {
        let q = self.lock();
        q.writer == Writer::None && q.next > q.acked
    }

    /// The peer has handled all frames before `next`.
    pub(crate) fn ack(&self, next: u64) -> Result<(), String> {
        let mut q = self.lock();
        if next > q.sent {
            return Err(format!("acknowledges frame {next}, but only {} were sent", q.sent));
        }
        let (frames, bytes) = q.drop_before(next);
        q.totals.acked_frames += frames;
        q.totals.acked_bytes += bytes;
        self.freed(q);
        Ok(())
    }

    /// The peer is a new instance: what was sent to the old one is lost, the rest is for the new.
    pub(crate) fn restart(&self) -> Option<Loss> {
        let mut q = self.lock();
        let sent = q.sent;
        let gone = q.drop_before(sent);
        self.lose(gone, LostReason::PeerRestarted, q)
    }

    /// Gives up what was accepted before `now - age`, unless a writer is at it: a stream has no gaps.
    pub(crate) fn expire(&self, now: Instant, age: Duration) -> Option<Loss> {
        let mut q = self.lock();
        if q.writer != Writer::None {
            return None;
        }
        let mut before = q.acked;
        while let Some(&(at, next)) = q.marks.front() {
            if now.saturating_duration_since(at) < age {
                break;
            }
            before = before.max(next);
            q.marks.pop_front();
        }
        let gone = q.drop_before(before);
        self.lose(gone, LostReason::Expired, q)
    }

    /// Notes the time for [`expire`](Self::expire); called every now and then.
    pub(crate) fn mark(&self, now: Instant) {
        let mut q = self.lock();
        while q.marks.front().is_some_and(|&(_, next)| next <= q.acked) {
            q.marks.pop_front();
        }
        if q.next > q.acked && q.marks.back().is_none_or(|&(_, next)| next < q.next) {
            let next = q.next;
            if q.marks.len() == MAX_MARKS {
                q.marks.pop_back();
            }
            q.marks.push_back((now, next));
        }
    }

    /// Takes nothing more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.progress.notify_waiters();
    }

    /// Gives up everything; for the end of a shutdown.
    pub(crate) fn abandon(&self) -> Option<Loss> {
        let mut q = self.lock();
        q.closed = true;
        let next = q.next;
        let gone = q.drop_before(next);
        self.lose(gone, LostReason::ShutDown, q)
    }

    /// (first unacknowledged, next, frames lost so far).
    pub(crate) fn positions(&self) -> (u64, u64, u64) {
        let q = self.lock();
        (q.acked, q.next, q.totals.lost.iter().map(|lost| lost.frames).sum())
    }

    /// Whether everything accepted was acknowledged or reported lost.
    pub(crate) fn is_settled(&self) -> bool {
        let q = self.lock();
        q.acked == q.next
    }

    pub(crate) fn stats(&self) -> LaneStats {
        let q = self.lock();
        // Sent frames are whole chunks, but for the part of one that was acknowledged.
        let taken = q.chunks.partition_point(|chunk| chunk.first < q.sent);
        let in_flight_bytes: usize = q.chunks.range(..taken).map(|chunk| chunk.bytes.len()).sum();
        LaneStats {
            accepted_frames: q.next,
            accepted_bytes: q.totals.accepted_bytes,
            acknowledged_frames: q.totals.acked_frames,
            acknowledged_bytes: q.totals.acked_bytes,
            lost: q.totals.lost,
            queued_frames: q.next - q.sent,
            queued_bytes: (q.held - in_flight_bytes) as u64,
            in_flight_frames: q.sent - q.acked,
            in_flight_bytes: in_flight_bytes as u64,
            refused_full: q.totals.refused_full,
            resent_frames: q.totals.resent,
        }
    }

    fn lose(
        &self,
        (frames, bytes): (u64, u64),
        reason: LostReason,
        mut queue: MutexGuard<'_, Queue>,
    ) -> Option<Loss> {
        let lost = &mut queue.totals.lost[reason.index()];
        lost.frames += frames;
        lost.bytes += bytes;
        self.freed(queue);
        (frames > 0).then_some(Loss { frames, bytes, reason })
    }

    /// Gives grants back, and wakes those who wait for it.
    fn freed(&self, mut queue: MutexGuard<'_, Queue>) {
        let keep = queue.held.next_multiple_of(CHUNK);
        let surplus = queue.granted.saturating_sub(keep);
        queue.granted -= surplus;
        drop(queue);
        self.node.give(surplus);
        self.progress.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here can panic half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Makes `tail` fit for `len` more bytes, in blocks that grow while the lane is busy.
    fn make_room(&mut self, len: usize) {
        if self.tail.len() + len > CHUNK {
            self.seal();
        }
        if self.tail.capacity() - self.tail.len() >= len {
            return;
        }
        // Sealing before the block ends keeps the encoded bytes where they are.
        self.seal();
        self.tail = BytesMut::with_capacity(len.max(self.block));
        self.block = (self.block * 2).min(CHUNK);
    }

    /// Ends the chunk that is being filled.
    fn seal(&mut self) {
        if self.tail_frames > 0 {
            let frames = std::mem::take(&mut self.tail_frames);
            let bytes = self.tail.split().freeze();
            self.chunks.push_back(Chunk { first: self.next - frames, frames, bytes });
        }
    }

    /// Makes a chunk begin at frame `at`, which is not acknowledged yet.
    fn split_at(&mut self, at: u64) {
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

    /// Forgets all frames before `next`; returns how many, and their bytes.
    fn drop_before(&mut self, next: u64) -> (u64, u64) {
        let (mut frames, mut bytes) = (0, 0);
        if next > self.next - self.tail_frames {
            self.seal();
        }
        while let Some(chunk) = self.chunks.front_mut() {
            if chunk.first >= next {
                break;
            }
            let gone = if chunk.first + chunk.frames <= next {
                self.cursor = self.cursor.saturating_sub(1);
                self.chunks.pop_front()
            } else {
                Some(chunk.split_to(next))
            };
            let Some(gone) = gone else { break };
            frames += gone.frames;
            bytes += gone.bytes.len();
        }
        self.held -= bytes;
        self.acked = self.acked.max(next);
        self.sent = self.sent.max(self.acked);
        if self.held == 0 {
            // An idle lane holds no buffer.
            self.tail = BytesMut::new();
            self.block = FIRST_BLOCK;
        }
        (frames, bytes as u64)
    }
}

impl Chunk {
    /// Splits off the frames before `at`, which lies within.
    fn split_to(&mut self, at: u64) -> Self {
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
