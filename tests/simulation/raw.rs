//! Endpoints that speak QUIC and are no nodes: strangers with certificates that a node would not load.

use std::net::SocketAddr;
use std::sync::Arc;

use cluster_quic::{ClusterFrame, RemoteTell};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, ServerConfig, TokioRuntime};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use serde::Serialize;

use crate::identity::{Ca, Certificate, HOST};
use crate::network::Network;

/// The protocol that nodes agree on.
pub(crate) const ALPN: &str = "cluster-quic/1";

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn roots(ca: &Ca) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(ca.root()).unwrap();
    roots
}

fn endpoint(network: &Network, address: SocketAddr, server: Option<ServerConfig>) -> Endpoint {
    let socket = network.socket(address);
    let config = quinn::EndpointConfig::default();
    Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime)).unwrap()
}

/// Dials a node with a certificate, or none, trusting `ca`. Returns how that ended, unless it did not.
pub(crate) async fn dial(
    network: &Network,
    from: SocketAddr,
    to: SocketAddr,
    ca: &Ca,
    certificate: Option<&Certificate>,
    alpn: &str,
) -> (Endpoint, Result<Connection, ConnectionError>) {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots(ca));
    let mut tls = match certificate.map(Certificate::der) {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![alpn.into()];
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = endpoint(network, from, None);
    let connected = endpoint.connect_with(config, to, HOST).unwrap().await;
    (endpoint, connected)
}

/// Takes part in the handshakes of whoever dials `at`, with a certificate, trusting `ca`.
pub(crate) fn listen(
    network: &Network,
    at: SocketAddr,
    ca: &Ca,
    certificate: &Certificate,
    alpn: &str,
) -> Endpoint {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)), provider());
    let (chain, key) = certificate.der();
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![alpn.into()];
    let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let endpoint = endpoint(network, at, Some(config));
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            // Whether it is refused is for the dialler to say.
            let _ = incoming.await;
        }
    });
    endpoint
}

/// The first thing that a dialler says, as it stands on the wire.
#[derive(Serialize)]
pub(crate) struct Hello {
    pub(crate) version: u16,
    pub(crate) cluster: String,
    pub(crate) address: String,
    pub(crate) to: String,
    pub(crate) incarnation: u64,
    pub(crate) session: u64,
    pub(crate) attempt: u64,
    pub(crate) lanes: u8,
    pub(crate) stream_window: u64,
    pub(crate) resume: Option<()>,
}

/// A length prefix and what it is of.
pub(crate) fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes()[..], body].concat()
}

/// The bytes of a lane's stream, from its first frame.
pub(crate) fn stream(lane: u8, frames: &[u8]) -> Vec<u8> {
    [&[lane][..], &0_u64.to_be_bytes(), frames].concat()
}

/// The frame of a tell.
pub(crate) fn tell_frame(tell: RemoteTell) -> Vec<u8> {
    framed(&ClusterFrame::<()>::RemoteTell(tell).encode().unwrap())
}

/// The first tell lane.
pub(crate) const TELL: u8 = 2;

/// The bytes of the control lane's stream that greets.
pub(crate) fn greeting(hello: &Hello) -> Vec<u8> {
    let body = bincode::serde::encode_to_vec((0_u32, hello), bincode::config::standard()).unwrap();
    stream(0, &framed(&body))
}

/// Opens a stream that stays open, and writes into it. It may find the connection closed.
pub(crate) async fn write(connection: &Connection, bytes: &[u8]) {
    if let Ok(mut stream) = connection.open_uni().await {
        let _ = stream.write_all(bytes).await;
        // Dropped, it would end the lane.
        std::mem::forget(stream);
    }
}

/// Sends a tell, in a lane of its own. It may find the connection closed.
pub(crate) async fn tell(connection: &Connection, tell: RemoteTell) {
    write(connection, &stream(TELL, &tell_frame(tell))).await;
}

/// Says `hello` on the control lane. It may find the connection closed.
pub(crate) async fn greet(connection: &Connection, hello: &Hello) {
    write(connection, &greeting(hello)).await;
}
