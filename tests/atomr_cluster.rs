//! Real atomr daemons over QUIC: three find each other, one joins late, one stops and is downed, one
//! is killed and is downed by what the transport knows.
#![cfg(feature = "atomr")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use atomr_cluster::{
    ClusterDaemonHandle, ClusterEventBus, DaemonConfig, GossipPdu, Member, MemberStatus,
    MembershipState, RecordingSink, VectorClock, spawn_daemon,
};
use atomr_core::actor::Address as AtomrAddress;
use cluster_quic::atomr::{JoinError, down_lost_members, join_through};
use cluster_quic::{
    Address, AssociationError, ClusterTransport, Config, ConfigBuilder, DevCa, Event, Identity,
    InProcessNetwork, RemoteTell,
};

const GOSSIP: Duration = Duration::from_millis(30);
const LIMIT: Duration = Duration::from_secs(20);

/// An atomr node as its users build one.
struct Node {
    transport: ClusterTransport,
    daemon: Arc<ClusterDaemonHandle>,
    sink: Arc<RecordingSink>,
}

fn config() -> ConfigBuilder {
    let ms = Duration::from_millis;
    Config::builder("cluster").idle_timeout(ms(1_000)).keep_alive(ms(200)).dial_timeout(ms(500))
}

impl Node {
    async fn start(config: Config, identity: &Identity, seed: Option<&AtomrAddress>) -> Self {
        let transport = ClusterTransport::bind(config, identity).unwrap();
        let address = AtomrAddress::from(transport.address());
        let daemon = spawn_daemon(
            address.clone(),
            Arc::new(transport.clone()),
            ClusterEventBus::new(),
            DaemonConfig { gossip_interval: GOSSIP },
        );
        let sink = Arc::new(RecordingSink::default());
        let as_atomr_s: Arc<dyn atomr_cluster::RemoteMessageSink> = sink.clone();
        transport.start(daemon.gossip_inbox(), as_atomr_s).unwrap();
        match seed {
            Some(seed) => join_through(&transport, &daemon, seed, LIMIT).await.unwrap(),
            None => daemon.join(Member::new(address, vec![])),
        }
        Self { transport, daemon: Arc::new(daemon), sink }
    }

    fn address(&self) -> AtomrAddress {
        self.transport.address().into()
    }

    /// The addresses of the members that this daemon sees Up.
    fn up(&self) -> Vec<AtomrAddress> {
        let members = self.daemon.snapshot().state.members;
        let up = members.into_iter().filter(|member| member.status == MemberStatus::Up);
        up.map(|member| member.address).collect()
    }
}

/// Waits until every one of `nodes` sees exactly `members` Up.
async fn converge(nodes: &[&Node], members: &[AtomrAddress]) {
    let same = |node: &&Node| {
        let up = node.up();
        up.len() == members.len() && members.iter().all(|member| up.contains(member))
    };
    let begin = Instant::now();
    while !nodes.iter().all(same) {
        let views: Vec<_> = nodes.iter().map(|node| node.up()).collect();
        assert!(begin.elapsed() < LIMIT, "not converged: {views:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn three_daemons_see_each_other_up_and_one_joins_late() {
    let ca = DevCa::new("atomr").unwrap();
    let identity = ca.identity(&["127.0.0.1"]).unwrap();
    let node = async |seed: Option<&AtomrAddress>| {
        Node::start(config().build().unwrap(), &identity, seed).await
    };
    let a = node(None).await;
    let b = node(Some(&a.address())).await;
    converge(&[&a, &b], &[a.address(), b.address()]).await;
    let c = node(Some(&b.address())).await;
    converge(&[&a, &b, &c], &[a.address(), b.address(), c.address()]).await;
    // Remote tells reach atomr's sink, with the parameters of its own transport.
    let target = format!("{}/user/echo", c.address());
    let send = a.transport.send_remote(
        &c.address(),
        target.clone(),
        "json:Hello".into(),
        b"hi".to_vec(),
        Some("/user/me".into()),
    );
    send.unwrap();
    a.transport.flush(c.transport.address()).await.unwrap();
    let records = c.sink.records.lock().clone();
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0].target_path, &*records[0].payload), (&target, &b"hi"[..]));
    assert_eq!(records[0].sender_path.as_deref(), Some("/user/me"));
    let tcp = AtomrAddress::remote("akka.tcp", "cluster", "127.0.0.1", 1);
    assert!(a.transport.send_remote(&tcp, target, String::new(), vec![], None).is_err());
}

#[tokio::test]
async fn host_names_work_where_numeric_ipv6_cannot() {
    let ca = DevCa::new("atomr").unwrap();
    let identity = ca.identity(&["localhost"]).unwrap();
    let node = async |seed: Option<&AtomrAddress>| {
        Node::start(config().advertise_host("localhost").build().unwrap(), &identity, seed).await
    };
    let a = node(None).await;
    let b = node(Some(&a.address())).await;
    converge(&[&a, &b], &[a.address(), b.address()]).await;
}

#[tokio::test]
async fn a_stopped_member_that_is_downed_on_the_others_is_gone() {
    let ca = DevCa::new("atomr").unwrap();
    let identity = ca.identity(&["127.0.0.1"]).unwrap();
    let node = async |seed: Option<&AtomrAddress>| {
        Node::start(config().build().unwrap(), &identity, seed).await
    };
    let a = node(None).await;
    let b = node(Some(&a.address())).await;
    let c = node(Some(&a.address())).await;
    let all = [a.address(), b.address(), c.address()];
    converge(&[&a, &b, &c], &all).await;
    let Node { transport, daemon, .. } = c;
    Arc::into_inner(daemon).unwrap().shutdown().await;
    assert!(transport.shutdown(Duration::from_secs(2)).await.is_clean());
    // Both in the same gossip interval: atomr's merge brings back what one of them still has Up.
    let begin = Instant::now();
    while a.up().len() + b.up().len() > 4 {
        a.daemon.down(all[2].clone());
        b.daemon.down(all[2].clone());
        assert!(begin.elapsed() < LIMIT);
        tokio::time::sleep(GOSSIP).await;
    }
    converge(&[&a, &b], &all[..2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_member_is_downed_after_the_configured_time() {
    let dir = Folder::new("downed");
    let identity = dir.identity();
    let node = async |seed: Option<&AtomrAddress>| {
        Node::start(config().build().unwrap(), &identity, seed).await
    };
    let a = node(None).await;
    let b = node(Some(&a.address())).await;
    let mut killed = Process::start(&dir.0, Some(&a.address()), 0);
    let third = killed.address.clone();
    converge(&[&a, &b], &[a.address(), b.address(), AtomrAddress::from(&third)]).await;
    // Longer than a busy machine takes for what must not wait for it.
    let after = Duration::from_secs(4);
    let helpers = [&a, &b].map(|node| down_lost_members(&node.transport, &node.daemon, after));
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    let begin = Instant::now();
    converge(&[&a, &b], &[a.address(), b.address()]).await;
    assert!(begin.elapsed() >= after, "not before its time");
    // It stays down, though each merges what the other had: at once, or when its return has died out.
    let settled = async {
        let mut rounds = 0;
        while rounds < 10 {
            tokio::time::sleep(GOSSIP).await;
            rounds = if (a.up().len(), b.up().len()) == (2, 2) { rounds + 1 } else { 0 };
        }
    };
    tokio::time::timeout(LIMIT, settled).await.expect("it stays down");
    // What a third brings back has no new time to wait out.
    let mut late = MembershipState::new();
    let up = Member { status: MemberStatus::Up, ..Member::new((&third).into(), vec![]) };
    late.add_or_update(up);
    let mut version = VectorClock::new();
    version.tick("brought back");
    let begin = Instant::now();
    let from = third.to_string();
    a.daemon.apply_gossip(GossipPdu::Envelope { from, version, state: late });
    while !a.daemon.snapshot().version.versions.contains_key("brought back") {
        tokio::task::yield_now().await;
    }
    converge(&[&a, &b], &[a.address(), b.address()]).await;
    assert!(begin.elapsed() < after, "downed again at once: {:?}", begin.elapsed());
    helpers.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_s_return_is_noticed_by_its_reset() {
    let dir = Folder::new("reborn");
    // A process takes seconds to start on a busy machine, and nothing else is to end the association meanwhile.
    let patient = config().idle_timeout(Duration::from_secs(60)).dial_timeout(LIMIT);
    let a = Node::start(patient.build().unwrap(), &dir.identity(), None).await;
    let mut events = a.transport.events();
    let mut first = Process::start(&dir.0, None, 0);
    let address = first.address.clone();
    a.transport.tell(&address, tell()).unwrap();
    a.transport.flush(&address).await.unwrap();
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let second = Process::start(&dir.0, None, address.port());
    assert_eq!(second.address, address);
    let begin = Instant::now();
    a.transport.tell(&address, tell()).unwrap();
    let mut reset = false;
    loop {
        let event = tokio::time::timeout(LIMIT, events.recv()).await.expect("it is noticed");
        match event.unwrap() {
            Event::PeerDown { reason, .. } => {
                assert_eq!(reason, AssociationError::Reset);
                reset = true;
            }
            Event::PeerRestarted { peer, old, new } => {
                assert_eq!(peer, address);
                assert!(new > old);
                break;
            }
            _ => {}
        }
    }
    assert!(reset, "noticed by something else");
    // That it takes less than a second is shown where time is simulated (row 10).
    println!("noticed {:?} after the new process listened", begin.elapsed());
}

fn tell() -> RemoteTell {
    RemoteTell {
        target_path: "/t".into(),
        manifest: String::new(),
        payload: vec![],
        sender_path: None,
    }
}

/// A temporary folder with certificates.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("cluster-quic-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        DevCa::load_or_create(&dir).unwrap().write_to(&dir, "node", &["127.0.0.1"]).unwrap();
        Self(dir)
    }

    fn identity(&self) -> Identity {
        identity(&self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn identity(dir: &Path) -> Identity {
    Identity::from_pem_files(dir.join("node.pem"), dir.join("node-key.pem"), dir.join("ca.pem"))
        .unwrap()
}

/// A node in a process of its own: this test binary, run for [`child_process`] alone.
struct Process {
    child: Child,
    address: Address,
}

impl Process {
    fn start(dir: &Path, seed: Option<&AtomrAddress>, port: u16) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_process", "--exact", "--ignored", "--nocapture"])
            .env("NODE_DIR", dir)
            .env("NODE_SEED", seed.map_or(String::new(), ToString::to_string))
            .env("NODE_PORT", port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the child prints its address").unwrap();
            if let Some((_, address)) = line.split_once("address=") {
                break address.parse().unwrap();
            }
        };
        Self { child, address }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of [`Process`]; ends when its standard input does, so that no child outlives its parent.
#[test]
#[ignore = "run by other tests, as a process of its own"]
fn child_process() {
    let Ok(dir) = std::env::var("NODE_DIR") else { return };
    let port: u16 = std::env::var("NODE_PORT").unwrap().parse().unwrap();
    let seed = AtomrAddress::parse(&std::env::var("NODE_SEED").unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let config = config().bind(([127, 0, 0, 1], port).into()).build().unwrap();
    let node = runtime.block_on(Node::start(config, &identity(Path::new(&dir)), seed.as_ref()));
    println!("address={}", node.transport.address());
    let _ = std::io::stdin().lines().count();
}

#[tokio::test(start_paused = true)]
async fn a_join_that_comes_to_nothing_says_why() {
    let network = InProcessNetwork::new();
    let transport = ClusterTransport::in_process(config().build().unwrap(), &network, "a").unwrap();
    let own = AtomrAddress::from(transport.address());
    let gossip_interval = Duration::from_secs(600);
    let daemon = spawn_daemon(
        own.clone(),
        Arc::new(transport.clone()),
        ClusterEventBus::new(),
        DaemonConfig { gossip_interval },
    );
    let join = async |seed: &AtomrAddress| {
        join_through(&transport, &daemon, seed, gossip_interval / 2).await.unwrap_err()
    };
    // The first round is at once, the next too far away for it to become Up.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let error = join(&own).await;
    assert!(matches!(&error, JoinError::Own { address, .. } if *address == own), "{error}");
    assert!(daemon.snapshot().state.members.is_empty(), "nothing was done");
    let nobody = AtomrAddress::remote("akka.quic", "cluster", "nobody", 1);
    let error = join(&nobody).await;
    assert!(matches!(error, JoinError::NotUp { .. }), "{error}");
    tokio::time::sleep(gossip_interval).await;
    let error = join(&nobody).await;
    assert!(matches!(&error, JoinError::SeedSilent { seed, .. } if *seed == nobody), "{error}");
}
