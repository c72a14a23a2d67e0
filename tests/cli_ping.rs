//! `cluster-quic ping`: the real tool against real nodes, and against what is no node; each hint.
#![cfg(feature = "cli")]

mod cli;
#[path = "cli/odd_server.rs"]
mod odd_server;

use std::cell::RefCell;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cli::{Dir, Ran, command, run};
use cluster_quic::{
    Address, AssociationError, ClusterTransport, Config, ConfigBuilder, DevCa, DevCertOptions,
    Event, Events, PeerState, RecordingSink, gossip_inbox,
};
use odd_server::OddServer;

const HOST: &str = "127.0.0.1";
const LIMIT: Duration = Duration::from_secs(60);

/// A cluster's CA, a folder with the files of the ping's own certificate, and a node of that cluster.
struct Scene {
    ca: DevCa,
    dir: Dir,
    node: ClusterTransport,
    events: Events,
    sink: Arc<RecordingSink>,
}

impl Scene {
    fn new() -> Self {
        Self::with(&[HOST, "localhost"], |config| config)
    }

    /// `names`: of the node's certificate.
    fn with(names: &[&str], change: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        let (ca, dir) = (DevCa::new("the CA").unwrap(), Dir::new());
        let config = change(Config::builder("demo")).build().unwrap();
        let node = ClusterTransport::bind(config, &ca.identity(names).unwrap()).unwrap();
        let (events, sink) = (node.events(), RecordingSink::new());
        node.start(gossip_inbox::<String>(1).0, sink.clone()).unwrap();
        let scene = Self { ca, dir, node, events, sink };
        scene.own(&scene.ca, scene.ca.certificate());
        scene
    }

    /// Gives the ping a certificate of `issuer`, and trust in `bundle`.
    fn own(&self, issuer: &DevCa, bundle: &str) {
        let issued = issuer.issue(&["pinger.test"]).unwrap();
        self.dir.write("cert.pem", issued.chain);
        self.dir.write("key.pem", issued.key);
        self.dir.write("ca.pem", bundle);
    }

    async fn ping(&self, more: &[&str]) -> Ran {
        let address = self.node.address().to_string();
        self.ping_at(&address, more).await
    }

    async fn ping_at(&self, address: &str, more: &[&str]) -> Ran {
        let args = args(address, more);
        let dir = self.dir.path().to_owned();
        let ran = tokio::task::spawn_blocking(move || {
            run(&dir, &args.iter().map(String::as_str).collect::<Vec<_>>())
        });
        ran.await.unwrap()
    }

    /// The next event that is as wanted.
    async fn event<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let mut others = Vec::new();
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the node lives");
                if let Some(found) = wanted(&event) {
                    return found;
                }
                others.push(event);
            }
        };
        let found = tokio::time::timeout(LIMIT, found).await;
        found.unwrap_or_else(|_| panic!("it did not come, only {others:#?}"))
    }

    fn port(&self) -> u16 {
        self.node.address().port()
    }
}

fn args(address: &str, more: &[&str]) -> Vec<String> {
    let files = ["--cert", "cert.pem", "--key", "key.pem", "--ca", "ca.pem"];
    let quick = ["--count", "2", "--interval", "5ms"];
    let more = if more.contains(&"--count") { more.to_vec() } else { [&quick, more].concat() };
    [&["ping", address], &files[..], &more].concat().iter().map(|arg| (*arg).to_owned()).collect()
}

/// The step that was wrong, which is the last.
fn failed_at(ran: &Ran) -> String {
    let report = ran.json();
    assert_eq!(report["ok"], false);
    let steps = report["steps"].as_array().unwrap();
    let (last, before) = steps.split_last().unwrap();
    assert_eq!(last["result"], "wrong", "{report:#}");
    assert!(last["hint"].as_str().is_some(), "{report:#}");
    assert!(before.iter().all(|step| step["result"] != "wrong"), "{report:#}");
    last["what"].as_str().unwrap().to_owned()
}

/// In one thread, so that what the node logs can be caught.
#[tokio::test]
async fn a_ping_says_all_and_disturbs_nobody() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(|| ThreadLog);
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let mut scene =
        Scene::with(&[HOST, "b.test"], |config| config.tell_lanes(3).stream_window(128 * 1024));
    scene.ping(&[]).await.expect(0).says(&[
        "with the certificate of CN=pinger.test",
        "✓ name 127.0.0.1 is an address",
        &format!("✓ QUIC 127.0.0.1:{} answered after", scene.port()),
        "✓ TLS CN=127.0.0.1, for 127.0.0.1, b.test valid until 20",
        "issued by CN=the CA, OU=development CA",
        &format!("✓ greeting it is {}, wire version 1", scene.node.address()),
        &format!("incarnation {}, up since 20", scene.node.incarnation()),
        "✓ lanes control, gossip, and 3 tell lanes from there, each with 128 KiB",
        "RTT min ",
        "2 of 2 probes answered",
        "MTU ",
        "cipher TLS 1.3, ALPN cluster-quic/1",
    ]);
    // A peer came, and shut down.
    let came = scene.event(|event| match event {
        Event::PeerUp { peer, .. } => Some(peer.clone()),
        _ => None,
    });
    let came = came.await;
    assert_eq!((came.system(), came.host()), ("demo", "pinger.test"));
    assert!((1..1024).contains(&came.port()), "no node's port");
    let left = scene.event(|event| match event {
        Event::PeerDown { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(left.await, AssociationError::Goodbye);
    assert_eq!(scene.node.refused_connections(), 0);
    assert!(scene.sink.records().is_empty());
    let stats = scene.node.peer_stats(&came).unwrap();
    assert_eq!((stats.gossip_received, stats.tells_received().delivered_frames), (0, 0));
    // It is not dialled back.
    let idle = async {
        while scene.node.peer_stats(&came).is_some_and(|peer| peer.state != PeerState::Idle) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, idle).await.expect("nothing more to do with it");
    let log = String::from_utf8(LOG.take()).unwrap();
    assert!(log.contains("peer up"), "it is caught: {log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_has_the_same() {
    let scene = Scene::new();
    let report =
        scene.ping(&["--count", "4", "--interval", "1ms", "--json"]).await.expect(0).json();
    assert_eq!(report["ok"], true);
    assert_eq!(report["address"], scene.node.address().to_string());
    let steps: Vec<_> = report["steps"].as_array().unwrap().iter().map(|s| &s["what"]).collect();
    assert_eq!(steps, ["name", "QUIC", "TLS", "greeting", "lanes"]);
    assert_eq!(report["answered"], format!("127.0.0.1:{}", scene.port()));
    assert!(report["quic_versions"].as_array().unwrap().contains(&1.into()));
    assert_eq!(report["certificate"]["names"], serde_json::json!([HOST, "localhost"]));
    assert_eq!(report["node"]["incarnation"], scene.node.incarnation().0);
    assert_eq!(report["node"]["alpn"], "cluster-quic/1");
    assert_eq!(report["node"]["tell_lanes"], 8);
    let rtt = &report["rtt_ms"];
    assert_eq!((rtt["sent"].as_u64(), rtt["answered"].as_u64()), (Some(4), Some(4)));
    let [min, avg, max] = ["min", "avg", "max"].map(|figure| rtt[figure].as_f64().unwrap());
    assert!(0.0 < min && min <= avg && avg <= max, "{rtt}");
    assert!(report["connection"]["mtu"].as_u64().unwrap() >= 1200);
    assert_eq!(report["connection"]["key_exchange"], "X25519MLKEM768");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_and_one_after_the_other() {
    let mut scene = Scene::new();
    // Each with a name of its own: the ports are drawn at random, and might be the same.
    let names = ["one.test", "two.test", "three.test"];
    for name in names {
        let issued = scene.ca.issue(&[name]).unwrap();
        scene.dir.write(&format!("{name}.pem"), issued.chain);
        scene.dir.write(&format!("{name}-key.pem"), issued.key);
    }
    let address = scene.node.address().to_string();
    let ping = |name: &'static str| {
        let (address, dir) = (address.clone(), scene.dir.path().to_owned());
        let run = move || run(&dir, &["ping", &address, "--certs", ".", "--as", name]);
        tokio::task::spawn_blocking(run)
    };
    let all = names.map(ping);
    for ping in all {
        ping.await.unwrap().expect(0);
    }
    scene.ping(&[]).await.expect(0);
    for _ in 0..4 {
        let left = scene.event(|event| match event {
            Event::PeerDown { reason, .. } => Some(reason.clone()),
            _ => None,
        });
        assert_eq!(left.await, AssociationError::Goodbye);
    }
    assert_eq!(scene.node.refused_connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_does_not_resolve() {
    let scene = Scene::new();
    let address = "akka.quic://demo@nowhere.invalid:4400";
    let ran = scene.ping_at(address, &[]).await.expect(1);
    ran.says(&["✗ name nowhere.invalid", "resolve", "DNS"]);
    assert_eq!(failed_at(&scene.ping_at(address, &["--json"]).await.expect(1)), "name");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens() {
    let scene = Scene::new();
    // None that the system gives out: another test could have it in a moment.
    let port = 1;
    let address = format!("akka.quic://demo@127.0.0.1:{port}");
    let ran = scene.ping_at(&address, &[]).await.expect(1);
    ran.says(&[&format!("✗ QUIC 127.0.0.1:{port}: port unreachable (ICMP)"), "is the node up"]);
    assert_eq!(failed_at(&scene.ping_at(&address, &["--json"]).await.expect(1)), "QUIC");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_there_vanishes() {
    let scene = Scene::new();
    let silent = UdpSocket::bind((HOST, 0)).unwrap();
    let address = format!("akka.quic://demo@{}", silent.local_addr().unwrap());
    let more = ["--timeout", "300ms"];
    let ran = scene.ping_at(&address, &more).await.expect(1);
    ran.says(&["✗ QUIC no answer within 0.3 s", "a packet filter drops UDP"]);
    let json = scene.ping_at(&address, &["--timeout", "300ms", "--json"]).await.expect(1);
    assert_eq!(failed_at(&json), "QUIC");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_too_busy_for_a_handshake() {
    let scene = Scene::new();
    let server = odd_server::probes_alone();
    let address = format!("akka.quic://demo@{server}");
    let ran = scene.ping_at(&address, &["--timeout", "500ms"]).await.expect(1);
    ran.says(&["✓ QUIC", "✗ TLS QUIC answers, but the handshake did not end within 0.5 s", "busy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_as_many_peers_as_it_may_have() {
    let scene = Scene::with(&[HOST], |config| config.max_peers(1));
    let identity = scene.ca.identity(&[HOST]).unwrap();
    let other =
        ClusterTransport::bind(Config::builder("demo").build().unwrap(), &identity).unwrap();
    other.peer(scene.node.address()).unwrap().connect().await.unwrap();
    let ran = scene.ping(&[]).await.expect(1);
    ran.says(&["✗ greeting refused by the peer", "max_peers", "the node is busy"]);
    assert_eq!(failed_at(&scene.ping(&["--json"]).await), "greeting");
}

#[tokio::test(flavor = "multi_thread")]
async fn this_side_does_not_trust_theirs() {
    let scene = Scene::new();
    scene.own(&scene.ca, DevCa::new("another").unwrap().certificate());
    let ran = scene.ping(&[]).await.expect(1);
    ran.says(&[
        "· cert the node shows CN=127.0.0.1, for 127.0.0.1, localhost valid until 20",
        "issued by CN=the CA",
        "✗ TLS this side does not trust the node's certificate: its issuer, CN=the CA,",
        "is not in --ca",
    ]);
    let ran = scene.ping(&["--json"]).await.expect(1);
    assert_eq!(failed_at(&ran), "TLS");
    assert_eq!(ran.json()["certificate"]["subject"], "CN=127.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn theirs_does_not_trust_this_side() {
    let scene = Scene::new();
    scene.own(&DevCa::new("another").unwrap(), scene.ca.certificate());
    let ran = scene.ping(&[]).await.expect(1);
    ran.says(&[
        "issued by CN=the CA",
        "✗ TLS the node does not trust this side's certificate, CN=pinger.test: its CA bundle \
         lacks the issuer, CN=another,",
    ]);
    assert_eq!(failed_at(&scene.ping(&["--json"]).await), "TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_certificate_does_not_cover() {
    let scene = Scene::with(&[HOST, "b.test"], |config| config);
    let address = format!("akka.quic://demo@localhost:{}", scene.port());
    let ran = scene.ping_at(&address, &[]).await.expect(1);
    ran.says(&[
        "✓ name localhost is 127.0.0.1",
        "✗ TLS the node's certificate does not cover localhost, only 127.0.0.1, b.test",
        "dial it by a name that the certificate covers",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_valid_now() {
    let scene = Scene::new();
    let (now, day) = (SystemTime::now(), Duration::from_secs(86_400));
    let cases = [
        (now - 3 * day, now - day, "✗ TLS the node's certificate has expired", "issue it again"),
        (now + day, now + 3 * day, "✗ TLS the node's certificate is not valid now", "clock"),
    ];
    for (not_before, not_after, text, hint) in cases {
        let options = DevCertOptions { not_before, not_after, ..DevCertOptions::default() };
        let server = OddServer::new(&scene.ca, &options).start();
        let ran = scene.ping_at(&server.address("demo"), &[]).await.expect(1);
        ran.says(&[text, hint, "issued by CN=the CA"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_clients_alone() {
    let scene = Scene::new();
    let options = DevCertOptions { server_auth: false, ..DevCertOptions::default() };
    let server = OddServer::new(&scene.ca, &options).start();
    let ran = scene.ping_at(&server.address("demo"), &[]).await.expect(1);
    ran.says(&["✗ TLS the node's certificate does not allow it to be dialled", "serverAuth"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_system() {
    let scene = Scene::new();
    let address = format!("akka.quic://other@127.0.0.1:{}", scene.port());
    let ran = scene.ping_at(&address, &[]).await.expect(1);
    let hint = format!("→ ping {}", scene.node.address());
    ran.says(&["✗ greeting the node belongs to another cluster: `demo`, and not `other`", &hint]);
    // A cluster may have another name than its systems.
    let scene = Scene::with(&[HOST], |config| config.cluster("the-cluster"));
    let ran = scene.ping(&[]).await.expect(1);
    ran.says(&["another cluster: `the-cluster`, and not `demo`", "--cluster the-cluster"]);
    scene.ping(&["--cluster", "the-cluster"]).await.expect(0);
    assert_eq!(failed_at(&scene.ping(&["--json"]).await), "greeting");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_address_than_the_node_advertises() {
    let scene = Scene::new();
    let address = format!("akka.quic://demo@localhost:{}", scene.port());
    let ran = scene.ping_at(&address, &[]).await.expect(1);
    let own = scene.node.address();
    ran.says(&[
        &format!("✗ greeting the node goes by another address: {own}"),
        &format!("→ ping {own}"),
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version() {
    let scene = Scene::new();
    let server = OddServer { alpn: b"cluster-quic/2", ..OddServer::good(&scene.ca) }.start();
    let ran = scene.ping_at(&server.address("demo"), &[]).await.expect(1);
    ran.says(&["✗ TLS the peer speaks another wire version", env!("CARGO_PKG_VERSION")]);
    // Of the control messages alone: the peer's words.
    let server = OddServer { close: Some((6, "version 9")), ..OddServer::good(&scene.ca) }.start();
    let ran = scene.ping_at(&server.address("demo"), &[]).await.expect(1);
    ran.says(&["another wire version: the peer says: version 9", env!("CARGO_PKG_VERSION")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_greet() {
    let scene = Scene::new();
    let server = OddServer::good(&scene.ca).start();
    let ran = scene.ping_at(&server.address("demo"), &["--timeout", "400ms"]).await.expect(1);
    ran.says(&["✗ greeting the node answered the handshake, but no greeting within 0.5 s", "busy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_says_when_it_refuses() {
    let scene = Scene::new();
    for (close, text) in [
        ((12, ""), "✗ greeting quarantined, until it comes back as another incarnation"),
        ((0, ""), "✗ greeting the peer shut down → the node is about to end"),
        (
            (9, "incarnation #4 is older than the known #7"),
            "is older than the known #7 → the node refuses an earlier life of the address",
        ),
        (
            (10, "its \u{1b}[2J reason"),
            "✗ greeting refused by the peer: its [2J reason → the node's own log",
        ),
    ] {
        let server = OddServer { close: Some(close), ..OddServer::good(&scene.ca) }.start();
        let ran = scene.ping_at(&server.address("demo"), &[]).await.expect(1).says(&[text]);
        assert!(!ran.out.contains('\u{1b}'), "no way to the terminal");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_ping_s_own_that_are_wrong() {
    let scene = Scene::new();
    let good = scene.dir.read("key.pem");
    scene.dir.write("key.pem", "nonsense");
    let ran = scene.ping(&[]).await.expect(1);
    assert_eq!(ran.out, "");
    ran.says(&["key.pem: contains no PEM block"]);
    scene.dir.write("key.pem", good);
    scene.ping(&[]).await.expect(0);
}

#[test]
fn what_the_command_line_gets_wrong() {
    let dir = Dir::new();
    for args in [
        &["ping"][..],
        &["ping", "127.0.0.1:4400"],
        &["ping", "akka.tcp://demo@127.0.0.1:4400"],
        &["ping", "akka.quic://demo@127.0.0.1:0"],
        &["ping", "akka.quic://demo@127.0.0.1:1", "--count", "0"],
        &["ping", "akka.quic://demo@127.0.0.1:1", "--timeout", "soon"],
        &["ping", "akka.quic://demo@127.0.0.1:1", "--cert", "cert.pem"],
        &["ping", "akka.quic://demo@127.0.0.1:1", "--certs", "nowhere"],
        &["ping", "akka.quic://demo@127.0.0.1:1"],
    ] {
        let ran = run(dir.path(), args).expect(2);
        assert_eq!(ran.out, "");
        assert!(!ran.err.is_empty());
    }
    for timeout in ["5ms", "20m"] {
        let args = ["ping", "akka.quic://demo@127.0.0.1:1", "--json", "--timeout", timeout];
        run(dir.path(), &args).expect(2).says(&["--timeout", "it must be 10ms to 10m"]);
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn interrupted_it_says_goodbye() {
    let mut scene = Scene::new();
    let args = args(&scene.node.address().to_string(), &["--count", "100000"]);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let mut child = command(scene.dir.path(), &args)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    scene.event(|event| matches!(event, Event::PeerUp { .. }).then_some(())).await;
    let interrupt = ["-INT", &child.id().to_string()];
    assert!(std::process::Command::new("kill").args(interrupt).status().unwrap().success());
    let left = scene.event(|event| match event {
        Event::PeerDown { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(left.await, AssociationError::Goodbye);
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
    assert_eq!(ended.await.unwrap().code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_gone_is_no_fault_and_no_reason_to_leave_without_a_word() {
    let mut scene = Scene::new();
    let args = args(&scene.node.address().to_string(), &[]);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = command(scene.dir.path(), &args);
    let child = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    scene.event(|event| matches!(event, Event::PeerUp { .. }).then_some(())).await;
    drop(reader);
    let left = scene.event(|event| match event {
        Event::PeerDown { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(left.await, AssociationError::Goodbye);
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let ended = ended.await.unwrap();
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
    assert_eq!(ended.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_both_families() {
    let Ok(probe) = UdpSocket::bind(("::1", 0)) else {
        println!("no IPv6 on this machine");
        return;
    };
    drop(probe);
    let scene = Scene::with(&["::1"], |config| config.bind("[::1]:0".parse().unwrap()));
    let ran = scene.ping(&[]).await.expect(0);
    ran.says(&["✓ name ::1 is an address", &format!("✓ QUIC [::1]:{}", scene.port())]);
    let _: &Address = scene.node.address();
}

thread_local! {
    /// What is logged in this thread: other tests run beside.
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct ThreadLog;

impl std::io::Write for ThreadLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
