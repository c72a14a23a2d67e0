//! Servers that are no nodes, or no good ones.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use cluster_quic::{DevCa, DevCertOptions, DevCertificate};
use quinn::Endpoint;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A QUIC server with any certificate for 127.0.0.1, which never greets.
pub(crate) struct OddServer {
    pub(crate) certificate: DevCertificate,
    pub(crate) alpn: &'static [u8],
    /// What it closes every connection with.
    pub(crate) close: Option<(u32, &'static str)>,
}

pub(crate) struct Running(SocketAddr);

impl OddServer {
    pub(crate) fn new(ca: &DevCa, options: &DevCertOptions) -> Self {
        let certificate = ca.issue_with(&["127.0.0.1"], options).unwrap();
        Self { certificate, alpn: b"cluster-quic/1", close: None }
    }

    pub(crate) fn good(ca: &DevCa) -> Self {
        Self::new(ca, &DevCertOptions::default())
    }

    /// Runs until the test's runtime ends.
    pub(crate) fn start(self) -> Running {
        let chain = CertificateDer::pem_slice_iter(self.certificate.chain.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.certificate.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        tls.alpn_protocols = vec![self.alpn.to_vec()];
        let crypto = Arc::new(QuicServerConfig::try_from(tls).unwrap());
        let config = quinn::ServerConfig::with_crypto(crypto);
        let endpoint = Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
        let address = endpoint.local_addr().unwrap();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Some(incoming) = endpoint.accept().await {
                let Ok(connection) = incoming.await else { continue };
                if let Some((code, text)) = self.close {
                    connection.close(code.into(), text.as_bytes());
                }
                held.push(connection);
            }
        });
        Running(address)
    }
}

impl Running {
    pub(crate) fn address(&self, system: &str) -> String {
        format!("akka.quic://{system}@{}", self.0)
    }
}

/// Answers probes of QUIC's version as a server does, and nothing else; until the process ends.
pub(crate) fn probes_alone() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            // RFC 9000, section 17.2: version, then both connection ids, each with its length.
            let known = packet[1..5] == [0, 0, 0, 1];
            if packet[0] & 0x80 == 0 || known || length < 1200 {
                continue;
            }
            let destination = &packet[5..6 + usize::from(packet[5])];
            let rest = &packet[5 + destination.len()..];
            let source = &rest[..1 + usize::from(rest[0])];
            let answer = [&[0x80, 0, 0, 0, 0], source, destination, &[0, 0, 0, 1]].concat();
            socket.send_to(&answer, from).unwrap();
        }
    });
    address
}
