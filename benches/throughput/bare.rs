//! Bare quinn: what is left of the rate if there is nothing but the frames, in 64 KiB chunks on one
//! stream. No queue, no acknowledgement, no resume.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cluster_quic::{DevCa, RemoteTellRef};
use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, ClientConfig, Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig,
    RecvStream, SendStream, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::Error;
use crate::counter::{Counter, Load, target_path};
use crate::measure::{SET_UP, Sending, Subject, within};

const CHUNK: usize = 64 * 1024;
pub(crate) const PREFIX: usize = 4;
const ALPN: &[u8] = b"bare";

/// As on the wire: bincode's encoding of a `ClusterFrame`, borrowed.
#[derive(Serialize, Deserialize)]
pub(crate) enum Frame<'a> {
    Gossip(()),
    #[serde(borrow)]
    RemoteTell(RemoteTellRef<'a>),
}

pub(crate) struct Bare {
    stream: Mutex<SendStream>,
    counter: Arc<Counter>,
    _ends: Ends,
}

pub(crate) type Ends = [(Endpoint, Connection); 2];

/// A connection between two endpoints: the dialling side, then the other.
pub(crate) async fn connect(ca: &DevCa) -> Result<Ends, Error> {
    let (from, to) = (endpoint(ca)?, endpoint(ca)?);
    let dialled = from.connect(to.local_addr()?, "127.0.0.1")?;
    let accepted = async { Ok::<_, Error>(to.accept().await.ok_or("closed")?.await?) };
    let both = async { tokio::join!(dialled, accepted) };
    let (dialled, accepted) = within(SET_UP, "a bare connection", both).await?;
    let (dialled, accepted) = (dialled?, accepted?);
    Ok([(from, dialled), (to, accepted)])
}

impl Bare {
    pub(crate) async fn new(ca: &DevCa) -> Result<Self, Error> {
        let ends = connect(ca).await?;
        let [(_, dialled), (_, accepted)] = &ends;
        let counter = Arc::new(Counter::new());
        let stream = within(SET_UP, "a bare stream", dialled.open_uni()).await??;
        let (receiving, count) = (accepted.clone(), Arc::clone(&counter));
        tokio::spawn(async move {
            // Ends with the connection; an earlier end shows as tells that never come.
            let _ = receive(&receiving, &count).await;
        });
        Ok(Self { stream: Mutex::new(stream), counter, _ends: ends })
    }

    async fn send_all(&self, load: Load) -> Result<(), Error> {
        let mut stream = self.stream.lock().await;
        let target_path = target_path(0);
        let mut payload = vec![0x5a; load.payload];
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let room = PREFIX + load.payload + 64;
        for sequence in 0..load.tells {
            if !chunk.is_empty() && chunk.len() + room > CHUNK {
                stream.write_chunk(chunk.freeze()).await?;
                chunk = BytesMut::with_capacity(CHUNK.max(room));
            }
            payload[..8].copy_from_slice(&sequence.to_le_bytes());
            let tell = RemoteTellRef {
                target_path: &target_path,
                manifest: "bench",
                payload: &payload,
                sender_path: None,
            };
            encode(&Frame::RemoteTell(tell), &mut chunk)?;
        }
        stream.write_chunk(chunk.freeze()).await?;
        Ok(())
    }
}

impl Subject for Bare {
    fn send(self: Arc<Self>, load: Load) -> Sending {
        Box::pin(async move { self.send_all(load).await })
    }

    fn counter(&self) -> &Counter {
        &self.counter
    }
}

struct Appender<'a>(&'a mut BytesMut);

impl bincode::enc::write::Writer for Appender<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

pub(crate) fn encode(frame: &Frame<'_>, chunk: &mut BytesMut) -> Result<(), Error> {
    let start = chunk.len();
    chunk.extend_from_slice(&[0; PREFIX]);
    bincode::serde::encode_into_writer(frame, Appender(chunk), bincode::config::standard())?;
    let len = u32::try_from(chunk.len() - start - PREFIX)?;
    chunk[start..start + PREFIX].copy_from_slice(&len.to_be_bytes());
    Ok(())
}

async fn receive(connection: &Connection, counter: &Counter) -> Result<(), Error> {
    let mut stream: RecvStream = connection.accept_uni().await?;
    let mut chunks: [Bytes; 32] = Default::default();
    // The beginning of a frame whose end is in a later chunk.
    let mut partial = Vec::new();
    while let Some(n) = stream.read_chunks(&mut chunks).await? {
        for chunk in chunks[..n].iter_mut().map(std::mem::take) {
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                if partial.is_empty() && whole(rest) <= rest.len() {
                    let (frame, after) = rest.split_at(whole(rest));
                    count(frame, counter)?;
                    rest = after;
                    continue;
                }
                let missing = match partial.len() {
                    held @ 0..PREFIX => PREFIX - held,
                    held => whole(&partial) - held,
                };
                let (more, after) = rest.split_at(missing.min(rest.len()));
                partial.extend_from_slice(more);
                rest = after;
                if partial.len() >= PREFIX && partial.len() == whole(&partial) {
                    count(&partial, counter)?;
                    partial.clear();
                }
            }
        }
    }
    Ok(())
}

/// The length of the first frame with its prefix; too much if the prefix is not there.
fn whole(bytes: &[u8]) -> usize {
    let prefix = bytes.first_chunk::<PREFIX>();
    prefix.map_or(usize::MAX, |prefix| PREFIX + u32::from_be_bytes(*prefix) as usize)
}

fn count(frame: &[u8], counter: &Counter) -> Result<(), Error> {
    if let Frame::RemoteTell(tell) = decode(&frame[PREFIX..])? {
        counter.record(tell.target_path, tell.payload);
    }
    Ok(())
}

/// A frame without its prefix.
pub(crate) fn decode(frame: &[u8]) -> Result<Frame<'_>, Error> {
    let config = bincode::config::standard().with_limit::<{ 32 << 20 }>();
    Ok(bincode::serde::borrow_decode_from_slice(frame, config)?.0)
}

/// The transport's default settings for quinn, but for the congestion controller, which is quinn's own; they
/// are those of `src/backend/quic/settings.rs`, which has
/// the reasons, and must be kept the same by hand.
fn transport_config() -> Result<TransportConfig, Error> {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MAX_UDP_PAYLOAD);
    let mut acks = AckFrequencyConfig::default();
    acks.max_ack_delay(Some(Duration::from_millis(5)));
    let mut cubic = CubicConfig::default();
    cubic.initial_window((10 * u64::from(MAX_UDP_PAYLOAD)).max(14_720));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(6))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(1024 * 1024))
        .receive_window(VarInt::MAX)
        .send_window(32 * 1024 * 1024)
        .send_fairness(true)
        .ack_frequency_config(Some(acks))
        .initial_rtt(Duration::from_millis(50))
        .max_idle_timeout(Some(Duration::from_secs(10).try_into()?))
        .keep_alive_interval(Some(Duration::from_secs(2)))
        .mtu_discovery_config(Some(mtu))
        .congestion_controller_factory(Arc::new(cubic));
    Ok(transport)
}

const MAX_UDP_PAYLOAD: u16 = 4096;
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// A socket, and mutual TLS with a certificate of `ca`, as a node has them.
fn endpoint(ca: &DevCa) -> Result<Endpoint, Error> {
    let issued = ca.issue(&["127.0.0.1"])?;
    let chain = vec![CertificateDer::from_pem_slice(issued.chain.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes())?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.certificate().as_bytes())?)?;
    let (roots, provider) = (Arc::new(roots), Arc::new(default_provider()));
    let tls13 = &[&rustls::version::TLS13];

    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(tls13)?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(chain.clone(), key.clone_key())?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(tls13)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    client.alpn_protocols = vec![ALPN.to_vec()];

    let transport = Arc::new(transport_config()?);
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server)?));
    server.transport_config(Arc::clone(&transport));
    let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client)?));
    client.transport_config(transport);

    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let buffers = socket2::SockRef::from(&socket);
    buffers.set_recv_buffer_size(SOCKET_BUFFER)?;
    buffers.set_send_buffer_size(SOCKET_BUFFER)?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(MAX_UDP_PAYLOAD)?;
    let mut endpoint = Endpoint::new(config, Some(server), socket, Arc::new(TokioRuntime))?;
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}
