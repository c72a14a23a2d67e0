//! [`ClusterTransport`]: a node as its user holds it, whatever carries it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::broadcast;
use tokio::time::{Instant, timeout, timeout_at};

use crate::address::{Address, Incarnation};
use crate::backend::in_process::{InProcessBackend, InProcessNetwork};
use crate::backend::quic::{QuicBackend, check_name};
use crate::config::{Config, Runtime};
use crate::dead_letters::DeadLetter;
use crate::error::{AlreadyStarted, BindError, ConfigError, FlushError, PeerError, SendError};
use crate::event::Event;
use crate::frame::Tell;
use crate::hub::Hub;
use crate::node::{Handlers, Node, Phase, within};
use crate::peer::Peer;
use crate::sink::{GossipInbox, TellSink};
use crate::stats::{Lost, PeerStats, ShutdownReport};
use crate::tls::Identity;

/// How long closed connections' last packets may take to leave, after a shutdown's deadline.
const LINGER: Duration = Duration::from_secs(1);

/// For a deadline beyond what a clock can tell.
const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);

/// A node's transport: sends gossip and tells to other nodes, and hands over what they send.
///
/// Clones are handles of the same node. [`shutdown`](Self::shutdown) ends it in order; dropping the
/// last clone ends it at once: peers are told, and what is pending is lost (and reported, if somebody
/// still holds [`Events`]).
#[derive(Clone)]
pub struct ClusterTransport(Arc<Inner>);

struct Inner {
    node: Arc<Node>,
    own_runtime: OwnRuntime,
}

impl fmt::Debug for ClusterTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterTransport({})", self.address())
    }
}

impl ClusterTransport {
    /// A node that speaks QUIC on the configured UDP socket, with `identity`'s certificate. It
    /// accepts connections at once; what they carry waits until [`start`](Self::start).
    ///
    /// # Errors
    /// [`BindError`]: the port is in use, the advertised address cannot be dialled or is not covered
    /// by the certificate, no runtime.
    pub fn bind(config: Config, identity: &Identity) -> Result<Self, BindError> {
        Self::over_quic(config, identity, QuicBackend::bind)
    }

    /// [`bind`](Self::bind) with a socket of the caller's own in place of a UDP socket: a simulated
    /// network, or one that counts or filters. [`ConfigBuilder::bind`](crate::ConfigBuilder::bind) is
    /// not used. Under tokio's paused clock the whole node runs in simulated time.
    ///
    /// # Errors
    /// As for [`bind`](Self::bind).
    #[cfg(feature = "custom-socket")]
    pub fn bind_socket(
        config: Config,
        identity: &Identity,
        socket: crate::backend::quic::CustomSocket,
    ) -> Result<Self, BindError> {
        Self::over_quic(config, identity, |config, identity| {
            QuicBackend::bind_socket(config, identity, socket)
        })
    }

    fn over_quic(
        config: Config,
        identity: &Identity,
        bind: impl FnOnce(&Config, &Identity) -> Result<(QuicBackend, SocketAddr), BindError>,
    ) -> Result<Self, BindError> {
        let (runtime, own) = runtime(&config)?;
        let entered = runtime.enter();
        let (backend, bound) = bind(&config, identity)?;
        let host = config.advertise_host.clone().unwrap_or_else(|| bound.ip().to_string());
        let port = config.advertise_port.unwrap_or(bound.port());
        let address = Address::new(&config.system, host, port).map_err(ConfigError::from)?;
        check_name(identity, &address)?;
        drop(entered);
        Ok(Self::assemble(address, config, Some(identity), backend, runtime, own))
    }

    /// A node on an in-process network, named `host` there: the same queues, limits, order, resume
    /// and errors, over channels.
    ///
    /// # Errors
    /// [`BindError::AddressTaken`], or an address or runtime that cannot be used.
    pub fn in_process(
        config: Config,
        network: &InProcessNetwork,
        host: &str,
    ) -> Result<Self, BindError> {
        let config = config.in_process();
        let (runtime, own) = runtime(&config)?;
        let port = config.advertise_port.unwrap_or(IN_PROCESS_PORT);
        let address = Address::new(&config.system, host, port).map_err(ConfigError::from)?;
        let backend = InProcessBackend::register(network, &address, config.stream_window)?;
        Ok(Self::assemble(address, config, None, backend, runtime, own))
    }

    fn assemble<B: crate::link::Backend>(
        address: Address,
        config: Config,
        identity: Option<&Identity>,
        backend: B,
        runtime: Handle,
        own: OwnRuntime,
    ) -> Self {
        let node = Arc::new(Node::new(address, config, identity, runtime));
        Hub::start(&node, backend);
        tracing::info!(address = %node.address, incarnation = %node.incarnation, "node up");
        Self(Arc::new(Inner { node, own_runtime: own }))
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.0.node
    }

    /// The address that the other nodes dial.
    pub fn address(&self) -> &Address {
        &self.0.node.address
    }

    /// Which life of the node this is.
    pub fn incarnation(&self) -> Incarnation {
        self.0.node.incarnation
    }

    /// Sets where received gossip of type `G` and received tells go, once. Until then they wait at
    /// their senders.
    ///
    /// # Errors
    /// [`AlreadyStarted`].
    pub fn start<G: DeserializeOwned + Send + 'static>(
        &self,
        inbox: impl Into<GossipInbox<G>>,
        sink: impl Into<TellSink>,
    ) -> Result<(), AlreadyStarted> {
        let handlers = Handlers::new(sink.into().0, Box::new(inbox.into()));
        self.0.node.handlers.set(handlers).map_err(|_| AlreadyStarted)
    }

    /// Sets what is done with tells that were accepted and are then lost, once: `hook` gets each of them
    /// back, beside the [`Event::TellsLost`] that reports it. Lost tells of one lane come in order, and
    /// those to one peer one at a time; calls are made on blocking threads, and those for different peers may overlap. While the hook has them they are memory beyond the
    /// budgets. A shutdown waits for the hook as long as its deadline allows. A panic is caught.
    ///
    /// The node holds the hook: one that sends holds a [`WeakTransport`] or a [`Peer`].
    ///
    /// # Errors
    /// [`AlreadyStarted`]: it was set before.
    pub fn dead_letters(
        &self,
        hook: impl Fn(DeadLetter<'_>) + Send + Sync + 'static,
    ) -> Result<(), AlreadyStarted> {
        self.0.node.dead_letters.set(Box::new(hook)).map_err(|_| AlreadyStarted)
    }

    /// A handle for sending to one peer often. Makes the peer known, and does not connect yet.
    ///
    /// # Errors
    /// [`PeerError`]: the node's own address, too many peers, shutting down.
    pub fn peer(&self, address: &Address) -> Result<Peer, PeerError> {
        self.0.node.peer(address).map(Peer)
    }

    /// [`Peer::tell`] to `to`.
    ///
    /// # Errors
    /// As there, and [`SendError::Peer`]; the tell comes back.
    pub fn tell<T: Tell>(&self, to: &Address, tell: T) -> Result<(), SendError<T>> {
        match self.peer(to) {
            Ok(peer) => peer.tell(tell),
            Err(source) => Err(no_peer(source, tell)),
        }
    }

    /// [`Peer::tell_when_ready`] to `to`. Cancel-safe.
    ///
    /// # Errors
    /// As there, and [`SendError::Peer`]; the tell comes back.
    pub async fn tell_when_ready<T: Tell>(
        &self,
        to: &Address,
        tell: T,
    ) -> Result<(), SendError<T>> {
        match self.peer(to) {
            Ok(peer) => peer.tell_when_ready(tell).await,
            Err(source) => Err(no_peer(source, tell)),
        }
    }

    /// [`Peer::send_gossip`] to `to`.
    ///
    /// # Errors
    /// As there, and [`SendError::Peer`].
    pub fn send_gossip<G: Serialize + ?Sized>(
        &self,
        to: &Address,
        gossip: &G,
    ) -> Result<(), SendError<()>> {
        self.peer(to).map_err(|source| no_peer(source, ()))?.send_gossip(gossip)
    }

    /// [`Peer::flush`] for `to`. Cancel-safe.
    ///
    /// # Errors
    /// As there, and [`FlushError::Peer`].
    pub async fn flush(&self, to: &Address) -> Result<(), FlushError> {
        self.peer(to)?.flush().await
    }

    /// What happens from now on: associations, failures, losses.
    pub fn events(&self) -> Events {
        Events(self.0.node.subscribe())
    }

    /// The figures of all known peers.
    pub fn peers(&self) -> Vec<PeerStats> {
        let peers = self.0.node.peers.iter();
        peers.map(|peer| Peer(Arc::clone(&peer)).stats()).collect()
    }

    /// The figures of one peer, if it is known.
    pub fn peer_stats(&self, address: &Address) -> Option<PeerStats> {
        let peer = self.0.node.peers.get(address).map(|peer| Arc::clone(&peer))?;
        Some(Peer(peer).stats())
    }

    /// Connections of others refused so far; [`Event::IncomingRefused`] tells of up to 64 a second.
    pub fn refused_connections(&self) -> u64 {
        self.0.node.refusals()
    }

    /// The same by the [kind](crate::AssociationError::kind) of the reason.
    pub fn refused_connections_by_kind(&self) -> BTreeMap<&'static str, u64> {
        self.0.node.refusals_by_kind()
    }

    /// Bytes that all tell lanes hold together, in grants of 64 KiB; at most `node_budget`.
    pub fn held_bytes(&self) -> usize {
        self.0.node.budget.used()
    }

    /// Ends the node in order, within `deadline`: nothing new is accepted; what was accepted is sent
    /// and acknowledged; what was received goes to the sink and is acknowledged; peers are told
    /// goodbye; the socket is closed. What is still pending at the deadline is reported lost.
    ///
    /// A further call ends the wait at its own deadline, if that is earlier. Not cancel-safe: a dropped call may leave the
    /// node draining; call again, or drop the transport.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let node = &self.0.node;
        let begin = Instant::now();
        let deadline = begin.checked_add(deadline).unwrap_or(begin + FAR);
        node.phase.send_if_modified(|phase| {
            let running = *phase == Phase::Running;
            if running {
                *phase = Phase::Draining;
            }
            running
        });
        let peers: Vec<_> = node.peers.iter().map(|peer| Peer(Arc::clone(&peer))).collect();
        let lost_before: Vec<_> = peers.iter().map(|peer| peer.tells().lost_in_all()).collect();
        for peer in &peers {
            peer.0.close();
        }
        let settled = async {
            for peer in &peers {
                let _ = peer.flush().await;
            }
        };
        let _ = within(&node.runtime, || timeout_at(deadline, settled)).await;
        node.phase.send_if_modified(|phase| {
            let open = !matches!(phase, Phase::Closing { .. });
            if open {
                *phase = Phase::Closing { deadline: deadline.into_std() };
            }
            open
        });
        let left = deadline.saturating_duration_since(Instant::now()) + LINGER;
        if within(&node.runtime, || timeout(left, node.ended.wait())).await.is_err() {
            tracing::warn!("tasks of the transport still run after the shutdown's deadline");
        }
        let report = self.report(peers.iter().zip(lost_before), begin.elapsed());
        let lost: u64 = report.lost.iter().map(|(_, lost)| lost.frames).sum();
        tracing::info!(address = %node.address, lost, took = ?report.took, "node shut down");
        report
    }

    /// A handle that does not keep the node alive: for a sink that sends, which the node holds.
    pub fn downgrade(&self) -> WeakTransport {
        WeakTransport(Arc::downgrade(&self.0))
    }

    fn report<'a>(
        &self,
        peers: impl Iterator<Item = (&'a Peer, Lost)>,
        took: Duration,
    ) -> ShutdownReport {
        let acknowledged = self.0.node.forgotten.load(Ordering::Relaxed);
        let mut report = ShutdownReport { acknowledged, took, ..ShutdownReport::default() };
        for (peer, before) in peers {
            let tells = peer.tells();
            report.acknowledged += tells.acknowledged_frames;
            // Pending is nothing any more, unless a task did not end in time: not delivered either.
            let (lost, pending) = (tells.lost_in_all(), tells.pending());
            let lost = Lost {
                frames: lost.frames - before.frames + pending.frames,
                bytes: lost.bytes - before.bytes + pending.bytes,
            };
            if lost.frames > 0 {
                report.lost.push((peer.address().clone(), lost));
            }
        }
        report
    }
}

/// A [`ClusterTransport`] that does not keep its node alive; made by
/// [`downgrade`](ClusterTransport::downgrade).
#[derive(Clone)]
pub struct WeakTransport(std::sync::Weak<Inner>);

impl fmt::Debug for WeakTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakTransport")
    }
}

impl WeakTransport {
    /// The transport, unless its last handle is gone.
    pub fn upgrade(&self) -> Option<ClusterTransport> {
        self.0.upgrade().map(ClusterTransport)
    }
}

/// The port in in-process addresses, unless `advertise_port` says otherwise: it means nothing there.
const IN_PROCESS_PORT: u16 = 1;

/// Threads for sinks in a runtime of the transport's own.
const MAX_SINK_THREADS: usize = 4096;

/// The transport's own runtime, if it has one. tokio's must not be dropped within another.
struct OwnRuntime(Option<tokio::runtime::Runtime>);

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn no_peer<T>(source: PeerError, message: T) -> SendError<T> {
    match source {
        PeerError::ShuttingDown => SendError::ShuttingDown(message),
        source => SendError::Peer { message, source },
    }
}

fn runtime(config: &Config) -> Result<(Handle, OwnRuntime), BindError> {
    match config.runtime {
        Runtime::Current | Runtime::Simulated => {
            Ok((Handle::try_current().map_err(|_| BindError::NoRuntime)?, OwnRuntime(None)))
        }
        Runtime::Dedicated { threads } => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(threads)
                .thread_name("cluster-quic")
                // Sinks run on them, and a blocked one keeps its own.
                .max_blocking_threads(MAX_SINK_THREADS)
                .enable_all()
                .build()
                .map_err(BindError::Runtime)?;
            Ok((runtime.handle().clone(), OwnRuntime(Some(runtime))))
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let closing = Phase::Closing { deadline: std::time::Instant::now() };
        self.node.phase.send_if_modified(|phase| {
            let open = !matches!(phase, Phase::Closing { .. });
            if open {
                *phase = closing;
            }
            open
        });
        if let Some(runtime) = self.own_runtime.0.take() {
            let node = Arc::clone(&self.node);
            // A runtime must not be dropped within another, and its tasks have goodbyes to say.
            std::thread::spawn(move || {
                runtime.block_on(async { timeout(LINGER, node.ended.wait()).await.ok() });
                runtime.shutdown_background();
            });
        }
    }
}

/// A subscription to what happens at a node; made by [`ClusterTransport::events`].
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Event>);

impl Events {
    /// The next event; `None` once the node has ended. Cancel-safe. Who lags more than 1024 events
    /// behind gets [`Event::Missed`], and goes on with the oldest that is left.
    pub async fn recv(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(events)) => Some(Event::Missed { events }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
