//! What receives the tells: counts them, and blocks if it is to.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use cluster_quic::{Address, RemoteTellRef};

/// Enough that every lane has some.
pub(super) const TARGETS: usize = 8;

pub(super) fn target_path(target: usize) -> String {
    format!("/user/target-{}", target % TARGETS)
}

pub(super) struct Sink {
    counts: [Count; TARGETS],
    blocks: Option<Duration>,
    released: Mutex<bool>,
    release: Condvar,
}

/// On cache lines of its own, since lanes deliver concurrently.
#[derive(Default)]
#[repr(align(128))]
struct Count(AtomicU64);

impl Sink {
    pub(super) fn new(blocks: Option<Duration>) -> Self {
        let (released, release) = Default::default();
        Self { counts: Default::default(), blocks, released, release }
    }

    fn record(&self, target_path: &str) {
        if let Some(time) = self.blocks {
            let released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.release.wait_timeout_while(released, time, |released| !*released));
        }
        let digit = target_path.as_bytes().last().map_or(0, |last| usize::from(last & 15));
        let count = &self.counts[digit % TARGETS].0;
        // A target's tells come one at a time.
        count.store(count.load(Relaxed) + 1, Relaxed);
    }

    pub(super) fn received(&self) -> u64 {
        self.counts.iter().map(|count| count.0.load(Relaxed)).sum()
    }

    /// Ends all blocking.
    pub(super) fn release(&self) {
        *self.released.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.release.notify_all();
    }
}

impl cluster_quic::RemoteMessageSink for Sink {
    fn deliver(&self, _: &Address, tell: RemoteTellRef<'_>) {
        self.record(tell.target_path);
    }
}

impl atomr_cluster::RemoteMessageSink for Sink {
    fn deliver(&self, target_path: &str, _: &str, _: &[u8], _: Option<&str>) {
        self.record(target_path);
    }
}
