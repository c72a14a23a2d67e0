//! QUIC: one UDP socket per node, on which it dials and accepts; one connection per link, one
//! unidirectional stream per lane.

mod closed;
mod congestion;
mod dial;
#[cfg(feature = "custom-socket")]
mod forgiving;
mod generation;
pub(crate) mod link;
#[cfg(feature = "qlog")]
mod qlog;
mod reset;
mod settings;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use quinn::{
    AsyncUdpSocket, ClientConfig, Endpoint, EndpointConfig, Runtime as _, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
};
use tokio::time::{sleep, timeout};

use crate::address::Address;
use crate::config::Config;
use crate::error::{AssociationError, BindError};
use crate::link::{Backend, Incoming};
use crate::tls::{Identity, ShownBy};
use closed::Closed;
use dial::{Dialler, Resolver, first_of};
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
    /// What connections of others are accepted with. The endpoint's own is that of the moment in which
    /// one's first packet came, and it may have waited since.
    server: RwLock<Arc<ServerConfig>>,
    present: Arc<Present>,
    resolver: Resolver,
    limits: Limits,
    handshakes: Arc<AtomicUsize>,
    #[cfg(feature = "qlog")]
    qlog: Option<Arc<qlog::Qlog>>,
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
        let qlog = qlog::Qlog::open(config, bound.port())?;
        let open = Arc::downgrade(&socket);
        let endpoint = Endpoint::new_with_abstract_socket(
            settings,
            Some(server.clone()),
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
            server: RwLock::new(Arc::new(server)),
            resolver: Resolver::default(),
            present: Arc::new(Present::new(identity, &config.wall_clock)),
            limits,
            handshakes: Arc::default(),
            #[cfg(feature = "qlog")]
            qlog,
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

    /// A connection from somebody, to be completed with what the node shows and trusts now.
    fn take_in(&self, incoming: quinn::Incoming) -> QuicIncoming {
        // In this order: one that an identity's change overtakes counts as one of the old.
        let generation = self.present.generation();
        let server = Arc::clone(&self.server.read().unwrap_or_else(PoisonError::into_inner));
        QuicIncoming {
            incoming,
            server,
            limits: self.limits,
            generation,
            handshake: Handshake::begin(&self.handshakes),
            #[cfg(feature = "qlog")]
            qlog: self.qlog.clone(),
        }
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

impl Backend for QuicBackend {
    type Link = QuicLink;
    type Incoming = QuicIncoming;

    async fn dial(&self, peer: &Address) -> Result<QuicLink, AssociationError> {
        let endpoint = self.endpoint().ok_or(AssociationError::ShuttingDown)?;
        let addresses = self.resolver.resolve(peer, endpoint.local_addr().ok()).await?;
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
            return dialler.connect(only, peer.host().to_owned()).await;
        }
        first_of(addresses, |to| dialler.clone().connect(to, peer.host().to_owned())).await
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
            return Some(self.take_in(incoming));
        }
    }

    fn renew(&self, own: &Address, config: &Config, identity: &Identity) -> Result<(), BindError> {
        check_name(identity, own)?;
        let Some(endpoint) = self.endpoint() else { return Ok(()) };
        let port = endpoint.local_addr().map_or(0, |local| local.port());
        // The endpoint keeps its keys: peers hold tokens that were made with them.
        let Parts { server, client, .. } = parts(config, identity, port, None)?;
        *self.server.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(server.clone());
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

pub(crate) struct QuicIncoming {
    incoming: quinn::Incoming,
    server: Arc<ServerConfig>,
    limits: Limits,
    generation: Generation,
    handshake: Handshake,
    #[cfg(feature = "qlog")]
    qlog: Option<Arc<qlog::Qlog>>,
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
        let Self { incoming, server, limits, generation, handshake, .. } = self;
        #[cfg(feature = "qlog")]
        let server = match qlog {
            Some(qlog) => Arc::new(qlog.server(&server, &incoming.remote_address().to_string())),
            None => server,
        };
        let connecting = incoming.accept_with(server).map_err(|e| connection_error(&e))?;
        let connection = connecting.await.map_err(|e| handshake_error(&e))?;
        drop(handshake);
        Ok(QuicLink::new(connection, limits, generation, ShownBy::Dialler))
    }
}

#[cfg(test)]
mod tests;
