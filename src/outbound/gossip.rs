//! Gossip that waits to be sent: the latest wins.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use tokio::sync::Notify;

use super::{CHUNK, Refused, Taken, Wake};
use crate::frame;
use crate::stats::GossipStats;

/// A bounded queue whose oldest frames make room for new ones. Nothing is retained once sent.
#[derive(Debug)]
pub(crate) struct GossipQueue {
    queue: Mutex<Queue>,
    pub(crate) ready: Notify,
    budget: usize,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    held: usize,
    writer: Option<u64>,
    epoch: u64,
    closed: bool,
    stats: GossipStats,
}

impl GossipQueue {
    pub(crate) fn new(budget: usize) -> Self {
        Self { queue: Mutex::default(), ready: Notify::new(), budget }
    }

    /// Takes gossip, dropping the oldest that waits where there is no room. A frame larger than the
    /// whole budget waits alone.
    pub(crate) fn push<G: Serialize + ?Sized>(&self, gossip: &G) -> Result<Wake, Refused> {
        // Encoded outside the lock: it runs the user's code.
        let mut buf = BytesMut::new();
        frame::encode_gossip(gossip, &mut buf).map_err(Refused::Frame)?;
        let bytes = buf.freeze();
        let mut queue = self.lock();
        let q = &mut *queue;
        if q.closed {
            return Err(Refused::Closed);
        }
        while q.held + bytes.len() > self.budget {
            let Some(oldest) = q.frames.pop_front() else { break };
            q.held -= oldest.len();
            q.stats.dropped += 1;
        }
        q.held += bytes.len();
        q.stats.accepted += 1;
        q.frames.push_back(bytes);
        let wake = if q.writer.is_some() { Wake::Writer } else { Wake::Driver };
        drop(queue);
        if wake == Wake::Writer {
            self.ready.notify_one();
        }
        Ok(wake)
    }

    /// Attaches a writer; returns its epoch, for [`take`](Self::take).
    pub(crate) fn attach(&self) -> u64 {
        let mut q = self.lock();
        q.epoch += 1;
        q.writer = Some(q.epoch);
        q.epoch
    }

    pub(crate) fn detach(&self) {
        self.lock().writer = None;
    }

    /// Everything that waits, coalesced up to a chunk.
    pub(crate) fn take(&self, epoch: u64) -> Taken {
        let mut q = self.lock();
        if q.writer != Some(epoch) {
            return Taken::Detached;
        }
        let Some(first) = q.pop() else {
            return if q.closed { Taken::Closed } else { Taken::Nothing };
        };
        if q.frames.is_empty() {
            return Taken::Chunk { bytes: first, crowded: false };
        }
        let mut chunk = BytesMut::from(&first[..]);
        while q.frames.front().is_some_and(|frame| chunk.len() + frame.len() <= CHUNK) {
            if let Some(frame) = q.pop() {
                chunk.extend_from_slice(&frame);
            }
        }
        Taken::Chunk { bytes: chunk.freeze(), crowded: false }
    }

    pub(crate) fn needs_writer(&self) -> bool {
        let q = self.lock();
        q.writer.is_none() && !q.frames.is_empty()
    }

    /// Takes nothing more; what waits is still sent.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Drops what still waits.
    pub(crate) fn abandon(&self) {
        let mut q = self.lock();
        q.closed = true;
        let left = q.frames.len() as u64;
        q.stats.dropped += left;
        q.held = 0;
        q.frames.clear();
    }

    pub(crate) fn stats(&self) -> GossipStats {
        let q = self.lock();
        GossipStats { queued: q.frames.len() as u64, queued_bytes: q.held as u64, ..q.stats }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.held -= frame.len();
        self.stats.sent += 1;
        Some(frame)
    }
}
