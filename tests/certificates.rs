//! Whom a node refuses for its certificate, what each side is told, and how soon; over real sockets.

use std::time::{Duration, Instant, SystemTime};

use cluster_quic::{
    AssociationError, BindError, CertificateProblem, ClusterTransport, Config, DevCa, Event,
    Events, Identity, RecordingSink, RemoteTell, Side, gossip_inbox,
};

const HOST: &str = "127.0.0.1";

/// On a busy machine; without a wait for the next dial or for a timeout.
const SOON: Duration = Duration::from_secs(10);

struct Node {
    transport: ClusterTransport,
    events: Events,
}

fn node(identity: &Identity) -> Node {
    let config = Config::builder("test").dial_timeout(SOON * 3).build().unwrap();
    let transport = ClusterTransport::bind(config, identity).unwrap();
    let (inbox, _) = gossip_inbox::<String>(1);
    let events = transport.events();
    transport.start(inbox, RecordingSink::new()).unwrap();
    Node { transport, events }
}

fn tell() -> RemoteTell {
    RemoteTell {
        target_path: "/t".into(),
        manifest: String::new(),
        payload: vec![],
        sender_path: None,
    }
}

/// Lets `dialler` send to `acceptor`; returns what each of them says of the other, and checks that it
/// is said soon, and not in a storm.
async fn refusal(dialler: &mut Node, acceptor: &mut Node) -> (AssociationError, AssociationError) {
    let begin = Instant::now();
    dialler.transport.tell(acceptor.transport.address(), tell()).unwrap();
    let dialled = loop {
        match dialler.events.recv().await.unwrap() {
            Event::DialFailed { error, retry_in, .. } => {
                assert!(
                    retry_in >= Duration::from_secs(5),
                    "the next attempt comes in {retry_in:?}"
                );
                break error;
            }
            Event::PeerUp { .. } => panic!("associated"),
            _ => {}
        }
    };
    let accepted = loop {
        match acceptor.events.recv().await.unwrap() {
            Event::IncomingRefused { error, .. } => break error,
            Event::PeerUp { .. } => panic!("associated"),
            _ => {}
        }
    };
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    (dialled, accepted)
}

fn problem(error: &AssociationError, by: Side) -> CertificateProblem {
    match error {
        AssociationError::Certificate(failure) => {
            assert_eq!(failure.by, by, "{failure}");
            failure.problem.clone()
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_stranger_s_ca() {
    let (ours, theirs) = (DevCa::new("ours").unwrap(), DevCa::new("theirs").unwrap());
    let mut a = node(&ours.identity(&[HOST]).unwrap());
    let mut b = node(&theirs.identity(&[HOST]).unwrap());
    // The dialler judges first.
    let (dialled, accepted) = refusal(&mut a, &mut b).await;
    assert_eq!(problem(&dialled, Side::Us), CertificateProblem::UnknownIssuer);
    assert_eq!(problem(&accepted, Side::Peer), CertificateProblem::UnknownIssuer);
}

/// A node that trusts `trusted` and shows a certificate of `issuer`.
#[tokio::test]
async fn what_the_peer_has_shown_can_be_looked_at() {
    let ca = DevCa::new("ours").unwrap();
    let (ours, theirs) = (ca.identity(&[HOST]).unwrap(), ca.identity(&[HOST, "b.test"]).unwrap());
    let config = || Config::builder("test").tell_lanes(3).stream_window(128 * 1024);
    let a = node(&ours);
    let b = ClusterTransport::bind(config().build().unwrap(), &theirs).unwrap();
    let peer = a.transport.peer(b.address()).unwrap();
    assert_eq!(peer.connection(), None);
    peer.connect().await.unwrap();
    let shown = peer.connection().expect("connected");
    assert_eq!(shown.remote, Some(([127, 0, 0, 1], b.address().port()).into()));
    assert_eq!(shown.certificates.len(), 1);
    let parsed = x509_parser::parse_x509_certificate(&shown.certificates[0]).unwrap().1;
    let names = parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len();
    assert_eq!(names, 2, "theirs, not ours");
    assert_eq!((&*shown.protocol, shown.wire_version), ("cluster-quic/1", 1));
    assert_eq!((shown.tell_lanes, shown.stream_window), (3, 128 * 1024));
    b.shutdown(Duration::from_secs(5)).await;
    let gone = async {
        while peer.connection().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("no connection, nothing shown");
}

fn identity(issuer: &DevCa, trusted: &[&DevCa]) -> Identity {
    let certificate = issuer.issue(&[HOST]).unwrap();
    let bundle: String = trusted.iter().map(|ca| ca.certificate()).collect();
    Identity::from_pem(certificate.chain.as_bytes(), certificate.key.as_bytes(), bundle.as_bytes())
        .unwrap()
}

#[tokio::test]
async fn an_acceptor_that_does_not_know_the_dialler_s_ca() {
    let (old, new) = (DevCa::new("old").unwrap(), DevCa::new("new").unwrap());
    let mut a = node(&identity(&old, &[&old, &new]));
    let mut b = node(&identity(&new, &[&new]));
    let (dialled, accepted) = refusal(&mut a, &mut b).await;
    assert_eq!(problem(&dialled, Side::Peer), CertificateProblem::UnknownIssuer);
    assert_eq!(problem(&accepted, Side::Us), CertificateProblem::UnknownIssuer);
}

#[tokio::test]
async fn several_cas_at_once_as_in_a_migration() {
    let (old, new) = (DevCa::new("old").unwrap(), DevCa::new("new").unwrap());
    let a = node(&identity(&old, &[&old, &new]));
    let b = node(&identity(&new, &[&old, &new]));
    a.transport.tell(b.transport.address(), tell()).unwrap();
    a.transport.flush(b.transport.address()).await.unwrap();
}

/// An identity whose certificate expires a second from now: a node loads it, and then it is too late.
fn expiring(ca: &DevCa) -> (Identity, SystemTime) {
    let now = SystemTime::now();
    let until = now + Duration::from_secs(2);
    let options = cluster_quic::DevCertOptions {
        not_before: now - Duration::from_secs(3600),
        not_after: until,
        ..cluster_quic::DevCertOptions::default()
    };
    let certificate = ca.issue_with(&[HOST], &options).unwrap();
    let identity = Identity::from_pem(
        certificate.chain.as_bytes(),
        certificate.key.as_bytes(),
        ca.certificate().as_bytes(),
    );
    (identity.unwrap(), until)
}

async fn pass(until: SystemTime) {
    // Certificates know no paused clock.
    while let Ok(left) = until.duration_since(SystemTime::now() - Duration::from_millis(1_100)) {
        tokio::time::sleep(left).await;
    }
}

#[tokio::test]
async fn an_expired_certificate() {
    let ca = DevCa::new("ca").unwrap();
    let good = ca.identity(&[HOST]).unwrap();
    let (expired, until) = expiring(&ca);
    let (mut a, mut b) = (node(&expired), node(&good));
    let (mut c, mut d) = (node(&good), node(&expired));
    pass(until).await;
    let (dialled, accepted) = refusal(&mut a, &mut b).await;
    assert_eq!(problem(&dialled, Side::Peer), CertificateProblem::Expired);
    assert_eq!(problem(&accepted, Side::Us), CertificateProblem::Expired);
    let (dialled, accepted) = refusal(&mut c, &mut d).await;
    assert_eq!(problem(&dialled, Side::Us), CertificateProblem::Expired);
    assert_eq!(problem(&accepted, Side::Peer), CertificateProblem::Expired);
}

#[tokio::test]
async fn a_name_that_the_certificate_does_not_cover() {
    let ca = DevCa::new("ca").unwrap();
    let mut a = node(&ca.identity(&[HOST]).unwrap());
    // b advertises what its certificate covers, but is dialled as 127.0.0.1.
    let config = Config::builder("test").advertise_host("node-b.example").build().unwrap();
    let b = ClusterTransport::bind(config, &ca.identity(&["node-b.example"]).unwrap()).unwrap();
    let events = b.events();
    let mut b = Node { transport: b, events };
    let begin = Instant::now();
    let port = b.transport.address().port();
    let dialled_as = cluster_quic::Address::new("test", HOST, port).unwrap();
    a.transport.tell(&dialled_as, tell()).unwrap();
    let dialled = loop {
        if let Event::DialFailed { error, .. } = a.events.recv().await.unwrap() {
            break error;
        }
    };
    let accepted = loop {
        if let Event::IncomingRefused { error, .. } = b.events.recv().await.unwrap() {
            break error;
        }
    };
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert_eq!(problem(&dialled, Side::Us), CertificateProblem::NameMismatch);
    assert_eq!(problem(&accepted, Side::Peer), CertificateProblem::NameMismatch);
}

#[tokio::test]
async fn a_node_does_not_advertise_what_its_certificate_does_not_cover() {
    let ca = DevCa::new("ca").unwrap();
    let config = Config::builder("test").advertise_host("victim.example").build().unwrap();
    match ClusterTransport::bind(config, &ca.identity(&[HOST]).unwrap()) {
        Err(BindError::OwnName { address, mismatch, .. }) => {
            assert_eq!(address.host(), "victim.example");
            assert!(mismatch.to_string().contains(HOST), "{mismatch}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_port_in_use_is_a_typed_error() {
    let ca = DevCa::new("ca").unwrap();
    let identity = ca.identity(&[HOST]).unwrap();
    let a = node(&identity);
    let bind = ([127, 0, 0, 1], a.transport.address().port()).into();
    match ClusterTransport::bind(Config::builder("test").bind(bind).build().unwrap(), &identity) {
        Err(BindError::Socket { address, .. }) => assert_eq!(address, bind),
        other => panic!("{other:?}"),
    }
    let wildcard = Config::builder("test").bind(([0, 0, 0, 0], 0).into()).build().unwrap();
    match ClusterTransport::bind(wildcard, &identity) {
        Err(error @ BindError::Config(_)) => {
            assert!(error.to_string().contains("advertise"), "{error}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_runtime_is_a_typed_error() {
    let ca = DevCa::new("ca").unwrap();
    let identity = ca.identity(&[HOST]).unwrap();
    let config = Config::builder("test").build().unwrap();
    assert!(matches!(ClusterTransport::bind(config, &identity), Err(BindError::NoRuntime)));
}

#[tokio::test]
async fn a_runtime_of_its_own_carries_everything_and_fails_in_order() {
    let ca = DevCa::new("ca").unwrap();
    let identity = ca.identity(&[HOST]).unwrap();
    let config = |port: u16| {
        Config::builder("test")
            .bind(([127, 0, 0, 1], port).into())
            .runtime(cluster_quic::Runtime::Dedicated { threads: 1 })
            .build()
            .unwrap()
    };
    let a = ClusterTransport::bind(config(0), &identity).unwrap();
    // A bind that fails gives the runtime back, within this one.
    let taken = ClusterTransport::bind(config(a.address().port()), &identity);
    assert!(matches!(taken, Err(BindError::Socket { .. })), "{taken:?}");
    let b = ClusterTransport::bind(config(0), &identity).unwrap();
    let sink = RecordingSink::new();
    b.start(gossip_inbox::<String>(1).0, sink.clone()).unwrap();
    a.tell(b.address(), tell()).unwrap();
    a.flush(b.address()).await.unwrap();
    assert_eq!(sink.len(), 1);
    assert!(a.shutdown(Duration::from_secs(2)).await.is_clean());
    // b is dropped, as it runs, within this runtime.
}
