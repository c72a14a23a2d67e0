//! The victim, its healthy peer, and the hostile one's means.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster_quic::{
    AssociationError, ClusterTransport, Config, DevCa, Event, Events, RecordingSink, RemoteTell,
    gossip_inbox,
};
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use serde::{Deserialize, Serialize};

/// How long to wait for what comes soon, or never.
pub(crate) const NEVER: Duration = Duration::from_secs(30);

pub(crate) const HOST: &str = "127.0.0.1";
pub(crate) const CONTROL: u8 = 0;
pub(crate) const GOSSIP: u8 = 1;
pub(crate) const TELL: u8 = 2;

/// The victim's gossip: of a kind that a frame can do harm with.
#[derive(Deserialize)]
#[allow(dead_code)]
enum Talk {
    Text(String),
    Nested(Vec<Talk>),
    Units(Vec<()>),
}

/// The victim, and a healthy peer of its.
pub(crate) struct Scene {
    pub(crate) ca: DevCa,
    pub(crate) victim: ClusterTransport,
    pub(crate) events: Events,
    pub(crate) sink: Arc<RecordingSink>,
    pub(crate) healthy: ClusterTransport,
    /// The hostile member's socket, with a certificate of the cluster's CA.
    pub(crate) endpoint: Endpoint,
    /// Dropped, they would tell the victim to stop its control lanes.
    pub(crate) answers: Vec<RecvStream>,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with_dial_timeout(Duration::from_secs(5)).await
    }

    pub(crate) async fn with_dial_timeout(limit: Duration) -> Self {
        let ca = DevCa::new("hostile").unwrap();
        let identity = ca.identity(&[HOST]).unwrap();
        let config = || Config::builder("test").dial_timeout(limit).build().unwrap();
        let victim = ClusterTransport::bind(config(), &identity).unwrap();
        let healthy = ClusterTransport::bind(config(), &identity).unwrap();
        let sink = RecordingSink::new();
        let events = victim.events();
        victim.start(gossip_inbox::<Talk>(16).0, sink.clone()).unwrap();
        healthy.start(gossip_inbox::<String>(16).0, RecordingSink::new()).unwrap();
        let (endpoint, answers) = (endpoint(&ca), Vec::new());
        let scene = Self { ca, victim, events, sink, healthy, endpoint, answers };
        scene.healthy_works().await;
        scene
    }

    /// The healthy peer's association is the first one still, and carries tells.
    pub(crate) async fn healthy_works(&self) {
        let to = self.victim.address();
        self.healthy.tell(to, tell("/user/healthy")).unwrap();
        self.healthy.flush(to).await.unwrap();
        assert_eq!(self.healthy.peer_stats(to).unwrap().associations, 1);
    }

    /// A raw connection with a certificate of the cluster's CA.
    pub(crate) async fn connect(&self) -> Connection {
        self.endpoint.connect(self.socket_address(), HOST).unwrap().await.unwrap()
    }

    pub(crate) fn socket_address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.victim.address().port()).into()
    }

    /// A connection that has greeted as `hello` says.
    pub(crate) async fn greet(&self, hello: &Hello) -> Connection {
        let connection = self.connect().await;
        // Open for as long as the connection, which a finished control lane would end.
        let greeting = open(&connection, CONTROL, &control(&self.addressed(hello))).await;
        let until_closed = connection.clone();
        tokio::spawn(async move {
            until_closed.closed().await;
            drop(greeting);
        });
        connection
    }

    /// The greeting with the victim's address, unless it has another.
    pub(crate) fn addressed(&self, hello: &Hello) -> Hello {
        let to =
            if hello.to.is_empty() { self.victim.address().to_string() } else { hello.to.clone() };
        Hello { to, ..hello.clone() }
    }

    /// A connection that was accepted.
    pub(crate) async fn accepted(&mut self, hello: &Hello) -> Connection {
        let connection = self.greet(hello).await;
        let answer = connection.accept_uni().await.expect("the answer to a good greeting");
        self.answers.push(answer);
        loop {
            if let Event::PeerUp { peer, .. } = self.events.recv().await.unwrap()
                && peer.to_string() == hello.address
            {
                return connection;
            }
        }
    }

    /// Why the association with this peer ended.
    pub(crate) async fn down(&mut self, address: &str) -> AssociationError {
        let down = async {
            loop {
                if let Event::PeerDown { peer, reason } = self.events.recv().await.unwrap()
                    && peer.to_string() == address
                {
                    return reason;
                }
            }
        };
        tokio::time::timeout(NEVER, down).await.expect("its end")
    }

    pub(crate) async fn refused(&mut self) -> AssociationError {
        loop {
            if let Event::IncomingRefused { error, .. } = self.events.recv().await.unwrap() {
                return error;
            }
        }
    }
}

/// An endpoint with a certificate of the cluster's CA.
fn endpoint(ca: &DevCa) -> Endpoint {
    client(ca, true)
}

/// An endpoint without a certificate.
pub(crate) fn outsider(ca: &DevCa) -> Endpoint {
    client(ca, false)
}

fn client(ca: &DevCa, member: bool) -> Endpoint {
    let certificate = ca.issue(&[HOST]).unwrap();
    let pem = |text: &str| rustls_pem(text);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pem(ca.certificate()).remove(0)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut tls = match member {
        true => tls.with_client_auth_cert(pem(&certificate.chain), key(&certificate.key)).unwrap(),
        false => tls.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![b"cluster-quic/1".to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    endpoint
}

pub(crate) fn rustls_pem(text: &str) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::pem_slice_iter(text.as_bytes()).map(Result::unwrap).collect()
}

pub(crate) fn key(text: &str) -> rustls::pki_types::PrivateKeyDer<'static> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::PrivateKeyDer::from_pem_slice(text.as_bytes()).unwrap()
}

/// The greeting as it stands on the wire: the fields of `Greeting`, flat.
#[derive(Clone, Serialize)]
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

pub(crate) fn hello(port: u16) -> Hello {
    Hello {
        version: 1,
        cluster: "test".into(),
        address: format!("akka.quic://test@{HOST}:{port}"),
        to: String::new(),
        incarnation: 5,
        session: 0,
        attempt: 1,
        lanes: 4,
        stream_window: 1 << 20,
        resume: None,
    }
}

pub(crate) fn encode(value: impl Serialize) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).unwrap()
}

pub(crate) fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// `Control::Hello`, framed.
pub(crate) fn control(hello: &Hello) -> Vec<u8> {
    framed(&encode((0_u32, hello)))
}

pub(crate) fn tell(target: &str) -> RemoteTell {
    RemoteTell {
        target_path: target.into(),
        manifest: String::new(),
        payload: vec![1],
        sender_path: None,
    }
}

/// [`open`], for good.
pub(crate) async fn send(connection: &Connection, lane: u8, bytes: &[u8]) {
    std::mem::forget(open(connection, lane, bytes).await);
}

/// Opens a stream for a lane and writes `bytes` behind its header.
pub(crate) async fn open(connection: &Connection, lane: u8, bytes: &[u8]) -> SendStream {
    let mut stream = connection.open_uni().await.unwrap();
    let mut header = vec![lane];
    header.extend_from_slice(&0_u64.to_be_bytes());
    header.extend_from_slice(bytes);
    // The victim may have closed already: what it says then is what counts.
    let _ = stream.write_all(&header).await;
    stream
}

/// The code that the victim closes with, and how long that took.
pub(crate) async fn closed(connection: &Connection) -> (u64, Duration) {
    let begin = Instant::now();
    let closed = tokio::time::timeout(NEVER, connection.closed());
    match closed.await.expect("the victim closes") {
        ConnectionError::ApplicationClosed(close) => {
            (close.error_code.into_inner(), begin.elapsed())
        }
        other => panic!("{other}"),
    }
}

pub(crate) const WAITED_TOO_LONG: u64 = 4;
pub(crate) const PROTOCOL: u64 = 5;
pub(crate) const VERSION: u64 = 6;
pub(crate) const CLUSTER: u64 = 7;
pub(crate) const CLAIM: u64 = 8;
pub(crate) const STALE: u64 = 9;
