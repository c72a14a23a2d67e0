//! The inbound side of one peer: whole frames wait per lane, bounded in bytes, and are handed to the
//! sink by a blocking thread of the lane's own.
//!
//! What was received belongs to the peer's instance and not to a connection: the queue outlives
//! cuts, and a frame is received once whatever connection it came on. A connection's readers carry
//! an epoch, and are fenced by the next one before it says where it resumes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};

use crate::control::{Instance, Resume};
use crate::error::FrameError;
use crate::frame::Run;
use crate::lane::Lane;
use crate::stats::ReceivedStats;

mod hand_over;
mod large;
#[cfg(test)]
mod tests;
mod waiting;

pub(crate) use hand_over::deliver;
pub(crate) use large::{Grant, LargeFrames};
use waiting::Waiting;

/// Pieces from one peer that may wait for the sink where they came in, in all its lanes. Each may keep a
/// batch of packets, of up to 64 KiB.
pub(crate) const IN_PLACE: usize = 128;

/// Delivered bytes that are acknowledged without delay: few, so that the sender's copies of them are freed
/// and used again while they are still in its caches.
const ACKNOWLEDGE: usize = 512 * 1024;

/// All lanes from one peer.
#[derive(Debug)]
pub(crate) struct Inbound {
    state: Mutex<InboundState>,
    /// Something was delivered that is not acknowledged.
    pub(crate) delivered: Notify,
    /// So much was delivered that the acknowledgement must not wait.
    pub(crate) ack_now: Notify,
    /// A lane's delivery has come to rest.
    rested: Notify,
    unacknowledged: AtomicUsize,
    /// Bytes that one lane may hold; its reader waits beyond.
    budget: usize,
    large: LargeFrames,
    /// How many more pieces may wait where they were received.
    in_place: Arc<Semaphore>,
    pub(crate) gossip_received: AtomicU64,
}

#[derive(Debug, Default)]
struct InboundState {
    epoch: u64,
    instance: Option<Instance>,
    lanes: BTreeMap<Lane, Arc<InboundLane>>,
}

impl Inbound {
    /// `large`: bytes of frames over `budget` that all lanes may hold.
    pub(crate) fn new(budget: usize, large: usize) -> Self {
        Self {
            large: LargeFrames::new(budget, large),
            in_place: Arc::new(Semaphore::new(IN_PLACE)),
            state: Mutex::default(),
            delivered: Notify::new(),
            ack_now: Notify::new(),
            rested: Notify::new(),
            unacknowledged: AtomicUsize::new(0),
            budget,
            gossip_received: AtomicU64::new(0),
        }
    }

    /// Where its lanes ask for room for large frames.
    pub(crate) fn large(&self) -> LargeFrames {
        self.large.clone()
    }

    /// Bytes that one lane may hold.
    pub(crate) fn budget(&self) -> usize {
        self.budget
    }

    /// Leaves a run where it was received, if there are few such pieces; else it is copied.
    pub(crate) fn settle(&self, run: &mut Run) {
        let Ok(pieces) = u32::try_from(run.pieces_in_place()) else { return run.compact() };
        match Arc::clone(&self.in_place).try_acquire_many_owned(pieces) {
            Ok(kept) => run.held.push(Arc::new(kept)),
            Err(_) => run.compact(),
        }
    }

    /// Begins a new epoch: from here on nothing that an earlier connection's readers hold is taken.
    pub(crate) fn fence(&self) -> u64 {
        let mut state = self.lock();
        state.epoch += 1;
        for lane in state.lanes.values() {
            lane.lock().epoch = state.epoch;
            // Readers that wait for room find out.
            lane.room.notify_waiters();
        }
        state.epoch
    }

    /// The present connection's.
    pub(crate) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// Takes `instance` for the peer's. Numbers of an earlier one mean nothing any more; what was
    /// received from it is still handed to the sink, before anything new.
    pub(crate) fn adopt(&self, instance: Instance) {
        let mut state = self.lock();
        if state.instance.replace(instance).is_some_and(|known| known != instance) {
            for lane in state.lanes.values() {
                lane.lock().restart();
            }
        }
    }

    /// Where the peer is to resume.
    pub(crate) fn resume(&self) -> Option<Resume> {
        let state = self.lock();
        let next =
            |(lane, inbound): (&Lane, &Arc<InboundLane>)| Some((*lane, inbound.lock().next?));
        Some(Resume { of: state.instance?, next: state.lanes.iter().filter_map(next).collect() })
    }

    /// The lane for a reader of `epoch`; `None` if that is over.
    pub(crate) fn lane(&self, epoch: u64, lane: Lane) -> Option<Arc<InboundLane>> {
        let mut state = self.lock();
        if state.epoch != epoch {
            return None;
        }
        let new = || Arc::new(InboundLane::new(lane, epoch));
        Some(Arc::clone(state.lanes.entry(lane).or_insert_with(new)))
    }

    /// What can be acknowledged per lane: the next sequence number.
    pub(crate) fn positions(&self) -> Vec<(Lane, u64)> {
        self.unacknowledged.store(0, Ordering::Relaxed);
        let state = self.lock();
        let position = |(lane, inbound): (&Lane, &Arc<InboundLane>)| {
            let inbound = inbound.lock();
            inbound.next.map(|_| (*lane, inbound.position.load(Ordering::Acquire)))
        };
        state.lanes.iter().filter_map(position).collect()
    }

    /// What was delivered is to be acknowledged now, however little it is.
    pub(crate) fn ack_soon(&self) {
        self.delivered.notify_one();
        self.ack_now.notify_one();
    }

    /// Whether so much is unacknowledged that it must not wait for more.
    pub(crate) fn ack_is_urgent(&self) -> bool {
        self.unacknowledged.load(Ordering::Relaxed) >= self.ack_threshold()
    }

    /// Whether something was delivered that is not acknowledged, or is being delivered.
    pub(crate) fn owes_acknowledgement(&self) -> bool {
        self.unacknowledged.load(Ordering::Relaxed) > 0 || !self.is_settled()
    }

    /// Whether nothing received waits for the sink.
    pub(crate) fn is_settled(&self) -> bool {
        self.lock().lanes.values().all(|lane| {
            let lane = lane.lock();
            lane.queue.is_empty() && !lane.delivering
        })
    }

    /// Waits until nothing received waits for the sink. Cancel-safe.
    pub(crate) async fn settled(&self) {
        loop {
            let rested = self.rested.notified();
            tokio::pin!(rested);
            rested.as_mut().enable();
            if self.is_settled() {
                return;
            }
            rested.await;
        }
    }

    pub(crate) fn stats(&self) -> Vec<(Lane, ReceivedStats)> {
        self.lock().lanes.iter().map(|(lane, inbound)| (*lane, inbound.stats())).collect()
    }

    /// Takes note of delivered bytes, and wakes the acknowledgements' writer.
    fn note_delivered(&self, bytes: usize) {
        let before = self.unacknowledged.fetch_add(bytes, Ordering::Relaxed);
        if before == 0 {
            self.delivered.notify_one();
        }
        if before < self.ack_threshold() && before + bytes >= self.ack_threshold() {
            self.ack_now.notify_one();
        }
    }

    fn ack_threshold(&self) -> usize {
        (self.budget / 4).min(ACKNOWLEDGE)
    }

    fn lock(&self) -> MutexGuard<'_, InboundState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One lane from one peer.
#[derive(Debug)]
pub(crate) struct InboundLane {
    lane: Lane,
    state: Mutex<LaneState>,
    room: Notify,
}

#[derive(Debug)]
struct LaneState {
    epoch: u64,
    /// The next sequence number to be received; `None` before the first frame of the instance.
    next: Option<u64>,
    /// The next sequence number to be delivered, of the current instance.
    position: Arc<AtomicU64>,
    queue: VecDeque<Waiting>,
    bytes: usize,
    /// A thread is handing frames to the sink.
    delivering: bool,
    stats: ReceivedStats,
}

/// What became of received frames.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Taken; a thread is at the lane already.
    Queued,
    /// Taken; the caller starts [`deliver`] on a thread.
    StartDelivery,
    /// The reader's connection was replaced.
    Fenced,
}

impl InboundLane {
    fn new(lane: Lane, epoch: u64) -> Self {
        let state = LaneState {
            epoch,
            next: None,
            position: Arc::default(),
            queue: VecDeque::new(),
            bytes: 0,
            delivering: false,
            stats: ReceivedStats::default(),
        };
        Self { lane, state: Mutex::new(state), room: Notify::new() }
    }

    /// Takes frames that begin at `first`. Those that were received before are left out; a gap is
    /// what the sender gave up (and reported) meanwhile.
    pub(crate) fn push(&self, epoch: u64, first: u64, run: Run) -> Result<Pushed, FrameError> {
        let mut state = self.lock();
        if state.epoch != epoch {
            return Ok(Pushed::Fenced);
        }
        let mut run = run;
        let mut first = first;
        let next = match state.next {
            Some(next) => next,
            None => {
                state.position.store(first, Ordering::Release);
                first
            }
        };
        if first < next {
            state.stats.duplicates += run.skip(next - first)?;
            first = next;
        }
        state.next = Some(first + run.frames);
        if run.frames == 0 {
            return Ok(Pushed::Queued);
        }
        state.bytes += run.len;
        state.stats.waiting_frames += run.frames;
        let position = Arc::clone(&state.position);
        let behind = match state.queue.back_mut() {
            Some(last) => last.take(first, run, epoch, &position),
            None => Err(run),
        };
        if let Err(run) = behind {
            state.queue.push_back(Waiting::new(first, run, epoch, position));
        }
        Ok(if std::mem::replace(&mut state.delivering, true) {
            Pushed::Queued
        } else {
            Pushed::StartDelivery
        })
    }

    /// Waits until the lane has room for more; a fenced reader returns too, and finds out. Returns how
    /// much waits in it already. Cancel-safe.
    pub(crate) async fn room(&self, inbound: &Inbound, epoch: u64) -> usize {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            {
                let state = self.lock();
                if state.bytes < inbound.budget || state.epoch != epoch {
                    return state.bytes;
                }
            }
            room.await;
        }
    }

    fn stats(&self) -> ReceivedStats {
        let state = self.lock();
        ReceivedStats { waiting_bytes: state.bytes as u64, ..state.stats }
    }

    fn lock(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LaneState {
    fn restart(&mut self) {
        self.next = None;
        self.position = Arc::default();
    }
}

/// Something that a sink or a frame did wrong, for the peer's driver to act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `epoch`: of the connection that it came on.
    Frame {
        lane: Lane,
        error: FrameError,
        epoch: u64,
    },
    SinkPanicked(Lane),
}
