//! Real QUIC connections on the loopback interface, and what each side says when one is refused.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, Endpoint};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, NamedGroup, ProtocolVersion, ServerConfig};

use super::*;
use crate::dev_certs::{DevCa, DevCertOptions};

const ALPN: &[u8] = b"test/1";
const NAMES: &[&str] = &["localhost", "127.0.0.1"];
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn two_nodes_of_one_ca_connect() {
    let ca = DevCa::new("one").unwrap();
    let a = ca.identity(&["a.test"]).unwrap();
    let b = ca.identity(NAMES).unwrap();
    let seen = connect(&b, &a, "localhost").await;
    assert!(was_accepted(&seen.dialer), "{:?}", seen.dialer);
    let accepted = seen.acceptor.unwrap();
    assert_eq!(accepted.alpn, Some(ALPN.to_vec()));
    assert_eq!(verify_peer_name(&accepted.chain, "a.test"), Ok(()));
    assert_eq!(verify_peer_name(&accepted.chain, "b.test").unwrap_err().names, ["a.test"]);
}

#[tokio::test]
async fn an_ip_address_can_be_dialled() {
    let ca = DevCa::new("one").unwrap();
    let a = ca.identity(NAMES).unwrap();
    let b = ca.identity(NAMES).unwrap();
    let seen = connect(&b, &a, "127.0.0.1").await;
    assert!(was_accepted(&seen.dialer), "{:?}", seen.dialer);
}

#[tokio::test]
async fn nodes_of_two_cas_connect_while_both_trust_both() {
    let (old, new) = (DevCa::new("old").unwrap(), DevCa::new("new").unwrap());
    let bundle = format!("{}{}", old.certificate(), new.certificate());
    let with_bundle = |ca: &DevCa| {
        let issued = ca.issue(NAMES).unwrap();
        Identity::from_pem(issued.chain.as_bytes(), issued.key.as_bytes(), bundle.as_bytes())
            .unwrap()
    };
    let (a, b) = (with_bundle(&old), with_bundle(&new));
    for (acceptor, dialer) in [(&a, &b), (&b, &a)] {
        let seen = connect(acceptor, dialer, "localhost").await;
        assert!(was_accepted(&seen.dialer), "{:?}", seen.dialer);
    }
}

#[tokio::test]
async fn the_dialer_refuses_an_unknown_issuer() {
    let (ours, theirs) = (DevCa::new("one").unwrap(), DevCa::new("one").unwrap());
    let acceptor = identity(&theirs, &ours, &DevCertOptions::default());
    let seen = connect(&acceptor, &ours.identity(NAMES).unwrap(), "localhost").await;
    seen.dialer_refuses(CertificateProblem::UnknownIssuer);
}

#[tokio::test]
async fn the_acceptor_refuses_an_unknown_issuer() {
    let (ours, theirs) = (DevCa::new("one").unwrap(), DevCa::new("one").unwrap());
    let dialer = identity(&theirs, &ours, &DevCertOptions::default());
    let seen = connect(&ours.identity(NAMES).unwrap(), &dialer, "localhost").await;
    seen.acceptor_refuses(CertificateProblem::UnknownIssuer);
}

/// A CA made again under its old name: the issuer is known, its signature is wrong.
#[tokio::test]
async fn a_namesake_of_a_trusted_ca_is_refused_by_either_side() {
    let good = namesake();
    let bad = namesake();
    let identity = |issuer: &(String, rcgen::Issuer<'_, rcgen::KeyPair>)| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let chain = params.signed_by(&key, &issuer.1).unwrap().pem();
        let key = key.serialize_pem();
        Identity::from_pem(chain.as_bytes(), key.as_bytes(), good.0.as_bytes()).unwrap()
    };
    let (good, bad) = (identity(&good), identity(&bad));
    let seen = connect(&bad, &good, "localhost").await;
    seen.dialer_refuses(CertificateProblem::BadSignature);
    let seen = connect(&good, &bad, "localhost").await;
    seen.acceptor_refuses(CertificateProblem::BadSignature);
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_either_side() {
    let ca = DevCa::new("one").unwrap();
    let now = SystemTime::now();
    let expired = DevCertOptions {
        not_before: now - 2 * HOUR,
        not_after: now - HOUR,
        ..DevCertOptions::default()
    };
    both_refuse(&ca, &expired, CertificateProblem::Expired).await;
}

#[tokio::test]
async fn a_certificate_that_is_not_yet_valid_is_refused_by_either_side() {
    let ca = DevCa::new("one").unwrap();
    let early =
        DevCertOptions { not_before: SystemTime::now() + HOUR, ..DevCertOptions::default() };
    both_refuse(&ca, &early, CertificateProblem::NotYetValid).await;
}

#[tokio::test]
async fn a_server_certificate_does_for_accepting_but_not_for_dialling() {
    let ca = DevCa::new("one").unwrap();
    let server_only = DevCertOptions { client_auth: false, ..DevCertOptions::default() };
    let limited = identity(&ca, &ca, &server_only);
    let good = ca.identity(NAMES).unwrap();
    let seen = connect(&limited, &good, "localhost").await;
    assert!(was_accepted(&seen.dialer), "{:?}", seen.dialer);
    let seen = connect(&good, &limited, "localhost").await;
    seen.acceptor_refuses(CertificateProblem::WrongUsage);
}

#[tokio::test]
async fn a_client_certificate_does_not_do_for_accepting() {
    let ca = DevCa::new("one").unwrap();
    let client_only = DevCertOptions { server_auth: false, ..DevCertOptions::default() };
    let limited = identity(&ca, &ca, &client_only);
    let seen = connect(&limited, &ca.identity(NAMES).unwrap(), "localhost").await;
    seen.dialer_refuses(CertificateProblem::WrongUsage);
}

#[tokio::test]
async fn the_dialer_refuses_a_name_that_is_not_covered() {
    let ca = DevCa::new("one").unwrap();
    let acceptor = ca.identity(&["elsewhere.test"]).unwrap();
    let seen = connect(&acceptor, &ca.identity(NAMES).unwrap(), "localhost").await;
    let text = classify(&seen.dialer).unwrap().to_string();
    assert!(text.contains("elsewhere.test"), "{text}");
    seen.dialer_refuses(CertificateProblem::NameMismatch);
}

#[tokio::test]
async fn the_acceptor_refuses_a_dialer_without_a_certificate() {
    let ca = DevCa::new("one").unwrap();
    let acceptor = ca.identity(NAMES).unwrap();
    let mut anonymous = ClientConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(Arc::clone(&acceptor.inner.roots))
        .with_no_client_auth();
    anonymous.alpn_protocols = vec![ALPN.to_vec()];
    let seen = handshake(acceptor.server_config(ALPN).unwrap(), anonymous, "localhost").await;
    seen.acceptor_refuses(CertificateProblem::Missing);
}

#[tokio::test]
async fn another_protocol_is_refused_and_not_over_a_certificate() {
    let ca = DevCa::new("one").unwrap();
    let (a, b) = (ca.identity(NAMES).unwrap(), ca.identity(NAMES).unwrap());
    let seen = handshake(
        a.server_config(b"test/1").unwrap(),
        b.client_config(b"test/2").unwrap(),
        "localhost",
    )
    .await;
    assert_eq!(classify(&seen.dialer), None, "{:?}", seen.dialer);
    assert_eq!(classify(&seen.acceptor.unwrap_err()), None);
}

/// In memory, because QUIC does not tell which group was agreed on.
#[test]
fn the_key_exchange_is_hybrid_and_nothing_is_resumed() {
    let ca = DevCa::new("one").unwrap();
    let server = ca.identity(NAMES).unwrap().server_config(ALPN).unwrap();
    let client = Arc::new(ca.identity(NAMES).unwrap().client_config(ALPN).unwrap());
    assert!(!client.enable_early_data);
    assert_eq!(server.max_early_data_size, 0);
    let server = Arc::new(server);
    for _ in 0..2 {
        let name = ServerName::try_from("localhost").unwrap();
        let mut dialer = rustls::ClientConnection::new(Arc::clone(&client), name).unwrap();
        let mut acceptor = rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
        while dialer.is_handshaking() || acceptor.is_handshaking() {
            let mut wire = Vec::new();
            dialer.write_tls(&mut wire).unwrap();
            acceptor.read_tls(&mut wire.as_slice()).unwrap();
            acceptor.process_new_packets().unwrap();
            let mut wire = Vec::new();
            acceptor.write_tls(&mut wire).unwrap();
            dialer.read_tls(&mut wire.as_slice()).unwrap();
            dialer.process_new_packets().unwrap();
        }
        assert_eq!(
            dialer.negotiated_key_exchange_group().unwrap().name(),
            NamedGroup::X25519MLKEM768
        );
        assert_eq!(
            dialer.negotiated_cipher_suite(),
            cipher_suites().first().copied(),
            "the dialer's first choice"
        );
        assert_eq!(dialer.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(dialer.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(acceptor.peer_certificates().unwrap().len(), 1);
    }
}

#[test]
fn derived_secrets_depend_on_the_key_and_the_label_alone() {
    let ca = DevCa::new("one").unwrap();
    let issued = ca.issue(NAMES).unwrap();
    let load = || {
        Identity::from_pem(
            issued.chain.as_bytes(),
            issued.key.as_bytes(),
            ca.certificate().as_bytes(),
        )
        .unwrap()
    };
    let secret = load().derive_secret("stateless reset");
    assert_eq!(load().derive_secret("stateless reset"), secret);
    assert_ne!(load().derive_secret("connection id"), secret);
    assert_ne!(ca.identity(NAMES).unwrap().derive_secret("stateless reset"), secret);

    // The same from the library's own HKDF.
    let mut expected = [0; 32];
    aws_lc_rs::hkdf::Salt::new(aws_lc_rs::hkdf::HKDF_SHA256, DERIVATION_SALT)
        .extract(load().inner.key.secret_der())
        .expand(&[b"stateless reset"], aws_lc_rs::hkdf::HKDF_SHA256)
        .unwrap()
        .fill(&mut expected)
        .unwrap();
    assert_eq!(secret, expected);
}

#[test]
fn dates_are_written_in_iso_form() {
    assert_eq!(iso_utc(SystemTime::UNIX_EPOCH), "1970-01-01 00:00 UTC");
    assert_eq!(iso_utc(system_time(1_700_000_000)), "2023-11-14 22:13 UTC");
    assert_eq!(iso_utc(system_time(-1)), "1969-12-31 23:59 UTC");
}

/// A certificate as `options` say, refused on either side of a connection for that reason.
async fn both_refuse(ca: &DevCa, options: &DevCertOptions, problem: CertificateProblem) {
    let good = ca.identity(NAMES).unwrap();
    let bad = identity(ca, ca, options);
    connect(&bad, &good, "localhost").await.dialer_refuses(problem.clone());
    connect(&good, &bad, "localhost").await.acceptor_refuses(problem);
}

/// A CA whose name does not depend on its key, unlike those of [`DevCa`].
fn namesake() -> (String, rcgen::Issuer<'static, rcgen::KeyPair>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap().pem();
    (certificate, rcgen::Issuer::new(params, key))
}

/// Without the checks at load, which would refuse most of these.
fn identity(issuer: &DevCa, trusted: &DevCa, options: &DevCertOptions) -> Identity {
    let issued = issuer.issue_with(NAMES, options).unwrap();
    Identity::assemble(
        &Pem::in_memory("chain", issued.chain.as_bytes()),
        &Pem::in_memory("key", issued.key.as_bytes()),
        &Pem::in_memory("CA bundle", trusted.certificate().as_bytes()),
    )
    .unwrap()
}

/// What the two ends of a connection saw.
struct Seen {
    acceptor: Result<Accepted, ConnectionError>,
    /// The dialer's connection always ends, by [`GOOD`] if it was accepted.
    dialer: ConnectionError,
}

#[derive(Debug)]
struct Accepted {
    alpn: Option<Vec<u8>>,
    chain: Vec<CertificateDer<'static>>,
}

impl Seen {
    #[track_caller]
    fn dialer_refuses(self, problem: CertificateProblem) {
        assert_failure(&self.dialer, Side::Us, &problem);
        assert_failure(&self.acceptor.err().unwrap(), Side::Peer, &problem);
    }

    #[track_caller]
    fn acceptor_refuses(self, problem: CertificateProblem) {
        assert_failure(&self.acceptor.err().unwrap(), Side::Us, &problem);
        assert_failure(&self.dialer, Side::Peer, &problem);
    }
}

#[track_caller]
fn assert_failure(error: &ConnectionError, by: Side, problem: &CertificateProblem) {
    let failure = classify(error).unwrap_or_else(|| panic!("not over a certificate: {error:?}"));
    println!("{failure}");
    assert_eq!((failure.by, &failure.problem), (by, problem), "{error:?}");
}

const GOOD: u32 = 7;

fn was_accepted(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == GOOD.into())
}

async fn connect(acceptor: &Identity, dialer: &Identity, dialled: &str) -> Seen {
    handshake(acceptor.server_config(ALPN).unwrap(), dialer.client_config(ALPN).unwrap(), dialled)
        .await
}

async fn handshake(server: ServerConfig, client: ClientConfig, dialled: &str) -> Seen {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = QuicServerConfig::try_from(server).unwrap();
    let server = quinn::ServerConfig::with_crypto(Arc::new(server));
    let server = Endpoint::server(server, loopback).unwrap();
    let client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).unwrap()));
    let dialer = Endpoint::client(loopback).unwrap();

    let acceptor = async {
        let connection = server.accept().await.unwrap().await?;
        let data = connection.handshake_data().unwrap();
        let data = data.downcast::<HandshakeData>().unwrap();
        let chain = connection.peer_identity().unwrap().downcast().unwrap();
        connection.close(GOOD.into(), b"");
        Ok(Accepted { alpn: data.protocol, chain: *chain })
    };
    let dialer = async {
        let connecting =
            dialer.connect_with(client, server.local_addr().unwrap(), dialled).unwrap();
        match connecting.await {
            Ok(connection) => connection.closed().await,
            Err(error) => error,
        }
    };
    let (acceptor, dialer) =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(acceptor, dialer) })
            .await
            .expect("both sides learn what happened");
    Seen { acceptor, dialer }
}
