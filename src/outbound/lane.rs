//! One tell lane's queue behind its lock, and those who wait on it.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};

use super::queue::{Queue, Writer};
use super::{
    AHEAD, Accepted, Attached, Budget, CHUNK, CROWD, Loss, Patience, Refused, SMALL, Taken, UNIT,
    Wake,
};
use crate::address::Incarnation;
use crate::error::BudgetScope;
use crate::event::LostReason;
use crate::frame::{self, PREFIX, RemoteTellRef};
use crate::stats::{LaneStats, PairStats};

/// The outbound side of one tell lane.
#[derive(Debug)]
pub(crate) struct TellLane {
    queue: Mutex<Queue>,
    /// Wakes the lane's writer.
    pub(crate) ready: Notify,
    /// Wakes those who wait for room, or for acknowledgements.
    pub(crate) progress: Notify,
    /// Wakes who waits for the writer.
    pub(crate) caught_up: Notify,
    /// Held by the one who is next to get room; others queue for it, in order of their coming.
    pub(crate) turn: Semaphore,
    /// Whether that one waits for room, which others must not take then, or for the writer: room comes in
    /// bulk there, and taking turns tell by tell would cost a switch of tasks for each.
    pub(crate) short: AtomicBool,
    /// What all lanes to the peer may hold.
    peer: Arc<Budget>,
    budget: usize,
}

impl TellLane {
    pub(crate) fn new(budget: usize, peer: Arc<Budget>) -> Self {
        let (ready, progress) = (Notify::new(), Notify::new());
        let (queue, turn) = (Mutex::new(Queue::new()), Semaphore::new(1));
        Self {
            queue,
            ready,
            progress,
            caught_up: Notify::new(),
            turn,
            short: AtomicBool::new(false),
            peer,
            budget,
        }
    }

    /// Takes a tell whose frame is `len` bytes long without its prefix.
    ///
    /// A frame larger than the whole budget is taken by an empty lane, so that the limit on frames
    /// is the same whatever the budget.
    pub(crate) fn push(
        &self,
        tell: &RemoteTellRef<'_>,
        len: usize,
        patience: Patience,
    ) -> Result<Accepted, Refused> {
        let frame_len = frame::check_len(len).map_err(Refused::Frame)?;
        let len = len + PREFIX;
        let mut queue = self.lock();
        let q = &mut *queue;
        if q.closed || q.quarantined {
            return Err(if q.closed { Refused::Closed } else { Refused::Quarantined });
        }
        if patience == Patience::Waits && q.is_ahead() {
            q.awaited = true;
            return Err(Refused::Ahead);
        }
        let held = q.held + len;
        if held > self.budget && q.held > 0 {
            q.totals.refused_full += 1;
            return Err(Refused::Full(BudgetScope::Lane));
        }
        if held > q.granted {
            let grant = (held - q.granted).next_multiple_of(CHUNK);
            if let Err(scope) = self.peer.take(grant) {
                q.totals.refused_full += 1;
                return Err(Refused::Full(scope));
            }
            q.granted += grant;
        }
        q.append(tell, frame_len, len);
        q.held = held;
        let before = q.totals.accepted_bytes;
        q.totals.accepted_bytes += len as u64;
        let unit = before / UNIT != q.totals.accepted_bytes / UNIT;
        let wake = match q.writer {
            Writer::Busy => Wake::Nobody,
            Writer::None if q.next - q.sent > 1 => Wake::Nobody,
            Writer::None => Wake::Driver,
            Writer::Waiting => {
                q.writer = Writer::Busy;
                drop(queue);
                self.ready.notify_one();
                Wake::Writer
            }
        };
        Ok(Accepted { wake, unit })
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
        q.overtaken.clear();
        q.cursor = q.chunks.partition_point(|chunk| chunk.first < from);
        q.taken = q.chunks.range(..q.cursor).map(|chunk| chunk.bytes.len()).sum();
        q.totals.resent += q.sent - from;
        q.writer = Writer::Busy;
        q.epoch += 1;
        Ok(Attached { epoch: q.epoch, first: from })
    }

    /// Detaches the writer: its connection is gone.
    pub(crate) fn detach(&self, now: Instant) {
        let mut q = self.lock();
        q.writer = Writer::None;
        q.overtaken.clear();
        q.detached = Some(now);
        q.epoch += 1;
        // Until there is another, the budget alone decides.
        self.notify_caught_up(q);
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
        let Some((end, bytes)) = q.take() else {
            q.writer = Writer::Waiting;
            self.notify_caught_up(q);
            return Taken::Nothing;
        };
        q.sent = q.sent.max(end);
        let crowded = bytes.len() < SMALL && q.cursor > CROWD;
        self.notify_caught_up(q);
        Taken::Chunk { bytes, crowded }
    }

    /// Somebody has waited for the writer for [`CATCH_UP`] in vain: it is slow, and the whole budget is
    /// there to be filled until it has caught up.
    pub(crate) fn no_use_waiting(&self) {
        self.lock().slow = true;
    }

    /// Wakes who waits for the writer, if that has caught up by half, or is there no more.
    fn notify_caught_up(&self, mut queue: MutexGuard<'_, Queue>) {
        if queue.writer == Writer::Busy && queue.ahead() > AHEAD / 2 {
            return;
        }
        queue.slow = false;
        if std::mem::take(&mut queue.awaited) {
            drop(queue);
            self.caught_up.notify_waiters();
        }
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
        let (frames, bytes) = q.acknowledge(next);
        q.totals.acked_frames += frames;
        q.totals.acked_bytes += bytes;
        self.freed(q);
        Ok(())
    }

    /// The peer is an instance of `incarnation`, and not the one before.
    pub(crate) fn restart(&self, incarnation: Incarnation) -> Option<Loss> {
        let mut q = self.lock();
        let loss = q.restart(incarnation);
        self.freed(q);
        loss
    }

    /// Gives up everything, and takes nothing more until [`admit`](Self::admit).
    pub(crate) fn quarantine(&self) -> Option<Loss> {
        let mut q = self.lock();
        q.quarantined = true;
        let next = q.next;
        self.lose(next, LostReason::Quarantined, q)
    }

    /// Takes nothing more until [`admit`](Self::admit); what there is stays.
    pub(crate) fn refuse(&self) {
        self.lock().quarantined = true;
    }

    pub(crate) fn admit(&self) {
        self.lock().quarantined = false;
    }

    /// Gives up what was accepted before `now - age`, if there has been no writer for as long.
    pub(crate) fn expire(&self, now: Instant, age: Duration) -> Option<Loss> {
        let q = self.lock();
        let detached = q.detached.is_none_or(|at| now.saturating_duration_since(at) >= age);
        if q.writer != Writer::None || !detached {
            return None;
        }
        let before = q.accepted_before(now, age);
        self.lose(before, LostReason::Expired, q)
    }

    /// Notes the time for [`expire`](Self::expire); called every now and then.
    pub(crate) fn mark(&self, now: Instant, age: Duration) {
        self.lock().mark(now, age);
    }

    /// Takes nothing more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.progress.notify_waiters();
        self.caught_up.notify_waiters();
    }

    /// Gives up everything; for the end of a shutdown.
    pub(crate) fn abandon(&self) -> Option<Loss> {
        let mut q = self.lock();
        q.closed = true;
        let next = q.next;
        self.lose(next, LostReason::ShutDown, q)
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
        self.lock().stats()
    }

    /// Its figures over all lives of the peer, and by pairs of incarnations, in one moment.
    pub(crate) fn ledger(&self) -> (LaneStats, PairStats) {
        let q = self.lock();
        let all = q.stats();
        (all, q.pairs.with_current(&all))
    }

    /// Gives up what comes before `next`.
    fn lose(
        &self,
        next: u64,
        reason: LostReason,
        mut queue: MutexGuard<'_, Queue>,
    ) -> Option<Loss> {
        let loss = queue.lose(next, reason);
        self.freed(queue);
        loss
    }

    /// Gives grants back, and wakes those who wait for it.
    fn freed(&self, mut queue: MutexGuard<'_, Queue>) {
        let keep = queue.held.next_multiple_of(CHUNK);
        let surplus = queue.granted.saturating_sub(keep);
        queue.granted -= surplus;
        drop(queue);
        self.peer.give(surplus);
        self.progress.notify_waiters();
    }

    /// Holds the lane's lock until it is dropped.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> impl Drop + '_ {
        self.lock()
    }

    #[cfg(test)]
    pub(crate) fn marks(&self) -> usize {
        self.lock().marks.len()
    }

    #[cfg(test)]
    pub(crate) fn assert_taken_is_counted(&self) {
        let q = self.lock();
        let before: usize = q.chunks.range(..q.cursor).map(|chunk| chunk.bytes.len()).sum();
        assert_eq!(q.taken, before);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here can panic half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
