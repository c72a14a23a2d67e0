//! The tasks of one active link: a writer per lane that has something to send, a reader per lane that
//! the peer opens, and the control lane both ways.

mod pace;
mod read;
mod spans;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{SetOnce, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tracing::{Instrument, Span, debug};

use crate::association::LinkId;
use crate::control::{Control, GoodbyeReason};
use crate::driver::DriverInput;
use crate::error::AssociationError;
use crate::greet::Greeted;
use crate::lane::Lane;
use crate::link::Link;
use crate::node::Node;
use crate::outbound::Attached;
use crate::peer::PeerCore;

/// How often a node gives a sign of life to a peer that sends it tells: it repeats its acknowledgements, if it
/// had none to give for so long. Its sink may block for as long as it likes.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// A link is given up when tells have waited for so long, and no sign came.
pub(crate) const UNRESPONSIVE: Duration = Duration::from_secs(30);

/// An active link's tasks; dropped, they end.
pub(crate) struct Session<L: Link> {
    link: L,
    shared: Arc<Shared<L>>,
    goodbye: oneshot::Sender<GoodbyeReason>,
    control: JoinHandle<()>,
    gossip: Option<JoinHandle<()>>,
    tasks: JoinSet<()>,
}

/// How our control lane begins.
enum Opening<W> {
    /// It is open: we dialled, and said `Hello` on it.
    Open(W),
    /// With this answer.
    Answer(Box<Control>),
}

struct Shared<L: Link> {
    node: Arc<Node>,
    peer: Arc<PeerCore>,
    link: L,
    id: LinkId,
    /// The association's; those of its lanes are its children.
    span: Span,
    inbound_epoch: u64,
    /// Set when our control lane is open, which must be the first.
    greeted: SetOnce<()>,
    /// Set when the peer's control lane has ended: there are no more acknowledgements.
    heard_out: SetOnce<()>,
    /// The peer has opened a tell lane.
    receives: AtomicBool,
    /// The peer's acknowledgements so far, those that say nothing new among them.
    signs: AtomicU64,
    inputs: mpsc::Sender<DriverInput<L>>,
}

impl<L: Link> Session<L> {
    /// Starts the control lane and the readers. `accept`: what a link that the peer dialled is answered with.
    pub(crate) fn start(
        node: &Arc<Node>,
        peer: &Arc<PeerCore>,
        id: LinkId,
        inbound_epoch: u64,
        greeted: Greeted<L>,
        accept: impl FnOnce() -> Control,
        inputs: mpsc::Sender<DriverInput<L>>,
    ) -> Self {
        let Greeted { link, reader, writer, greeting } = greeted;
        let span = spans::association(greeting.instance.incarnation, id);
        let shared = Arc::new(Shared {
            node: Arc::clone(node),
            peer: Arc::clone(peer),
            link: link.clone(),
            id,
            span,
            inbound_epoch,
            greeted: SetOnce::new(),
            heard_out: SetOnce::new(),
            receives: AtomicBool::new(false),
            signs: AtomicU64::new(0),
            inputs,
        });
        let opening = writer.map_or_else(|| Opening::Answer(Box::new(accept())), Opening::Open);
        let (goodbye, said) = oneshot::channel();
        let mut tasks = JoinSet::new();
        let lane = spans::send(&shared.span, Lane::Control);
        let control = tokio::spawn(work(&shared, lane, move |shared| async move {
            write::write_control(&shared, opening, said).await
        }));
        let lane = spans::receive(&shared.span, Some(Lane::Control));
        tasks.spawn(work(&shared, lane, |shared| async move {
            let ended = read::read_control(&shared, reader).await;
            let _ = shared.heard_out.set(());
            ended
        }));
        tasks.spawn(work(&shared, shared.span.clone(), |shared| async move {
            read::accept_lanes(shared).await
        }));
        Self { link, shared, goodbye, control, gossip: None, tasks }
    }

    pub(crate) fn link(&self) -> &L {
        &self.link
    }

    /// Notes in its span where the connection is from, or to.
    pub(crate) fn note_remote(&self, remote: &str) {
        spans::name_remote(&self.shared.span, remote);
    }

    /// Notes in its span why the association has ended.
    pub(crate) fn note_end(&self, reason: &AssociationError) {
        spans::note_end(&self.shared.span, reason);
    }

    pub(crate) fn id(&self) -> LinkId {
        self.shared.id
    }

    /// The peer's acknowledgements so far, which it repeats: it is alive, however long its sink takes.
    pub(crate) fn signs(&self) -> u64 {
        self.shared.signs.load(Ordering::Relaxed)
    }

    /// Starts the writer of tell lane `n`.
    pub(crate) fn write_tells(&mut self, n: u8, attached: Attached) {
        self.reap();
        let span = spans::send(&self.shared.span, Lane::Tell(n));
        self.tasks.spawn(work(&self.shared, span, move |shared| async move {
            write::write_tells(&shared, n, attached).await
        }));
    }

    /// Starts the gossip lane's writer.
    pub(crate) fn write_gossip(&mut self, epoch: u64) {
        let span = spans::send(&self.shared.span, Lane::Gossip);
        self.gossip = Some(tokio::spawn(work(&self.shared, span, move |shared| async move {
            write::write_gossip(&shared, epoch).await
        })));
    }

    /// Says goodbye behind the last acknowledgements, waits until the peer has it (at most `limit`),
    /// and closes. Where tells are still pending, waits for the peer's last acknowledgements too.
    pub(crate) async fn say_goodbye(
        mut self,
        reason: GoodbyeReason,
        close: AssociationError,
        limit: Duration,
    ) {
        // The readers stay, though fenced: a stream that nobody reads any more would look to the peer
        // like a breach, before it has our last acknowledgements.
        let begin = Instant::now();
        // The last gossip most often says that this node leaves. Its lane ends when it is through;
        // half the time at most, for a peer that does not read it is still owed acknowledgements.
        if let Some(gossip) = &mut self.gossip {
            match reason {
                GoodbyeReason::ShutDown => drop(timeout(limit / 2, gossip).await),
                GoodbyeReason::Idle => gossip.abort(),
            }
        }
        let limit = limit.saturating_sub(begin.elapsed());
        self.last_words(reason, &close, limit).await;
    }

    /// Says to a peer that has said goodbye what was handled of its tells, waits until it has it (at most
    /// `limit`), and closes.
    pub(crate) async fn answer_goodbye(mut self, limit: Duration) {
        if let Some(gossip) = &self.gossip {
            gossip.abort();
        }
        self.last_words(GoodbyeReason::ShutDown, &AssociationError::Goodbye, limit).await;
    }

    async fn last_words(
        &mut self,
        reason: GoodbyeReason,
        close: &AssociationError,
        limit: Duration,
    ) {
        let (ours, _) = oneshot::channel();
        let goodbye = std::mem::replace(&mut self.goodbye, ours);
        let (shared, control) = (&self.shared, &mut self.control);
        let said = async {
            if goodbye.send(reason).is_ok() {
                let _ = control.await;
            }
            if !shared.peer.is_settled() {
                shared.heard_out.wait().await;
            }
        };
        let _ = timeout(limit, said).await;
        self.link.close(close);
    }

    /// Forgets tasks that have ended.
    fn reap(&mut self) {
        while self.tasks.try_join_next().is_some() {}
    }
}

impl<L: Link> Drop for Session<L> {
    fn drop(&mut self) {
        self.control.abort();
        if let Some(gossip) = &self.gossip {
            gossip.abort();
        }
    }
}

impl<L: Link> Shared<L> {
    /// Tells the driver about a task's failure. Most often the link is gone, which its watcher says
    /// as well; what breaks the protocol is known here alone.
    async fn ended(&self, result: Result<(), AssociationError>) {
        if let Err(reason) = result {
            if matches!(reason, AssociationError::Protocol(_)) {
                debug!(error = %reason, "error.type" = reason.kind(), "lane broke the protocol");
            }
            let _ = self.inputs.send(DriverInput::Broken { link: self.id, reason }).await;
        }
    }
}

/// A task that reports how it fails.
fn work<L: Link, T, F>(
    shared: &Arc<Shared<L>>,
    span: Span,
    task: T,
) -> impl Future<Output = ()> + Send + use<L, T, F>
where
    T: FnOnce(Arc<Shared<L>>) -> F + Send,
    F: Future<Output = Result<(), AssociationError>> + Send,
{
    let shared = Arc::clone(shared);
    async move { shared.ended(task(Arc::clone(&shared)).await).await }.instrument(span)
}
