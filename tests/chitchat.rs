//! A cluster of five by chitchat: they find each other and each other's state, one is killed, and one joins,
//! while the lanes between the others are full of tells.
#![cfg(feature = "chitchat")]

mod engines;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chitchat::transport::Transport;
use chitchat::{ChitchatConfig, ChitchatHandle, FailureDetectorConfig, spawn_chitchat};
use cluster_quic::chitchat::{ChitchatError, ChitchatTransport};
use cluster_quic::{Address, ClusterTransport, Config, Identity, InProcessNetwork, RecordingSink};
use engines::{Backlog, Folder, Process, SlowSink, handled, serve, told, until};

/// A node is taken for dead after 40 times the mean interval of its heartbeats, which reach a node by others
/// too: 15 s, since a busy machine was seen to leave a process without a processor for five.
const PHI: f64 = 40.0;
const INTERVAL: Duration = Duration::from_millis(500);

struct Node {
    transport: ClusterTransport,
    chitchat: ChitchatHandle,
    sink: Arc<SlowSink>,
    address: SocketAddr,
    live: Arc<Mutex<Live>>,
}

/// Who lives, as chitchat last said; and who ever did and then did not.
#[derive(Default)]
struct Live {
    now: BTreeSet<SocketAddr>,
    lost: BTreeSet<SocketAddr>,
}

impl Node {
    async fn start(identity: &Identity, seeds: &[String]) -> Self {
        let transport =
            ClusterTransport::bind(engines::config().build().unwrap(), identity).unwrap();
        Self::on(transport, seeds).await
    }

    async fn on(transport: ClusterTransport, seeds: &[String]) -> Self {
        let sink = Arc::new(SlowSink::default());
        let lane = ChitchatTransport::new(&transport, sink.clone()).unwrap();
        let address = lane.address();
        let config = ChitchatConfig {
            chitchat_id: lane.chitchat_id(&address.to_string()),
            cluster_id: "engines".into(),
            gossip_interval: INTERVAL,
            listen_addr: address,
            seed_nodes: seeds.to_vec(),
            failure_detector_config: FailureDetectorConfig {
                phi_threshold: PHI,
                initial_interval: INTERVAL,
                ..FailureDetectorConfig::default()
            },
            marked_for_deletion_grace_period: Duration::from_secs(3600),
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let state = vec![("name".to_owned(), format!("node {address}"))];
        let chitchat = spawn_chitchat(config, state, &lane).await.unwrap();
        let live = Arc::<Mutex<Live>>::default();
        let mut watcher = chitchat.with_chitchat(|chitchat| chitchat.live_nodes_watcher()).await;
        let record = live.clone();
        tokio::spawn(async move {
            while watcher.changed().await.is_ok() {
                let nodes = watcher.borrow_and_update();
                let now: BTreeSet<_> = nodes.keys().map(|id| id.gossip_advertise_addr).collect();
                let mut live = record.lock().unwrap();
                let lost: Vec<_> = live.now.difference(&now).copied().collect();
                tracing::info!(node = %address, ?now, ?lost, "live");
                live.lost.extend(lost);
                live.now = now;
            }
        });
        Self { transport, chitchat, sink, address, live }
    }

    fn live(&self) -> BTreeSet<SocketAddr> {
        self.live.lock().unwrap().now.clone()
    }

    fn lost(&self) -> Vec<SocketAddr> {
        self.live.lock().unwrap().lost.iter().copied().collect()
    }

    /// What this node knows of another's state.
    async fn name_of(&self, other: SocketAddr) -> Option<String> {
        let name = |chitchat: &mut chitchat::Chitchat| {
            let mut nodes = chitchat.node_states().iter();
            let (_, state) = nodes.find(|(id, _)| id.gossip_advertise_addr == other)?;
            Some(state.get("name")?.to_owned())
        };
        self.chitchat.with_chitchat(name).await
    }
}

fn socket(address: &Address) -> SocketAddr {
    format!("{}:{}", address.host(), address.port()).parse().unwrap()
}

/// Waits until exactly `all` live, as each of `nodes` sees it, and each knows the others' state.
async fn agree(what: &str, nodes: &[Node], all: &[SocketAddr]) -> Duration {
    let all: BTreeSet<_> = all.iter().copied().collect();
    // Whether a node counts itself does not matter.
    let view = |node: &Node| -> BTreeSet<_> { &node.live() | &BTreeSet::from([node.address]) };
    let agreed = || nodes.iter().all(|node| view(node) == all);
    let took = until(what, agreed, || nodes.iter().map(view).collect::<Vec<_>>()).await;
    for node in nodes {
        for other in &all {
            assert_eq!(node.name_of(*other).await, Some(format!("node {other}")));
        }
    }
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_find_each_other_and_only_the_killed_one_is_dead_beside_a_backlog() {
    engines::log();
    let dir = Folder::new("chitchat");
    let identity = dir.identity();
    let mut nodes = vec![Node::start(&identity, &[]).await];
    let seeds = [nodes[0].address.to_string()];
    for _ in 0..3 {
        nodes.push(Node::start(&identity, &seeds).await);
    }
    let mut killed = Process::start(&dir.0, nodes[0].transport.address());
    let dead = socket(&killed.address);
    let mut all: Vec<_> = nodes.iter().map(|node| node.address).collect();
    all.push(dead);
    let found = agree("five find each other", &nodes, &all).await;

    let transports: Vec<_> = nodes.iter().map(|node| node.transport.clone()).collect();
    let sinks: Vec<_> = nodes.iter().map(|node| node.sink.clone()).collect();
    let backlog = Backlog::between(&transports).await;
    let handled_before = handled(&sinks);
    tracing::info!(node = %dead, "killing");
    killed.kill();
    all.pop();
    let down = agree("the killed one is dead", &nodes, &all).await;
    assert!(backlog.stands(), "there all the while: {}", backlog.least());
    assert!(handled(&sinks) > handled_before, "and moving");

    // Beside the backlog, too.
    let late = Node::start(&identity, &seeds).await;
    all.push(late.address);
    nodes.push(late);
    let joined = agree("a sixth joins", &nodes, &all).await;
    assert!(backlog.stands(), "still there: {}", backlog.least());
    for node in &nodes[..4] {
        assert_eq!(node.lost(), [dead], "nobody else ever was, at {}", node.address);
    }
    println!("found {found:?}, down {down:?}, joined {joined:?}");
    let last = nodes.pop().unwrap();
    last.chitchat.shutdown().await.unwrap();
    last.transport.shutdown(Duration::from_secs(5)).await;
}

#[test]
#[ignore = "run by other tests, as a process of its own"]
fn child_process() {
    let Some((dir, seed)) = told() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let identity = engines::identity(&dir);
    let seeds = [socket(&seed).to_string()];
    let node = runtime.block_on(Node::start(&identity, &seeds));
    serve(node.transport.address());
}

fn in_process(host: &str) -> ClusterTransport {
    let config = Config::builder("engines").build().unwrap();
    ClusterTransport::in_process(config, &InProcessNetwork::new(), host).unwrap()
}

#[tokio::test]
async fn what_cannot_work_says_why() {
    let named = in_process("node-a");
    let error = ChitchatTransport::new(&named, RecordingSink::new()).unwrap_err();
    assert!(matches!(error, ChitchatError::Name { .. }), "{error}");
    let node = in_process("10.0.0.1");
    let lane = ChitchatTransport::new(&node, RecordingSink::new()).unwrap();
    let error = ChitchatTransport::new(&node, RecordingSink::new()).unwrap_err();
    assert!(matches!(error, ChitchatError::AlreadyStarted(_)), "{error}");
    let error = lane.open("10.0.0.1:7".parse().unwrap()).await.err().unwrap();
    assert!(error.to_string().contains("the node's address is 10.0.0.1:1"), "{error}");
    let socket = lane.open(lane.address()).await.unwrap();
    let error = lane.open(lane.address()).await.err().unwrap();
    assert!(error.to_string().contains("in use"), "{error}");
    drop(socket);
}

#[tokio::test]
async fn the_engine_ends_with_the_transport_and_does_not_hold_it() {
    let Node { transport, chitchat, .. } = Node::on(in_process("10.0.0.1"), &[]).await;
    let ended = chitchat.termination_watcher();
    drop(transport);
    let ended = tokio::time::timeout(engines::LIMIT, ended).await.expect("an end");
    assert!(ended.unwrap_err().to_string().contains("the node has ended"));
}
