//! The other side of the example conversation: QUIC and TLS, and for the rest the page's bytes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cluster_quic::Identity;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, RecvStream, SendStream,
    ServerConfig, TokioRuntime,
};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;

use crate::identity::{Ca, Claims, HOST};
use crate::network::Network;
use crate::notation::hex;

/// Simulated time, so it costs nothing; more than any time of the protocol's own.
const LIMIT: Duration = Duration::from_secs(30);

/// A socket that speaks QUIC with a certificate of the cluster's.
pub(crate) struct Peer {
    endpoint: Endpoint,
}

/// One connection, and its streams by the lane's name in the page.
pub(crate) struct Talk {
    connection: Connection,
    ours: HashMap<String, SendStream>,
    theirs: HashMap<String, RecvStream>,
}

impl Peer {
    /// At `address`, and the identity for a node beside it.
    pub(crate) fn new(network: &Network, address: SocketAddr) -> (Self, Identity) {
        let ca = Ca::new();
        let (chain, key) = ca.issue(&Claims::default()).der();
        let mut roots = RootCertStore::empty();
        roots.add(ca.root()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let alpn = vec![b"cluster-quic/1".to_vec()];
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .unwrap();
        tls.alpn_protocols = alpn.clone();
        let client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        tls.alpn_protocols = alpn;
        let server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let socket = network.socket(address);
        let mut endpoint = Endpoint::new_with_abstract_socket(
            EndpointConfig::default(),
            Some(server),
            socket,
            Arc::new(TokioRuntime),
        )
        .unwrap();
        endpoint.set_default_client_config(client);
        (Self { endpoint }, ca.identity())
    }

    pub(crate) async fn dial(&self, to: SocketAddr) -> Talk {
        Talk::new(within(self.endpoint.connect(to, HOST).unwrap()).await.unwrap())
    }

    pub(crate) async fn accept(&self) -> Talk {
        let incoming = within(self.endpoint.accept()).await.expect("a dial");
        Talk::new(within(incoming.accept().unwrap()).await.unwrap())
    }
}

impl Talk {
    fn new(connection: Connection) -> Self {
        Self { connection, ours: HashMap::new(), theirs: HashMap::new() }
    }

    /// Writes in one of our lanes, whose header is in its first bytes.
    pub(crate) async fn write(&mut self, lane: &str, bytes: &[u8]) {
        if !self.ours.contains_key(lane) {
            let stream = within(self.connection.open_uni()).await.unwrap();
            self.ours.insert(lane.into(), stream);
        }
        within(self.ours.get_mut(lane).unwrap().write_all(bytes)).await.unwrap();
    }

    /// Reads `expected` in one of the node's lanes: the next one that it opens, if it is a new one.
    pub(crate) async fn read(&mut self, lane: &str, expected: &[u8], place: &str) {
        if !self.theirs.contains_key(lane) {
            let stream = within(self.connection.accept_uni()).await.unwrap();
            self.theirs.insert(lane.into(), stream);
        }
        let stream = self.theirs.get_mut(lane).unwrap();
        let mut bytes = vec![0; expected.len()];
        within(stream.read_exact(&mut bytes)).await.unwrap_or_else(|e| panic!("{place}: {e}"));
        assert_eq!(hex(&bytes), hex(expected), "{place}");
    }

    /// A lane of ours ends in order.
    pub(crate) fn finish(&mut self, lane: &str) {
        self.ours.get_mut(lane).unwrap().finish().unwrap();
    }

    /// A lane of the node's ends in order, with nothing more in it.
    pub(crate) async fn ends(&mut self, lane: &str) {
        let rest = within(self.theirs.get_mut(lane).unwrap().read_to_end(64)).await.unwrap();
        assert_eq!(hex(&rest), "", "{lane}");
    }

    /// What the node closes with.
    pub(crate) async fn closed(&self) -> u64 {
        match within(self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("{other}"),
        }
    }
}

pub(crate) async fn within<T>(future: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("in time")
}
