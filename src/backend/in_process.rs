//! Nodes of one process, joined by channels: for tests, and for single-process use.
//!
//! It carries the same encoded chunks through the same queues, greetings and acknowledgements as
//! QUIC. Faults are the network's: links can be cut and healed, nodes killed.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::address::Address;
use crate::config::Config;
use crate::error::{AssociationError, BindError};
use crate::lane::{Lane, MAX_STREAMS};
use crate::link::{Backend, Echo, Incoming, LaneReader, LaneWriter, Link, from_wire, to_wire};
use crate::stats::{ConnectionInfo, LinkStats};
use crate::tls::{Certificate, CertificateFailure, Identity};

/// Connections that wait for one node to accept them.
const BACKLOG: usize = 256;

/// Chunks handed over per read at most.
const READ_BATCH: usize = 64;

/// A network within this process; clones are the same one. Nodes join it by
/// [`ClusterTransport::in_process`](crate::ClusterTransport::in_process).
#[derive(Clone, Default)]
pub struct InProcessNetwork(Arc<Shared>);

#[derive(Default)]
struct Shared {
    network: Mutex<Network>,
    /// Somebody may be reachable who was not.
    changed: Notify,
}

#[derive(Default)]
struct Network {
    nodes: HashMap<Address, Registration>,
    registrations: u64,
    cuts: HashSet<(Address, Address)>,
    links: Vec<Weak<Wire>>,
}

struct Registration {
    id: u64,
    window: u64,
    incoming: mpsc::Sender<Connecting>,
}

impl fmt::Debug for InProcessNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = self.lock();
        f.debug_struct("InProcessNetwork")
            .field("nodes", &network.nodes.keys())
            .field("cuts", &network.cuts)
            .finish()
    }
}

impl InProcessNetwork {
    /// An empty network.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts two nodes off from each other: their connection breaks, with whatever is in it, and dials
    /// between them get no answer.
    pub fn cut(&self, a: &Address, b: &Address) {
        let mut network = self.lock();
        network.cuts.insert(pair(a, b));
        network.sever(|x, y| pair(x, y) == pair(a, b), &AssociationError::TimedOut);
    }

    /// Undoes [`cut`](Self::cut).
    pub fn heal(&self, a: &Address, b: &Address) {
        self.lock().cuts.remove(&pair(a, b));
        self.0.changed.notify_waiters();
    }

    /// Ends a node's part in the network at once, as a crash would: its connections break, and its
    /// address is free for the next incarnation. The old [`ClusterTransport`] reaches nobody any
    /// more.
    ///
    /// [`ClusterTransport`]: crate::ClusterTransport
    pub fn kill(&self, node: &Address) {
        let mut network = self.lock();
        network.nodes.remove(node);
        network.sever(|x, y| x == node || y == node, &AssociationError::Reset);
    }

    fn lock(&self) -> MutexGuard<'_, Network> {
        self.0.network.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Network {
    fn sever(&mut self, hit: impl Fn(&Address, &Address) -> bool, reason: &AssociationError) {
        self.links.retain(|link| {
            let Some(wire) = link.upgrade() else { return false };
            let hit = hit(&wire.ends[0], &wire.ends[1]);
            if hit {
                wire.end([reason.clone(), reason.clone()]);
            }
            !hit
        });
    }
}

fn pair(a: &Address, b: &Address) -> (Address, Address) {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    (low.clone(), high.clone())
}

pub(crate) struct InProcessBackend {
    network: InProcessNetwork,
    address: Address,
    id: u64,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Connecting>>,
}

impl InProcessBackend {
    pub(crate) fn register(
        network: &InProcessNetwork,
        address: &Address,
        window: u64,
    ) -> Result<Self, BindError> {
        let mut nodes = network.lock();
        if nodes.nodes.contains_key(address) {
            return Err(BindError::AddressTaken(address.clone()));
        }
        nodes.registrations += 1;
        let id = nodes.registrations;
        let (sender, incoming) = mpsc::channel(BACKLOG);
        nodes.nodes.insert(address.clone(), Registration { id, window, incoming: sender });
        drop(nodes);
        network.0.changed.notify_waiters();
        let incoming = tokio::sync::Mutex::new(incoming);
        Ok(Self { network: network.clone(), address: address.clone(), id, incoming })
    }

    fn unregister(&self) {
        let mut network = self.network.lock();
        if network.nodes.get(&self.address).is_some_and(|node| node.id == self.id) {
            network.nodes.remove(&self.address);
        }
    }

    /// A link to `peer`, if it can be reached, and what the peer accepts it by.
    fn connect(
        &self,
        peer: &Address,
    ) -> Option<(InProcessLink, mpsc::Sender<Connecting>, Connecting)> {
        let mut network = self.network.lock();
        let alive = network.nodes.get(&self.address).filter(|own| own.id == self.id)?;
        let own_window = alive.window;
        if network.cuts.contains(&pair(&self.address, peer)) {
            return None;
        }
        let there = network.nodes.get(peer)?;
        let (queue, window) = (there.incoming.clone(), there.window);
        let (lanes_there, accept_there) = mpsc::channel(MAX_STREAMS.into());
        let (lanes_here, accept_here) = mpsc::channel(MAX_STREAMS.into());
        let wire = Arc::new(Wire {
            ends: [self.address.clone(), peer.clone()],
            ended: watch::Sender::new(None),
        });
        network.links.retain(|link| link.strong_count() > 0);
        network.links.push(Arc::downgrade(&wire));
        let ours = InProcessLink::new(&wire, 0, window, lanes_there, accept_here);
        let theirs = InProcessLink::new(&wire, 1, own_window, lanes_here, accept_there);
        Some((ours, queue, Connecting(theirs)))
    }
}

impl Drop for InProcessBackend {
    fn drop(&mut self) {
        self.unregister();
    }
}

impl Backend for InProcessBackend {
    type Link = InProcessLink;
    type Incoming = Connecting;

    async fn dial(&self, peer: &Address) -> Result<InProcessLink, AssociationError> {
        loop {
            let changed = self.network.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some((link, queue, connecting)) = self.connect(peer)
                && queue.send(connecting).await.is_ok()
            {
                return Ok(link);
            }
            // As on a network: silence, until somebody answers or the caller's patience ends.
            changed.await;
        }
    }

    async fn accept(&self) -> Option<Connecting> {
        self.incoming.lock().await.recv().await
    }

    /// There are no certificates here.
    fn renew(&self, _: &Address, _: &Config, _: &Identity) -> Result<(), BindError> {
        Ok(())
    }

    async fn close(&self) {
        self.unregister();
    }
}

pub(crate) struct Connecting(InProcessLink);

impl Incoming for Connecting {
    type Link = InProcessLink;

    fn remote(&self) -> String {
        self.0.remote().to_string()
    }

    fn origin(&self) -> Option<IpAddr> {
        None
    }

    fn put_off(self) {}

    async fn complete(self) -> Result<InProcessLink, AssociationError> {
        Ok(self.0)
    }
}

/// What two ends of a link share.
struct Wire {
    ends: [Address; 2],
    /// Why it ended, as each end sees it.
    ended: watch::Sender<Option<[AssociationError; 2]>>,
}

impl Wire {
    fn end(&self, reasons: [AssociationError; 2]) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(reasons);
            }
            first
        });
    }

    async fn ended(&self, side: usize) -> AssociationError {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(reasons)) => reasons[side].clone(),
            // The sender lives in `self`.
            _ => AssociationError::TimedOut,
        }
    }
}

#[derive(Clone)]
pub(crate) struct InProcessLink(Arc<End>);

struct End {
    wire: Arc<Wire>,
    /// Which of the wire's ends this is.
    side: usize,
    /// The peer's window per lane in bytes.
    window: usize,
    open: mpsc::Sender<mpsc::Receiver<Piece>>,
    accept: tokio::sync::Mutex<mpsc::Receiver<mpsc::Receiver<Piece>>>,
}

/// A chunk, and its part of the lane's window.
type Piece = (Bytes, OwnedSemaphorePermit);

impl InProcessLink {
    fn new(
        wire: &Arc<Wire>,
        side: usize,
        window: u64,
        open: mpsc::Sender<mpsc::Receiver<Piece>>,
        accept: mpsc::Receiver<mpsc::Receiver<Piece>>,
    ) -> Self {
        let window = usize::try_from(window).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let accept = tokio::sync::Mutex::new(accept);
        Self(Arc::new(End { wire: Arc::clone(wire), side, window, open, accept }))
    }

    fn remote(&self) -> &Address {
        &self.0.wire.ends[1 - self.0.side]
    }

    async fn ended(&self) -> AssociationError {
        self.0.wire.ended(self.0.side).await
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // As quinn has it: a connection whose last handle goes is closed.
        self.wire.end([AssociationError::Goodbye, AssociationError::Goodbye]);
    }
}

impl Link for InProcessLink {
    type Writer = InProcessWriter;
    type Reader = InProcessReader;

    async fn open_lane(&self, _: Lane) -> Result<InProcessWriter, AssociationError> {
        let (chunks, reader) = mpsc::channel(Semaphore::MAX_PERMITS.min(1 << 20));
        let opened = self.0.open.send(reader);
        tokio::select! {
            biased;
            reason = self.ended() => return Err(reason),
            sent = opened => if sent.is_err() {
                return Err(self.ended().await);
            },
        }
        let window = Arc::new(Semaphore::new(self.0.window));
        Ok(InProcessWriter { link: self.clone(), window, chunks: Some(chunks) })
    }

    async fn accept_lane(&self) -> Result<InProcessReader, AssociationError> {
        let accepted = async { self.0.accept.lock().await.recv().await };
        tokio::select! {
            biased;
            reason = self.ended() => Err(reason),
            lane = accepted => match lane {
                Some(chunks) => Ok(InProcessReader { link: self.clone(), chunks }),
                None => Err(self.ended().await),
            },
        }
    }

    fn close(&self, reason: &AssociationError) {
        let (code, text) = to_wire(reason);
        let theirs = from_wire(code.into(), &text);
        let mut reasons = [theirs.clone(), theirs];
        reasons[self.0.side] = reason.clone();
        self.0.wire.end(reasons);
    }

    async fn closed(&self) -> AssociationError {
        self.ended().await
    }

    fn is_current(&self) -> bool {
        true
    }

    fn certificate(&self) -> Option<Certificate> {
        None
    }

    fn is_trusted(&self) -> Result<(), CertificateFailure> {
        Ok(())
    }

    fn may_claim(&self, address: &Address) -> Result<(), AssociationError> {
        match self.remote() {
            remote if remote == address => Ok(()),
            remote => Err(AssociationError::Claim(format!("{remote} claims to be {address}"))),
        }
    }

    fn admit(&self, _: u8, _: u64) -> Result<(), AssociationError> {
        Ok(())
    }

    fn stats(&self) -> LinkStats {
        LinkStats::default()
    }

    fn info(&self) -> ConnectionInfo {
        ConnectionInfo::default()
    }

    fn echo(&self) -> Echo {
        Echo::default()
    }
}

pub(crate) struct InProcessWriter {
    link: InProcessLink,
    window: Arc<Semaphore>,
    chunks: Option<mpsc::Sender<Piece>>,
}

impl LaneWriter for InProcessWriter {
    async fn write(&mut self, chunk: Bytes) -> Result<(), AssociationError> {
        let Some(chunks) = &self.chunks else { return Err(self.link.ended().await) };
        // A chunk larger than the window takes all of it.
        let bytes = chunk.len().min(self.link.0.window);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let written = async {
            let room = Arc::clone(&self.window).acquire_many_owned(permits).await.ok()?;
            chunks.send((chunk, room)).await.ok()
        };
        tokio::select! {
            biased;
            reason = self.link.ended() => Err(reason),
            written = written => match written {
                Some(()) => Ok(()),
                None => Err(self.link.ended().await),
            },
        }
    }

    async fn finish(&mut self) -> Result<(), AssociationError> {
        self.chunks = None;
        let all = u32::try_from(self.link.0.window).unwrap_or(u32::MAX);
        tokio::select! {
            biased;
            reason = self.link.ended() => Err(reason),
            _ = self.window.acquire_many(all) => Ok(()),
        }
    }
}

pub(crate) struct InProcessReader {
    link: InProcessLink,
    chunks: mpsc::Receiver<Piece>,
}

impl LaneReader for InProcessReader {
    /// Its sender's own chunks, which that keeps until they are acknowledged.
    const PINS: bool = false;

    async fn read(&mut self, chunks: &mut Vec<Bytes>) -> Result<bool, AssociationError> {
        let first = tokio::select! {
            biased;
            reason = self.link.ended() => return Err(reason),
            first = self.chunks.recv() => first,
        };
        let Some((chunk, _)) = first else { return Ok(false) };
        chunks.push(chunk);
        while chunks.len() < READ_BATCH {
            let Ok((chunk, _)) = self.chunks.try_recv() else { break };
            chunks.push(chunk);
        }
        Ok(true)
    }
}
