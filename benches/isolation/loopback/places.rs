//! Which threads do what.

use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A runtime of two workers has both nodes, what they are told and the gossip.
    Shared,
    /// Each node, with its own, has a runtime of two workers, as if it were a process.
    PerNode,
    /// Each has a `current_thread` runtime.
    CurrentThread,
    /// The application's runtime is hogged. What sends tells and what gossips have a thread each.
    Hogged,
}

/// How long a hogging task is polled.
const HOG: Duration = Duration::from_millis(100);

pub(super) struct Places {
    /// The node that sends.
    pub(super) from: Handle,
    /// The node that receives.
    pub(super) to: Handle,
    /// What tells.
    pub(super) load: Handle,
    /// What sends gossip, and what receives it.
    pub(super) daemons: [Handle; 2],
    /// Kept running.
    _runtimes: Vec<Running>,
}

impl Places {
    pub(super) fn new(place: Place) -> Result<Self, Error> {
        let mut runtimes = Vec::new();
        let mut several = || Running::several(&mut runtimes);
        let (from, to) = match place {
            Place::Shared => {
                let shared = several()?;
                (shared.clone(), shared)
            }
            Place::PerNode => (several()?, several()?),
            Place::CurrentThread => (Running::one(&mut runtimes)?, Running::one(&mut runtimes)?),
            Place::Hogged => {
                let shared = several()?;
                (shared.clone(), shared)
            }
        };
        let (load, daemons) = match place {
            Place::Hogged => {
                let mut one = || Running::one(&mut runtimes);
                (one()?, [one()?, one()?])
            }
            _ => (from.clone(), [from.clone(), to.clone()]),
        };
        Ok(Self { from, to, load, daemons, _runtimes: runtimes })
    }
}

/// Keeps both workers of a runtime busy, but for a moment now and then.
pub(super) fn hog(runtime: &Handle) {
    for _ in 0..2 {
        runtime.spawn(async {
            loop {
                let begun = Instant::now();
                while begun.elapsed() < HOG {
                    std::hint::spin_loop();
                }
                tokio::task::yield_now().await;
            }
        });
    }
}

/// A runtime until it is dropped.
enum Running {
    Several(Option<Runtime>),
    /// Driven by a thread until told.
    One(Option<oneshot::Sender<()>>),
}

impl Running {
    fn several(runtimes: &mut Vec<Self>) -> Result<Handle, Error> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let handle = runtime.handle().clone();
        runtimes.push(Self::Several(Some(runtime)));
        Ok(handle)
    }

    fn one(runtimes: &mut Vec<Self>) -> Result<Handle, Error> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        thread::spawn(move || {
            let _: Result<(), _> = runtime.block_on(stopped);
            runtime.shutdown_background();
        });
        runtimes.push(Self::One(Some(stop)));
        Ok(handle)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        match self {
            Self::Several(runtime) => {
                if let Some(runtime) = runtime.take() {
                    runtime.shutdown_background();
                }
            }
            Self::One(stop) => drop(stop.take().map(|stop| stop.send(()))),
        }
    }
}
