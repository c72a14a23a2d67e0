//! The tasks of one active link: a writer per lane that has something to send, a reader per lane that
//! the peer opens, and the control lane both ways.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::{SetOnce, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tracing::Instrument;

use crate::association::LinkId;
use crate::config::Runtime;
use crate::control::{Control, GoodbyeReason, stream_header};
use crate::delivery::{self, Pushed};
use crate::driver::DriverInput;
use crate::error::AssociationError;
use crate::frame::next_frame;
use crate::greet::{self, Greeted};
use crate::lane::{Lane, MAX_STREAMS};
use crate::link::{LaneWriter, Link};
use crate::node::Node;
use crate::outbound::{Attached, Taken};
use crate::peer::PeerCore;
use crate::stream::{ControlReader, Intake};

/// How long a writer whose lane is full of small segments waits for more to go with the next.
const COALESCE: Duration = Duration::from_millis(1);

/// Received bytes that may wait for a lane's sink where they came in; what comes on top is copied. A
/// frame in place keeps a batch of packets of up to 64 KiB, which a lane that stands still would keep for
/// as long.
const PINNED: usize = 128 * 1024;

/// An active link's tasks; dropped, they end.
pub(crate) struct Session<L: Link> {
    link: L,
    shared: Arc<Shared<L>>,
    goodbye: oneshot::Sender<GoodbyeReason>,
    control: JoinHandle<()>,
    gossip: Option<JoinHandle<()>>,
    tasks: JoinSet<()>,
}

struct Shared<L: Link> {
    node: Arc<Node>,
    peer: Arc<PeerCore>,
    link: L,
    id: LinkId,
    inbound_epoch: u64,
    /// Set when our control lane is open, which must be the first.
    greeted: SetOnce<()>,
    inputs: mpsc::Sender<DriverInput<L>>,
}

impl<L: Link> Session<L> {
    /// Starts the control lane and the readers. `accepted`: what a link that the peer dialled is
    /// answered with first.
    pub(crate) fn start(
        node: &Arc<Node>,
        peer: &Arc<PeerCore>,
        id: LinkId,
        inbound_epoch: u64,
        greeted: Greeted<L>,
        accepted: Option<Control>,
        inputs: mpsc::Sender<DriverInput<L>>,
    ) -> Self {
        let Greeted { link, reader, writer, .. } = greeted;
        let shared = Arc::new(Shared {
            node: Arc::clone(node),
            peer: Arc::clone(peer),
            link: link.clone(),
            id,
            inbound_epoch,
            greeted: SetOnce::new(),
            inputs,
        });
        let (goodbye, said) = oneshot::channel();
        let mut tasks = JoinSet::new();
        let control = tokio::spawn(work(&shared, move |shared| async move {
            write_control(&shared, writer, accepted, said).await
        }));
        tasks.spawn(work(&shared, |shared| async move { read_control(&shared, reader).await }));
        tasks.spawn(work(&shared, |shared| async move { accept_lanes(shared).await }));
        Self { link, shared, goodbye, control, gossip: None, tasks }
    }

    pub(crate) fn link(&self) -> &L {
        &self.link
    }

    pub(crate) fn id(&self) -> LinkId {
        self.shared.id
    }

    /// Starts the writer of tell lane `n`.
    pub(crate) fn write_tells(&mut self, n: u8, attached: Attached) {
        self.reap();
        self.tasks.spawn(work(&self.shared, move |shared| async move {
            write_tells(&shared, n, attached).await
        }));
    }

    /// Starts the gossip lane's writer.
    pub(crate) fn write_gossip(&mut self, epoch: u64) {
        self.gossip = Some(tokio::spawn(work(&self.shared, move |shared| async move {
            write_gossip(&shared, epoch).await
        })));
    }

    /// Says goodbye behind the last acknowledgements, waits until the peer has it (at most `limit`),
    /// and closes.
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
        let (ours, _) = oneshot::channel();
        let goodbye = std::mem::replace(&mut self.goodbye, ours);
        if goodbye.send(reason).is_ok() {
            let _ = timeout(limit, &mut self.control).await;
        }
        self.link.close(&close);
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
            let _ = self.inputs.send(DriverInput::Broken { link: self.id, reason }).await;
        }
    }
}

/// A task that reports how it fails.
fn work<L: Link, T, F>(
    shared: &Arc<Shared<L>>,
    task: T,
) -> impl Future<Output = ()> + Send + use<L, T, F>
where
    T: FnOnce(Arc<Shared<L>>) -> F + Send,
    F: Future<Output = Result<(), AssociationError>> + Send,
{
    let shared = Arc::clone(shared);
    async move { shared.ended(task(Arc::clone(&shared)).await).await }.in_current_span()
}

async fn write_tells<L: Link>(
    shared: &Shared<L>,
    n: u8,
    attached: Attached,
) -> Result<(), AssociationError> {
    shared.greeted.wait().await;
    let id = Lane::Tell(n);
    let mut writer = shared.link.open_lane(id).await?;
    writer.write(stream_header(id, attached.first)).await?;
    let lane = &shared.peer.lanes[usize::from(n)];
    loop {
        match lane.take(attached.epoch) {
            Taken::Chunk { bytes, crowded } => {
                writer.write(bytes).await?;
                if crowded {
                    // Many small segments are slow in quinn, under a lock that gossip needs too.
                    sleep(COALESCE).await;
                }
            }
            Taken::Nothing => lane.ready.notified().await,
            Taken::Closed => return Ok(()),
            Taken::Detached => {
                // The wake-up may have been meant for the writer that took over.
                lane.ready.notify_one();
                return Ok(());
            }
        }
    }
}

async fn write_gossip<L: Link>(shared: &Shared<L>, epoch: u64) -> Result<(), AssociationError> {
    shared.greeted.wait().await;
    let mut writer = shared.link.open_lane(Lane::Gossip).await?;
    writer.write(stream_header(Lane::Gossip, 0)).await?;
    let gossip = &shared.peer.gossip;
    loop {
        match gossip.take(epoch) {
            Taken::Chunk { bytes, .. } => writer.write(bytes).await?,
            Taken::Nothing => gossip.ready.notified().await,
            Taken::Detached => {
                gossip.ready.notify_one();
                return Ok(());
            }
            Taken::Closed => return writer.finish().await,
        }
    }
}

/// Writes acknowledgements, coalesced, until it is time to say goodbye.
async fn write_control<L: Link>(
    shared: &Shared<L>,
    writer: Option<L::Writer>,
    accepted: Option<Control>,
    mut goodbye: oneshot::Receiver<GoodbyeReason>,
) -> Result<(), AssociationError> {
    let mut writer = match (writer, accepted) {
        (Some(writer), _) => writer,
        (None, Some(accepted)) => greet::open_control(&shared.link, &accepted).await?,
        (None, None) => return Ok(()),
    };
    let _ = shared.greeted.set(());
    let inbound = &shared.peer.inbound;
    let delay = shared.node.config.ack_delay;
    let mut acked = Vec::new();
    // What was delivered over an earlier connection may not have been acknowledged there.
    inbound.delivered.notify_one();
    loop {
        let leaving = tokio::select! {
            biased;
            reason = &mut goodbye => match reason {
                Ok(reason) => Some(reason),
                // The session is over, and nothing was to be said.
                Err(_) => return Ok(()),
            },
            () = inbound.delivered.notified() => None,
        };
        if leaving.is_none() && !inbound.ack_is_urgent() {
            tokio::select! {
                () = sleep(delay) => {}
                () = inbound.ack_now.notified() => {}
            }
        }
        let mut buf = BytesMut::new();
        let positions = inbound.positions();
        let refused = |e: crate::error::FrameError| AssociationError::Protocol(e.to_string());
        for (lane, next) in positions.iter().filter(|position| !acked.contains(*position)) {
            Control::Ack { lane: *lane, next: *next }.encode(&mut buf).map_err(refused)?;
        }
        acked = positions;
        if let Some(reason) = leaving {
            Control::Goodbye { reason }.encode(&mut buf).map_err(refused)?;
        }
        if !buf.is_empty() {
            writer.write(buf.freeze()).await?;
        }
        if leaving.is_some() {
            return writer.finish().await;
        }
    }
}

async fn read_control<L: Link>(
    shared: &Shared<L>,
    mut reader: ControlReader<L::Reader>,
) -> Result<(), AssociationError> {
    while let Some(message) = reader.next().await? {
        match message {
            Control::Ack { lane: Lane::Tell(n), next } => {
                let lane = shared.peer.lanes.get(usize::from(n));
                let lane = lane.ok_or_else(|| unknown(Lane::Tell(n)))?;
                lane.ack(next).map_err(AssociationError::Protocol)?;
            }
            Control::Ack { lane, .. } => return Err(unknown(lane)),
            Control::Goodbye { reason } => {
                return Err(match reason {
                    GoodbyeReason::ShutDown => AssociationError::Goodbye,
                    GoodbyeReason::Idle => AssociationError::Idle,
                });
            }
            Control::Hello(_) | Control::Accepted(_) => {
                return Err(AssociationError::Protocol("a second greeting".into()));
            }
        }
    }
    Err(AssociationError::Protocol("the control lane ended without a goodbye".into()))
}

fn unknown(lane: Lane) -> AssociationError {
    AssociationError::Protocol(format!("acknowledges the {lane} lane, which nothing was sent in"))
}

/// Accepts the peer's lanes, each read by a task of its own: one that never sends its header holds up
/// nobody.
async fn accept_lanes<L: Link>(shared: Arc<Shared<L>>) -> Result<(), AssociationError> {
    let open = Arc::new(Mutex::new(HashSet::new()));
    let mut readers = JoinSet::new();
    // A lane is opened once; streams that are opened and reset over and over give their credit back.
    for _ in 0..MAX_STREAMS {
        let reader = shared.link.accept_lane().await?;
        let open = Arc::clone(&open);
        readers.spawn(work(&shared, |shared| async move {
            read_lane(&shared, Intake::new(reader), &open).await
        }));
    }
    Err(AssociationError::Protocol("more streams than there are lanes".into()))
}

async fn read_lane<L: Link>(
    shared: &Shared<L>,
    mut intake: Intake<L::Reader>,
    open: &Mutex<HashSet<Lane>>,
) -> Result<(), AssociationError> {
    let limit = shared.node.config.dial_timeout;
    let (lane, first) = timeout(limit, intake.header())
        .await
        .map_err(|_| AssociationError::Protocol(format!("no stream header within {limit:?}")))??;
    if !open.lock().unwrap_or_else(PoisonError::into_inner).insert(lane) {
        return Err(AssociationError::Protocol(format!("a second {lane} lane")));
    }
    match lane {
        Lane::Control => Err(AssociationError::Protocol("a second control lane".into())),
        Lane::Gossip => read_gossip(shared, intake).await,
        Lane::Tell(_) => read_tells(shared, intake, lane, first).await,
    }
}

async fn read_gossip<L: Link>(
    shared: &Shared<L>,
    mut intake: Intake<L::Reader>,
) -> Result<(), AssociationError> {
    let handlers = shared.node.handlers.wait().await;
    while let Some(run) = intake.run().await? {
        for piece in &run.pieces {
            let mut rest = &piece[..];
            while let Some(frame) = next_frame(&mut rest) {
                if let Err(error) = handlers.gossip.receive(&shared.peer.address, frame).await {
                    let (lane, epoch) = (Lane::Gossip, shared.inbound_epoch);
                    shared.peer.report(delivery::Fault::Frame { lane, error, epoch });
                    return Ok(());
                }
            }
        }
        let received = &shared.peer.inbound.gossip_received;
        received.fetch_add(run.frames, std::sync::atomic::Ordering::Relaxed);
    }
    Ok(())
}

async fn read_tells<L: Link>(
    shared: &Shared<L>,
    mut intake: Intake<L::Reader>,
    id: Lane,
    first: u64,
) -> Result<(), AssociationError> {
    // Before the user has set a sink, tells wait at their sender.
    shared.node.handlers.wait().await;
    let inbound = &shared.peer.inbound;
    let Some(lane) = inbound.lane(shared.inbound_epoch, id) else {
        return Err(shared.link.closed().await);
    };
    let mut next = first;
    loop {
        let waiting = lane.room(inbound, shared.inbound_epoch).await;
        let Some(mut run) = intake.run().await? else { return Ok(()) };
        if waiting > PINNED {
            run.compact();
        }
        let frames = run.frames;
        let pushed = lane.push(shared.inbound_epoch, next, run);
        next += frames;
        match pushed.map_err(|e| AssociationError::Protocol(e.to_string()))? {
            Pushed::Queued => {}
            Pushed::Fenced => return Err(shared.link.closed().await),
            Pushed::StartDelivery => {
                let (node, peer) = (Arc::clone(&shared.node), Arc::clone(&shared.peer));
                let lane = Arc::clone(&lane);
                let threadless = node.config.runtime == Runtime::Simulated;
                let deliver = move || {
                    let Some(handlers) = node.handlers.get() else { return };
                    let report = |fault| peer.report(fault);
                    delivery::deliver(
                        &peer.address,
                        &peer.inbound,
                        &lane,
                        &*handlers.sink,
                        &report,
                    );
                };
                if threadless {
                    tokio::spawn(async move { deliver() });
                } else {
                    tokio::task::spawn_blocking(deliver);
                }
            }
        }
    }
}
