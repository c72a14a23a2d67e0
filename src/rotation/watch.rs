//! The task that looks at an identity's files.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::files::{Contents, IdentityFiles};
use super::watcher::{Step, Watcher};
use crate::error::BindError;
use crate::event::Event;
use crate::node::{Node, Phase};

/// Looking more often would be a busy loop.
const MIN_PERIOD: Duration = Duration::from_millis(10);

/// A task that looks at an identity's files; made by
/// [`ClusterTransport::watch_identity`](crate::ClusterTransport::watch_identity). Dropped, it ends.
#[must_use = "dropped, the watch ends; detach() lets it live as long as the transport"]
pub struct IdentityWatch {
    /// `None` once detached.
    task: Option<JoinHandle<()>>,
    last_error: Arc<LastError>,
}

type LastError = Mutex<Option<Arc<BindError>>>;

impl IdentityWatch {
    pub(super) fn start(node: &Arc<Node>, files: IdentityFiles, period: Duration) -> Self {
        let last_error = Arc::<LastError>::default();
        let (watched, error) = (Arc::clone(node), Arc::clone(&last_error));
        let task = node.runtime.spawn(async move {
            let mut phase = watched.phase.subscribe();
            tokio::select! {
                () = watch(&watched, files, period.max(MIN_PERIOD), &error) => {}
                _ = phase.wait_for(|phase| matches!(phase, Phase::Closing { .. })) => {}
            }
        });
        Self { task: Some(task), last_error }
    }

    /// Lets the watch go on until the transport ends.
    pub fn detach(mut self) {
        self.task = None;
    }

    /// Ends the watch, as dropping it does.
    pub fn abort(self) {}

    /// Whether the watch has ended, with the transport.
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Why the files were not taken when they were tried last; `None` when all was well. Also tells of what
    /// may just be unfinished, before there is an event.
    pub fn last_error(&self) -> Option<Arc<BindError>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for IdentityWatch {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl fmt::Debug for IdentityWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityWatch").field("finished", &self.is_finished()).finish()
    }
}

async fn watch(node: &Node, files: IdentityFiles, period: Duration, last_error: &LastError) {
    let mut watcher = Watcher::new(period);
    loop {
        let mut step = Step::Wait;
        if let Some(contents) = read(files.clone()).await {
            step = watcher.see(Instant::now().into_std(), contents.hash());
            let told = |error: Option<Arc<BindError>>| {
                *last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
            };
            match step {
                // What the node has is back.
                Step::Rest => told(None),
                Step::Wait => {}
                Step::Try => {
                    let result = take(node, &files, contents);
                    told(result.as_ref().err().map(Arc::clone));
                    match result {
                        Ok(()) => watcher.accept(),
                        Err(error) => report(node, &mut watcher, &error),
                    }
                }
            }
        }
        sleep(watcher.pause(step)).await;
    }
}

/// Gives the node what was read, unless it has that.
fn take(node: &Node, files: &IdentityFiles, contents: Contents) -> Result<(), Arc<BindError>> {
    let identity = files.identity(contents, node.config.wall_clock.now());
    let identity = identity.map_err(|error| Arc::new(error.into()))?;
    if node.identities.present().is_some_and(|present| present.is_same(&identity)) {
        return Ok(());
    }
    node.renew(&identity).map_err(Arc::new)
}

fn report(node: &Node, watcher: &mut Watcher, error: &BindError) {
    let now = Instant::now().into_std();
    if !watcher.reject(now) {
        debug!(%error, "the identity's files are not in order");
        return;
    }
    if node.may_log(now) {
        warn!(%error, "the identity's files are not in order; the old identity stays");
    }
    node.emit(Event::IdentityRejected { reason: error.to_string() });
}

/// Reads the files on a thread of its own: a network file system may hang for minutes, and tokio's blocking
/// threads may all be held by sinks. `None` if there is no such thread to be had.
async fn read(files: IdentityFiles) -> Option<Contents> {
    let (done, contents) = oneshot::channel();
    let thread = std::thread::Builder::new().name("cluster-quic-identity".into());
    let started = thread.spawn(move || {
        let _ = done.send(files.read());
    });
    if let Err(error) = started {
        debug!(%error, "no thread to read the identity's files");
        return None;
    }
    contents.await.ok()
}
