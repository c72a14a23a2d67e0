//! What receives the tells of every case: counts them, and checks their order.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::process;

/// The most targets of one round.
pub(crate) const MAX_TARGETS: usize = 64;

/// How many tells can come, over all targets, without waking a sender that keeps to a window: less
/// than the smallest window, lest it waits for ever.
const UNNOTICED: usize = 256;

/// How many of one target's tells come between two wake-ups, at most; a power of two.
const MAX_PACE: u64 = 64;

/// A round without any progress for so long is given up.
pub(crate) const STALLED: Duration = Duration::from_secs(10);

/// What a round sends. Tell `i` goes to target `i % targets`, which is for sender `target % senders`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) tells: u64,
    pub(crate) payload: usize,
    pub(crate) targets: usize,
    pub(crate) senders: usize,
}

impl Load {
    /// One sender, one target.
    pub(crate) fn simple(tells: u64, payload: usize) -> Self {
        Self { tells, payload, targets: 1, senders: 1 }
    }
}

/// What arrived of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) took: Duration,
    /// Processor time of the whole process meanwhile, where the system tells.
    pub(crate) cpu: Option<Duration>,
    pub(crate) tells: u64,
    pub(crate) bytes: u64,
    pub(crate) inversions: u64,
    pub(crate) lost: u64,
}

pub(crate) struct Counter {
    epoch: Instant,
    targets: [Target; MAX_TARGETS],
    /// Targets that still miss tells.
    open: AtomicUsize,
    /// When the last tell came, in nanoseconds since `epoch`.
    ended: AtomicU64,
    /// A target's wake-ups come when its count has none of these bits.
    pace: AtomicU64,
    done: Notify,
    progress: Notify,
}

/// When a round began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    at: u64,
    cpu: Option<Duration>,
}

/// On cache lines of its own, since lanes deliver concurrently.
#[derive(Default)]
#[repr(align(128))]
struct Target {
    expected: AtomicU64,
    count: AtomicU64,
    next: AtomicU64,
    /// Of the sequence numbers: with `count`, it tells whether each came once.
    sum: AtomicU64,
    bytes: AtomicU64,
    inversions: AtomicU64,
}

/// A target's path; its number is read off the end.
pub(crate) fn target_path(target: usize) -> String {
    format!("/user/target-{target:02}")
}

impl Counter {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            targets: std::array::from_fn(|_| Target::default()),
            open: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
            pace: AtomicU64::new(MAX_PACE - 1),
            done: Notify::new(),
            progress: Notify::new(),
        }
    }

    /// Takes one tell; every sink calls it.
    #[inline]
    pub(crate) fn record(&self, target_path: &str, payload: &[u8]) {
        let (Some(number), Some(sequence)) =
            (target_path.as_bytes().last_chunk::<2>(), payload.first_chunk::<8>())
        else {
            return;
        };
        let number = usize::from(number[0] & 15) * 10 + usize::from(number[1] & 15);
        let target = &self.targets[number % MAX_TARGETS];
        let sequence = u64::from_le_bytes(*sequence);
        // A target's tells come one at a time: these need no read-modify-write.
        let add = |to: &AtomicU64, n: u64| to.store(to.load(Relaxed).wrapping_add(n), Relaxed);
        if sequence < target.next.load(Relaxed) {
            add(&target.inversions, 1);
        } else {
            target.next.store(sequence + 1, Relaxed);
        }
        add(&target.sum, sequence);
        add(&target.bytes, payload.len() as u64);
        let count = target.count.fetch_add(1, Relaxed) + 1;
        if count & self.pace.load(Relaxed) == 0 {
            self.progress.notify_one();
        }
        if count == target.expected.load(Relaxed) && self.open.fetch_sub(1, Relaxed) == 1 {
            self.ended.store(self.now(), Relaxed);
            self.done.notify_one();
            self.progress.notify_one();
        }
    }

    /// Forgets everything, and expects `load`.
    pub(crate) fn begin(&self, load: Load) -> Begun {
        let targets = load.targets as u64;
        let pace = (UNNOTICED / load.targets + 1).next_power_of_two() as u64 / 2;
        self.pace.store(pace.clamp(1, MAX_PACE) - 1, Relaxed);
        for (n, target) in (0..).zip(&self.targets) {
            for figure in
                [&target.count, &target.next, &target.sum, &target.bytes, &target.inversions]
            {
                figure.store(0, Relaxed);
            }
            let expected = if n < targets {
                load.tells / targets + u64::from(n < load.tells % targets)
            } else {
                0
            };
            target.expected.store(expected, Relaxed);
        }
        self.open.store(load.targets.min(load.tells as usize), Relaxed);
        Begun { at: self.now(), cpu: process::cpu_time() }
    }

    /// Waits for the last tell, or until none has come for [`STALLED`].
    pub(crate) async fn end(&self, load: Load, begun: Begun) -> Outcome {
        let mut seen = self.received(load.targets);
        while timeout(STALLED, self.done.notified()).await.is_err() {
            let received = self.received(load.targets);
            if received == seen {
                eprintln!("no tell for {STALLED:?}: {seen} of {} came", load.tells);
                self.ended.store(self.now(), Relaxed);
                break;
            }
            seen = received;
        }
        let cpu = process::cpu_time().zip(begun.cpu).map(|(now, then)| now.saturating_sub(then));
        let targets = &self.targets[..load.targets];
        let total =
            |of: fn(&Target) -> &AtomicU64| targets.iter().map(|t| of(t).load(Relaxed)).sum();
        Outcome {
            took: Duration::from_nanos(self.ended.load(Relaxed).saturating_sub(begun.at)),
            cpu,
            tells: total(|target| &target.count),
            bytes: total(|target| &target.bytes),
            inversions: total(|target| &target.inversions),
            lost: targets.iter().map(Target::lost).sum(),
        }
    }

    /// Waits until at most `window` of `sent` tells have not come yet.
    pub(crate) async fn keep_window(&self, sent: u64, window: u64, targets: usize) {
        while sent.saturating_sub(self.received(targets)) > window {
            self.progress.notified().await;
        }
    }

    fn received(&self, targets: usize) -> u64 {
        self.targets[..targets].iter().map(|target| target.count.load(Relaxed)).sum()
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }
}

impl Target {
    fn lost(&self) -> u64 {
        let (expected, count) = (self.expected.load(Relaxed), self.count.load(Relaxed));
        let all = (u128::from(expected) * u128::from(expected.saturating_sub(1)) / 2) as u64;
        match expected.saturating_sub(count) {
            // As many as there should be, but not the right ones: one came twice for another.
            0 => u64::from(self.sum.load(Relaxed) != all),
            missing => missing,
        }
    }
}
