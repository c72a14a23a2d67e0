//! QUIC: one UDP socket per node, on which it dials and accepts; one connection per link, one
//! unidirectional stream per lane. The settings' reasons stand beside them.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;
use quinn::Runtime as _;
use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, AsyncUdpSocket, ClientConfig, Connection, ConnectionError, Endpoint,
    EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ReadError, RecvStream, SendStream,
    ServerConfig, TokioRuntime, TransportConfig, VarInt, WriteError,
};
use quinn_proto::HashedConnectionIdGenerator;
use rustls::pki_types::CertificateDer;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::address::Address;
use crate::config::Config;
use crate::control::ALPN;
use crate::error::{AssociationError, BindError};
use crate::lane::Lane;
use crate::link::{Backend, Incoming, LaneReader, LaneWriter, Link, from_wire, to_wire};
use crate::stats::LinkStats;
use crate::tls::{Identity, IdentityError, bare_host, classify, verify_peer_name};

/// Handshakes under way beyond which an unvalidated address must first prove that it is one
/// (RFC 9000, section 8.1.2).
const RETRY_ABOVE: usize = 32;

/// First packets that wait for `accept`; beyond, quinn refuses them.
const MAX_INCOMING: usize = 256;

/// What quinn may hold of data that comes before a handshake is accepted, per attempt and in all.
const INCOMING_BUFFER: u64 = 64 * 1024;
const INCOMING_BUFFERS: u64 = 8 * 1024 * 1024;

/// A peer's larger window raises our send window up to this, so that its windows never decide our
/// memory.
const MAX_SEND_WINDOW: u64 = 256 * 1024 * 1024;

/// A host's next address is tried this much after the one before (RFC 8305, section 5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// How long the last packets of closed connections may take to leave.
const LINGER: Duration = Duration::from_millis(500);

/// Received pieces handed over per read: one lock of the connection for all of them.
const READ_BATCH: usize = 32;

/// The ALPN alert (RFC 7301): no common protocol, so another wire version.
const NO_APPLICATION_PROTOCOL: u64 = 0x178;

pub(crate) struct QuicBackend {
    /// `None` once closed.
    endpoint: RwLock<Option<Endpoint>>,
    socket: Weak<dyn AsyncUdpSocket>,
    client: ClientConfig,
    limits: Limits,
    handshakes: Arc<AtomicUsize>,
}

/// What a link needs of the configuration.
#[derive(Clone, Copy)]
struct Limits {
    tell_lanes: u8,
    send_window: u64,
}

impl QuicBackend {
    /// Opens the socket; returns the address it got. Called within a tokio runtime.
    pub(crate) fn bind(
        config: &Config,
        identity: &Identity,
    ) -> Result<(Self, SocketAddr), BindError> {
        let failed = |source| BindError::Socket { address: config.bind, source };
        let socket = open_socket(config).map_err(failed)?;
        let bound = socket.local_addr().map_err(failed)?;
        let transport = Arc::new(transport_config(config));
        let mut server = ServerConfig::with_crypto(server_crypto(identity)?);
        server
            .transport_config(Arc::clone(&transport))
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size(INCOMING_BUFFER)
            .incoming_buffer_size_total(INCOMING_BUFFERS);
        let mut client = ClientConfig::new(client_crypto(identity)?);
        client.transport_config(transport);
        let socket = TokioRuntime.wrap_udp_socket(socket).map_err(failed)?;
        let open = Arc::downgrade(&socket);
        let endpoint = Endpoint::new_with_abstract_socket(
            endpoint_config(config, identity, bound.port()),
            Some(server),
            socket,
            Arc::new(TokioRuntime),
        )
        .map_err(failed)?;
        let endpoint = RwLock::new(Some(endpoint));
        let limits = Limits { tell_lanes: config.tell_lanes, send_window: config.send_window };
        Ok((Self { endpoint, socket: open, client, limits, handshakes: Arc::default() }, bound))
    }

    fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What it takes to connect to one socket address.
#[derive(Clone)]
struct Dialler {
    endpoint: Endpoint,
    client: ClientConfig,
    limits: Limits,
}

impl Dialler {
    async fn connect(&self, to: SocketAddr, host: &str) -> Result<QuicLink, AssociationError> {
        let connecting = self
            .endpoint
            .connect_with(self.client.clone(), to, bare_host(host))
            .map_err(|e| AssociationError::Connection(e.to_string()))?;
        let connection = connecting.await.map_err(|e| connection_error(&e))?;
        Ok(QuicLink { connection, limits: self.limits })
    }
}

fn open_socket(config: &Config) -> std::io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(config.bind);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    if config.bind.is_ipv6() {
        // `[::]` is to mean all addresses, on every system.
        let _ = socket.set_only_v6(false);
    }
    // Small buffers lose packets even on loopback; the system may grant less than asked.
    let _ = socket.set_recv_buffer_size(config.socket_buffer);
    let _ = socket.set_send_buffer_size(config.socket_buffer);
    let granted = socket.recv_buffer_size()?.min(socket.send_buffer_size()?);
    if granted < config.socket_buffer {
        tracing::info!(
            granted,
            wanted = config.socket_buffer,
            "the system limits UDP socket buffers (on Linux: net.core.rmem_max, wmem_max)"
        );
    }
    socket.bind(&config.bind.into())?;
    Ok(socket.into())
}

fn transport_config(config: &Config) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(config.max_udp_payload);
    let mut acks = AckFrequencyConfig::default();
    // A lost tail waits for the peer's delay; the default of 25 ms is half of a local gossip's p99.
    acks.max_ack_delay(Some(Duration::from_millis(5)));
    let mut cubic = CubicConfig::default();
    cubic.initial_window((10 * u64::from(config.max_udp_payload)).max(14_720));
    let mut transport = TransportConfig::default();
    transport
        // Control, gossip and tells; permitted streams are allocated up front.
        .max_concurrent_uni_streams(VarInt::from_u32(streams(config.tell_lanes)))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(var(config.stream_window))
        // One stalled lane must not use up what the others need; memory is bounded by the streams.
        .receive_window(VarInt::MAX)
        .send_window(config.send_window)
        // Without it a stream that was partly sent goes before one of higher priority.
        .send_fairness(true)
        .ack_frequency_config(Some(acks))
        // Of a cluster's network, not of the internet: the first handshake's retry waits for it.
        .initial_rtt(Duration::from_millis(50))
        .max_idle_timeout(IdleTimeout::try_from(config.idle_timeout).ok())
        .keep_alive_interval(Some(config.keep_alive))
        .mtu_discovery_config(Some(mtu))
        .congestion_controller_factory(Arc::new(cubic));
    transport
}

fn streams(tell_lanes: u8) -> u32 {
    u32::from(tell_lanes) + 2
}

fn var(value: u64) -> VarInt {
    VarInt::try_from(value).unwrap_or(VarInt::MAX)
}

/// Both keys come from the identity, so that a restarted process answers its predecessor's
/// connections with stateless resets: peers learn of the restart within a round trip.
fn endpoint_config(config: &Config, identity: &Identity, port: u16) -> EndpointConfig {
    let reset = identity.derive_secret(&format!("stateless reset {port}"));
    let [k0, k1, k2, k3, k4, k5, k6, k7, ..] =
        identity.derive_secret(&format!("connection ids {port}"));
    let cid_key = u64::from_le_bytes([k0, k1, k2, k3, k4, k5, k6, k7]);
    let mut endpoint = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset)));
    endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)));
    // In range by the configuration's own check.
    let _ = endpoint.max_udp_payload_size(config.max_udp_payload.max(1472));
    endpoint
}

fn server_crypto(identity: &Identity) -> Result<Arc<QuicServerConfig>, BindError> {
    let crypto = QuicServerConfig::try_from(identity.server_config(ALPN)?);
    crypto.map(Arc::new).map_err(|e| no_cipher(&e))
}

fn client_crypto(identity: &Identity) -> Result<Arc<QuicClientConfig>, BindError> {
    let crypto = QuicClientConfig::try_from(identity.client_config(ALPN)?);
    crypto.map(Arc::new).map_err(|e| no_cipher(&e))
}

fn no_cipher(error: &quinn::crypto::rustls::NoInitialCipherSuite) -> BindError {
    BindError::Identity(IdentityError::Configuration { detail: error.to_string() })
}

impl Backend for QuicBackend {
    type Link = QuicLink;
    type Incoming = QuicIncoming;

    async fn dial(&self, peer: &Address) -> Result<QuicLink, AssociationError> {
        let endpoint = self.endpoint().ok_or(AssociationError::ShuttingDown)?;
        let addresses = resolve(peer, endpoint.local_addr().ok()).await?;
        let dialler = Dialler { endpoint, client: self.client.clone(), limits: self.limits };
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
                incoming,
                limits: self.limits,
                handshake: Handshake::begin(&self.handshakes),
            });
        }
    }

    async fn close(&self) {
        let endpoint = self.endpoint.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(endpoint) = endpoint else { return };
        endpoint.close(VarInt::from_u32(0), b"");
        let freed = async {
            endpoint.wait_idle().await;
            drop(endpoint);
            // quinn closes the socket in a task of its own, which nothing else tells the end of.
            while self.socket.strong_count() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = timeout(LINGER, freed).await;
    }
}

/// The peer's socket addresses that our socket can reach.
async fn resolve(
    peer: &Address,
    local: Option<SocketAddr>,
) -> Result<Vec<SocketAddr>, AssociationError> {
    let failed = |reason: String| AssociationError::Resolve { host: peer.host().into(), reason };
    let target = (peer.host(), peer.port());
    let found: Vec<_> = match peer.host().parse() {
        Ok(ip) => vec![SocketAddr::new(ip, peer.port())],
        Err(_) => {
            tokio::net::lookup_host(target).await.map_err(|e| failed(e.to_string()))?.collect()
        }
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
    handshake: Handshake,
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

    async fn complete(self) -> Result<QuicLink, AssociationError> {
        let Self { incoming, limits, handshake } = self;
        let connecting = incoming.accept().map_err(|e| connection_error(&e))?;
        let connection = connecting.await.map_err(|e| connection_error(&e))?;
        drop(handshake);
        Ok(QuicLink { connection, limits })
    }
}

#[derive(Clone)]
pub(crate) struct QuicLink {
    connection: Connection,
    limits: Limits,
}

impl Link for QuicLink {
    type Writer = QuicWriter;
    type Reader = QuicReader;

    async fn open_lane(&self, lane: Lane) -> Result<QuicWriter, AssociationError> {
        let stream = self.connection.open_uni().await.map_err(|e| connection_error(&e))?;
        // Before the first write: a later change applies late.
        let _ = stream.set_priority(lane.priority());
        Ok(QuicWriter { stream, finished: false })
    }

    async fn accept_lane(&self) -> Result<QuicReader, AssociationError> {
        let stream = self.connection.accept_uni().await.map_err(|e| connection_error(&e))?;
        Ok(QuicReader { link: self.clone(), stream, batch: Default::default() })
    }

    fn close(&self, reason: &AssociationError) {
        let (code, text) = to_wire(reason);
        self.connection.close(VarInt::from_u32(code), text.as_bytes());
    }

    async fn closed(&self) -> AssociationError {
        connection_error(&self.connection.closed().await)
    }

    fn may_claim(&self, address: &Address) -> Result<(), AssociationError> {
        let identity = self.connection.peer_identity();
        let chain = identity.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        let chain = chain.ok_or_else(|| AssociationError::Claim("no certificate".into()))?;
        verify_peer_name(&chain, address.host()).map_err(|e| AssociationError::Claim(e.to_string()))
    }

    fn admit(&self, lanes: u8, window: u64) -> Result<(), AssociationError> {
        if lanes > self.limits.tell_lanes {
            self.connection.set_max_concurrent_uni_streams(VarInt::from_u32(streams(lanes)));
        }
        match Config::send_window_for(self.limits.tell_lanes, window) {
            needed if needed <= self.limits.send_window => {}
            needed if needed <= MAX_SEND_WINDOW => self.connection.set_send_window(needed),
            needed => {
                return Err(AssociationError::Refused(format!(
                    "its stream window of {window} bytes needs a send window of {needed}"
                )));
            }
        }
        Ok(())
    }

    fn stats(&self) -> LinkStats {
        let path = self.connection.stats().path;
        LinkStats {
            rtt: path.rtt,
            congestion_window: path.cwnd,
            mtu: path.current_mtu,
            lost_packets: path.lost_packets,
            sent_packets: path.sent_packets,
        }
    }
}

pub(crate) struct QuicWriter {
    stream: SendStream,
    finished: bool,
}

impl LaneWriter for QuicWriter {
    async fn write(&mut self, chunk: Bytes) -> Result<(), AssociationError> {
        self.stream.write_chunk(chunk).await.map_err(|e| match e {
            WriteError::ConnectionLost(e) => connection_error(&e),
            WriteError::Stopped(_) => {
                AssociationError::Protocol("it stopped one of our lanes".into())
            }
            other => AssociationError::Connection(format!("writing a lane: {other}")),
        })
    }

    async fn finish(&mut self) -> Result<(), AssociationError> {
        self.finished = true;
        let _ = self.stream.finish();
        match self.stream.stopped().await {
            Ok(_) => Ok(()),
            Err(e) => Err(AssociationError::Connection(e.to_string())),
        }
    }
}

impl Drop for QuicWriter {
    fn drop(&mut self) {
        if !self.finished {
            // quinn would finish the stream, and a torn frame would look like a clean end.
            let _ = self.stream.reset(VarInt::from_u32(0));
        }
    }
}

pub(crate) struct QuicReader {
    link: QuicLink,
    stream: RecvStream,
    batch: [Bytes; READ_BATCH],
}

impl LaneReader for QuicReader {
    async fn read(&mut self, chunks: &mut Vec<Bytes>) -> Result<bool, AssociationError> {
        let read = match self.stream.read_chunks(&mut self.batch).await {
            Ok(read) => read,
            Err(ReadError::ConnectionLost(e)) => return Err(connection_error(&e)),
            // The peer gave the lane up with its connection, whose reason is on its way.
            Err(ReadError::Reset(_)) => return Err(self.link.closed().await),
            Err(other) => {
                return Err(AssociationError::Connection(format!("reading a lane: {other}")));
            }
        };
        let Some(n) = read else { return Ok(false) };
        chunks.extend(self.batch[..n].iter_mut().map(std::mem::take));
        Ok(true)
    }
}

fn connection_error(error: &ConnectionError) -> AssociationError {
    if let Some(failure) = classify(error) {
        return AssociationError::Certificate(failure);
    }
    let alpn = || AssociationError::Version("no protocol in common".into());
    match error {
        ConnectionError::ApplicationClosed(close) => {
            from_wire(close.error_code.into_inner(), &String::from_utf8_lossy(&close.reason))
        }
        ConnectionError::TimedOut => AssociationError::TimedOut,
        ConnectionError::Reset => AssociationError::Reset,
        ConnectionError::VersionMismatch => AssociationError::Version("of QUIC itself".into()),
        ConnectionError::TransportError(e) if u64::from(e.code) == NO_APPLICATION_PROTOCOL => {
            alpn()
        }
        ConnectionError::ConnectionClosed(e)
            if u64::from(e.error_code) == NO_APPLICATION_PROTOCOL =>
        {
            alpn()
        }
        ConnectionError::LocallyClosed => {
            AssociationError::Connection("closed by this node".into())
        }
        other => AssociationError::Connection(other.to_string()),
    }
}
