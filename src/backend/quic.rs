//! QUIC: one UDP socket per node, on which it dials and accepts; one connection per link, one
//! unidirectional stream per lane.

mod closed;
mod congestion;
#[cfg(feature = "custom-socket")]
mod forgiving;
mod generation;
pub(crate) mod link;
#[cfg(feature = "qlog")]
mod qlog;
mod reset;
mod settings;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use quinn::{
    AsyncUdpSocket, ClientConfig, Endpoint, EndpointConfig, Runtime as _, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::address::Address;
use crate::config::Config;
use crate::error::{AssociationError, BindError};
use crate::link::{Backend, Incoming};
use crate::tls::{Identity, ShownBy, bare_host};
use closed::Closed;
#[cfg(feature = "custom-socket")]
use forgiving::Forgiving;
use generation::{Generation, Present};
use link::{Limits, QuicLink, connection_error, handshake_error};
pub use settings::open_socket;
use settings::{client_crypto, endpoint_config, server_crypto, transport_config};

/// Handshakes under way beyond which an unvalidated address must first prove that it is one
/// (RFC 9000, section 8.1.2).
const RETRY_ABOVE: usize = 32;

/// First packets that wait for `accept`; beyond, quinn refuses them.
const MAX_INCOMING: usize = 256;

/// What quinn may hold of data that comes before a handshake is accepted, per attempt and in all.
const INCOMING_BUFFER: u64 = 64 * 1024;
pub(crate) const INCOMING_BUFFERS: u64 = 8 * 1024 * 1024;

/// What a connection of somebody else's may have sent, in all its streams, before it is admitted. A greeting
/// has room in it.
pub(crate) const UNADMITTED_WINDOW: u32 = 64 * 1024;

/// A host's next address is tried this much after the one before (RFC 8305, section 5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// How long the last packets of closed connections may take to leave. quinn would keep each connection for
/// three probe timeouts, to answer late packets; the peers that said goodbye have no more of them.
const LINGER: Duration = Duration::from_millis(200);

/// How long quinn's tasks may take to let go of the socket then: until they have all run once.
const FREED: Duration = Duration::from_secs(2);

/// A socket of the caller's own, for
/// [`ClusterTransport::bind_socket`](crate::ClusterTransport::bind_socket).
#[cfg(feature = "custom-socket")]
#[derive(Debug)]
pub struct CustomSocket {
    /// What sends and receives datagrams. A send that fails, other than since it would block, counts as
    /// a lost packet.
    pub socket: Arc<dyn AsyncUdpSocket>,
    /// Seeds what quinn draws of random numbers, so that a simulation repeats itself.
    pub seed: Option<[u8; 32]>,
}

pub(crate) struct QuicBackend {
    /// `None` once closed.
    endpoint: RwLock<Option<Endpoint>>,
    socket: Weak<dyn AsyncUdpSocket>,
    client: RwLock<ClientConfig>,
    present: Arc<Present>,
    limits: Limits,
    handshakes: Arc<AtomicUsize>,
    #[cfg(feature = "qlog")]
    qlog: Option<Arc<qlog::Qlog>>,
    /// What connections of others are accepted with, for who has to add to it.
    #[cfg(feature = "qlog")]
    server: RwLock<ServerConfig>,
}

impl QuicBackend {
    /// Opens the socket; returns the address it got. Called within a tokio runtime.
    pub(crate) fn bind(
        config: &Config,
        identity: &Identity,
    ) -> Result<(Self, SocketAddr), BindError> {
        let failed = |source| BindError::Socket { address: config.bind, source };
        let socket = open_socket(config).map_err(failed)?;
        let socket = TokioRuntime.wrap_udp_socket(socket).map_err(failed)?;
        Self::on_socket(config, identity, socket, None)
    }

    fn on_socket(
        config: &Config,
        identity: &Identity,
        socket: Arc<dyn AsyncUdpSocket>,
        seed: Option<[u8; 32]>,
    ) -> Result<(Self, SocketAddr), BindError> {
        let failed = |source| BindError::Socket { address: config.bind, source };
        let bound = socket.local_addr().map_err(failed)?;
        let Parts { settings, server, client } = parts(config, identity, bound.port(), seed)?;
        if config.key_log.is_some() {
            tracing::warn!(
                "TLS secrets go to a key log: who has it can read all that this node sends and receives"
            );
        }
        #[cfg(feature = "qlog")]
        let (qlog, server_again) =
            (qlog::Qlog::open(config, bound.port())?, RwLock::new(server.clone()));
        let open = Arc::downgrade(&socket);
        let endpoint = Endpoint::new_with_abstract_socket(
            settings,
            Some(server),
            socket,
            Arc::new(TokioRuntime),
        )
        .map_err(failed)?;
        let endpoint = RwLock::new(Some(endpoint));
        let limits = Limits { tell_lanes: config.tell_lanes, send_window: config.send_window };
        let backend = Self {
            endpoint,
            socket: open,
            client: RwLock::new(client),
            present: Arc::new(Present::new(identity, &config.wall_clock)),
            limits,
            handshakes: Arc::default(),
            #[cfg(feature = "qlog")]
            qlog,
            #[cfg(feature = "qlog")]
            server: server_again,
        };
        Ok((backend, bound))
    }

    /// On a socket of the caller's own.
    #[cfg(feature = "custom-socket")]
    pub(crate) fn bind_socket(
        config: &Config,
        identity: &Identity,
        CustomSocket { socket, seed }: CustomSocket,
    ) -> Result<(Self, SocketAddr), BindError> {
        Self::on_socket(config, identity, Arc::new(Forgiving(socket)), seed)
    }

    fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The certificate covers the node's own address, or every peer would refuse it.
pub(crate) fn check_name(identity: &Identity, own: &Address) -> Result<(), BindError> {
    let own_name = |mismatch| BindError::OwnName { address: own.clone(), mismatch };
    identity.covers(own.host()).map_err(own_name)
}

/// What a node's endpoint is made of.
#[derive(Debug)]
pub struct Parts {
    /// Connection ids, stateless resets, the largest datagram.
    pub settings: EndpointConfig,
    /// For connections of others.
    pub server: ServerConfig,
    /// For connections to others.
    pub client: ClientConfig,
}

/// What the endpoint of a node with this configuration and identity is made of.
///
/// # Errors
/// [`BindError::Identity`].
pub fn parts(
    config: &Config,
    identity: &Identity,
    port: u16,
    seed: Option<[u8; 32]>,
) -> Result<Parts, BindError> {
    let transport = Arc::new(transport_config(config));
    let mut server = ServerConfig::with_crypto(server_crypto(config, identity)?);
    server
        .transport_config(Arc::new(unadmitted(config)))
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFERS);
    let mut client = ClientConfig::new(client_crypto(config, identity)?);
    client.transport_config(transport);
    let mut settings = endpoint_config(config, identity, port);
    settings.rng_seed(seed);
    Ok(Parts { settings, server, client })
}

/// Of a connection of somebody else's, until it is admitted.
fn unadmitted(config: &Config) -> TransportConfig {
    let mut transport = transport_config(config);
    transport.receive_window(VarInt::from_u32(UNADMITTED_WINDOW));
    transport
}

/// What it takes to connect to one socket address.
#[derive(Clone)]
struct Dialler {
    endpoint: Endpoint,
    client: ClientConfig,
    limits: Limits,
    generation: Generation,
    #[cfg(feature = "qlog")]
    qlog: Option<Arc<qlog::Qlog>>,
}

impl Dialler {
    async fn connect(&self, to: SocketAddr, host: &str) -> Result<QuicLink, AssociationError> {
        let client = self.client.clone();
        #[cfg(feature = "qlog")]
        let client = match &self.qlog {
            Some(qlog) => qlog.client(client, &to.to_string()),
            None => client,
        };
        let connecting = self
            .endpoint
            .connect_with(client, to, bare_host(host))
            .map_err(|e| AssociationError::Connection(e.to_string()))?;
        let connection = connecting.await.map_err(|e| connection_error(&e))?;
        Ok(QuicLink::new(connection, self.limits, self.generation.clone(), ShownBy::Acceptor))
    }
}

impl Backend for QuicBackend {
    type Link = QuicLink;
    type Incoming = QuicIncoming;

    async fn dial(&self, peer: &Address) -> Result<QuicLink, AssociationError> {
        let endpoint = self.endpoint().ok_or(AssociationError::ShuttingDown)?;
        let addresses = resolve(peer, endpoint.local_addr().ok()).await?;
        // In this order: a dial that an identity's change overtakes counts as one of the old.
        let generation = self.present.generation();
        let client = self.client.read().unwrap_or_else(PoisonError::into_inner).clone();
        let dialler = Dialler {
            endpoint,
            client,
            limits: self.limits,
            generation,
            #[cfg(feature = "qlog")]
            qlog: self.qlog.clone(),
        };
        if let [only] = addresses[..] {
            return dialler.connect(only, peer.host()).await;
        }
        let mut attempts = JoinSet::new();
        for (n, to) in (0..).zip(addresses) {
            let (dialler, host) = (dialler.clone(), peer.host().to_owned());
            attempts.spawn(async move {
                sleep(NEXT_ADDRESS_AFTER * n).await;
                dialler.connect(to, &host).await
            });
        }
        let mut failure = AssociationError::Connection("no attempt ended".into());
        while let Some(attempt) = attempts.join_next().await {
            match attempt {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(error)) => failure = error,
                Err(_) => {}
            }
        }
        Err(failure)
    }

    async fn accept(&self) -> Option<QuicIncoming> {
        let endpoint = self.endpoint()?;
        loop {
            let incoming = endpoint.accept().await?;
            let busy = self.handshakes.load(Ordering::Relaxed) >= RETRY_ABOVE;
            if busy && !incoming.remote_address_validated() && incoming.may_retry() {
                let _ = incoming.retry();
                continue;
            }
            return Some(QuicIncoming {
                #[cfg(feature = "qlog")]
                qlog: self.qlog.as_ref().map(|qlog| {
                    let server = self.server.read().unwrap_or_else(PoisonError::into_inner);
                    (Arc::clone(qlog), server.clone())
                }),
                incoming,
                limits: self.limits,
                generation: self.present.generation(),
                handshake: Handshake::begin(&self.handshakes),
            });
        }
    }

    fn renew(&self, own: &Address, config: &Config, identity: &Identity) -> Result<(), BindError> {
        check_name(identity, own)?;
        let Some(endpoint) = self.endpoint() else { return Ok(()) };
        let port = endpoint.local_addr().map_or(0, |local| local.port());
        // The endpoint keeps its keys: peers hold tokens that were made with them.
        let Parts { server, client, .. } = parts(config, identity, port, None)?;
        #[cfg(feature = "qlog")]
        self.server.write().unwrap_or_else(PoisonError::into_inner).clone_from(&server);
        endpoint.set_server_config(Some(server));
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
        self.present.replace(identity);
        Ok(())
    }

    async fn close(&self) {
        let endpoint = self.endpoint.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(endpoint) = endpoint else { return };
        endpoint.close(VarInt::from_u32(0), b"");
        let idle = timeout(LINGER, endpoint.wait_idle()).await.is_ok();
        if let (false, Ok(local)) = (idle, endpoint.local_addr()) {
            // quinn holds the socket as long as any connection, which is seconds for a peer that is far away
            // or hardly runs, and the next node could not have the address. It listens on the previous
            // socket too, so the real one goes with the second change.
            for _ in 0..2 {
                let _ = endpoint.rebind_abstract(Arc::new(Closed(local)));
            }
        }
        drop(endpoint);
        // quinn closes the socket in tasks of its own, which nothing else tells the end of.
        let freed = async {
            while self.socket.strong_count() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = timeout(FREED, freed).await;
    }
}

/// Resolves a host name on a thread of its own: tokio's blocking threads may all be held by sinks.
async fn look_up(peer: &Address) -> std::io::Result<Vec<SocketAddr>> {
    let (host, port) = (peer.host().to_owned(), peer.port());
    let (found, result) = oneshot::channel();
    std::thread::Builder::new().name("cluster-quic-dns".into()).spawn(move || {
        let _ = found.send((host, port).to_socket_addrs().map(Iterator::collect));
    })?;
    result.await.unwrap_or_else(|_| Err(std::io::Error::other("the resolver's thread ended")))
}

/// The peer's socket addresses that our socket can reach.
async fn resolve(
    peer: &Address,
    local: Option<SocketAddr>,
) -> Result<Vec<SocketAddr>, AssociationError> {
    let failed = |reason: String| AssociationError::Resolve { host: peer.host().into(), reason };
    let found: Vec<_> = match peer.host().parse() {
        Ok(ip) => vec![SocketAddr::new(ip, peer.port())],
        Err(_) => look_up(peer).await.map_err(|e| failed(e.to_string()))?,
    };
    let ipv4_only = local.is_some_and(|local| local.is_ipv4());
    let usable: Vec<_> = found.iter().copied().filter(|to| to.is_ipv4() || !ipv4_only).collect();
    match (usable.is_empty(), found.is_empty()) {
        (false, _) => Ok(usable),
        (true, true) => Err(failed("no address".into())),
        (true, false) => {
            Err(failed("it has IPv6 addresses alone, and this node is bound to IPv4".into()))
        }
    }
}

pub(crate) struct QuicIncoming {
    incoming: quinn::Incoming,
    limits: Limits,
    generation: Generation,
    handshake: Handshake,
    /// With what to accept it then.
    #[cfg(feature = "qlog")]
    qlog: Option<(Arc<qlog::Qlog>, ServerConfig)>,
}

/// Counts a handshake for as long as it lasts.
struct Handshake(Arc<AtomicUsize>);

impl Handshake {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Incoming for QuicIncoming {
    type Link = QuicLink;

    fn remote(&self) -> String {
        self.incoming.remote_address().to_string()
    }

    fn origin(&self) -> Option<IpAddr> {
        Some(self.incoming.remote_address().ip())
    }

    fn put_off(self) {
        // The peer's own retransmission comes in a moment (RFC 9002, section 6.2).
        self.incoming.ignore();
    }

    async fn complete(self) -> Result<QuicLink, AssociationError> {
        #[cfg(feature = "qlog")]
        let qlog = self.qlog;
        let Self { incoming, limits, generation, handshake, .. } = self;
        #[cfg(feature = "qlog")]
        let connecting = match qlog {
            Some((qlog, server)) => {
                let server = qlog.server(server, &incoming.remote_address().to_string());
                incoming.accept_with(Arc::new(server))
            }
            None => incoming.accept(),
        };
        #[cfg(not(feature = "qlog"))]
        let connecting = incoming.accept();
        let connecting = connecting.map_err(|e| connection_error(&e))?;
        let connection = connecting.await.map_err(|e| handshake_error(&e))?;
        drop(handshake);
        Ok(QuicLink::new(connection, limits, generation, ShownBy::Dialler))
    }
}
