//! A cluster of five by SWIM: they find each other, one is killed, one joins and one leaves, while the lanes
//! between the others are full of tells.
#![cfg(feature = "foca")]

mod engines;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cluster_quic::foca::{Change, Changes, NodeId, Swim, lan};
use cluster_quic::{
    Address, ClusterTransport, Config, Identity, InProcessNetwork, Incarnation, RecordingSink,
    gossip_inbox,
};
use engines::{Backlog, Folder, Process, SlowSink, handled, serve, told, until};
use foca::{Codec, Header, Message, PostcardCodec};
use serde_bytes::{ByteBuf, Bytes};
use tokio::time::{Instant, timeout};

/// foca's for a local network, with time to refute a suspicion on a machine that is busy with other things.
fn patient() -> foca::Config {
    foca::Config { suspect_to_down_after: Duration::from_secs(8), ..lan(5) }
}

struct Node {
    transport: ClusterTransport,
    swim: Swim,
    sink: Arc<SlowSink>,
    changes: Changes,
    /// What came from `changes` so far.
    seen: Vec<Change>,
}

impl Node {
    fn start(identity: &Identity, seeds: &[Address]) -> Self {
        let transport =
            ClusterTransport::bind(engines::config().build().unwrap(), identity).unwrap();
        Self::on(transport, seeds, patient())
    }

    fn on(transport: ClusterTransport, seeds: &[Address], config: foca::Config) -> Self {
        let sink = Arc::new(SlowSink::default());
        let swim = Swim::start(&transport, sink.clone(), config).unwrap();
        let changes = swim.changes();
        swim.join(seeds.iter().cloned());
        Self { transport, swim, sink, changes, seen: Vec::new() }
    }

    fn address(&self) -> Address {
        self.transport.address().clone()
    }

    fn members(&self) -> BTreeSet<Address> {
        self.swim.members().into_iter().map(|member| member.address).collect()
    }

    async fn seen(&mut self) -> &[Change] {
        while let Ok(Some(change)) = timeout(Duration::ZERO, self.changes.recv()).await {
            self.seen.push(change);
        }
        &self.seen
    }

    /// The addresses of those that were ever down.
    async fn downs(&mut self) -> Vec<Address> {
        let down = |change: &Change| match change {
            Change::Down(member) => Some(member.address.clone()),
            Change::Rejoined(_) | Change::Missed { .. } => panic!("{change:?}"),
            _ => None,
        };
        self.seen().await.iter().filter_map(down).collect()
    }
}

/// Waits until each of `nodes` has exactly the others of `all` as members.
async fn agree(what: &str, nodes: &[&Node], all: &[Address]) -> Duration {
    let others = |node: &Node| -> BTreeSet<_> {
        all.iter().filter(|address| **address != node.address()).cloned().collect()
    };
    let agreed = || nodes.iter().all(|node| node.members() == others(node));
    until(what, agreed, || nodes.iter().map(|node| node.members()).collect::<Vec<_>>()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_find_each_other_and_only_the_killed_one_is_down_beside_a_backlog() {
    engines::log();
    let dir = Folder::new("foca");
    let identity = dir.identity();
    let mut nodes = vec![Node::start(&identity, &[])];
    let seeds = [nodes[0].address()];
    for _ in 0..3 {
        nodes.push(Node::start(&identity, &seeds));
    }
    let mut killed = Process::start(&dir.0, &seeds[0]);
    let mut all: Vec<_> = nodes.iter().map(Node::address).collect();
    all.push(killed.address.clone());
    let found = agree("five find each other", &nodes.iter().collect::<Vec<_>>(), &all).await;

    let transports: Vec<_> = nodes.iter().map(|node| node.transport.clone()).collect();
    let sinks: Vec<_> = nodes.iter().map(|node| node.sink.clone()).collect();
    tracing::info!("found");
    let backlog = Backlog::between(&transports).await;
    let handled_before = handled(&sinks);
    tracing::info!("killing");
    killed.kill();
    all.pop();
    let down = agree("the killed one is down", &nodes.iter().collect::<Vec<_>>(), &all).await;
    assert!(backlog.stands(), "there all the while: {}", backlog.least());
    assert!(handled(&sinks) > handled_before, "and moving");
    for node in &mut nodes {
        assert_eq!(node.downs().await, [killed.address.clone()], "nobody else ever was");
    }

    // Beside the backlog, too.
    let late = Node::start(&identity, &seeds);
    all.push(late.address());
    nodes.push(late);
    let joined = agree("a sixth joins", &nodes.iter().collect::<Vec<_>>(), &all).await;
    let leaving = nodes.pop().unwrap();
    all.pop();
    leaving.swim.leave().await;
    leaving.transport.shutdown(Duration::from_secs(5)).await;
    let left = agree("it leaves", &nodes.iter().collect::<Vec<_>>(), &all).await;
    assert!(backlog.stands(), "still there: {}", backlog.least());
    let expected = [killed.address.clone(), leaving.transport.address().clone()];
    for node in &mut nodes {
        assert_eq!(node.downs().await, expected);
    }
    println!("found {found:?}, down {down:?}, joined {joined:?}, left {left:?}");
}

#[test]
#[ignore = "run by other tests, as a process of its own"]
fn child_process() {
    let Some((dir, seed)) = told() else { return };
    engines::log();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let node = Node::start(&engines::identity(&dir), &[seed]);
    serve(&node.address());
}

fn in_process(network: &InProcessNetwork, host: &str, incarnation: u64) -> ClusterTransport {
    let config = Config::builder("engines").incarnation(incarnation).build().unwrap();
    ClusterTransport::in_process(config, network, host).unwrap()
}

/// In simulated time, with foca's own settings: what `lan` says of the time until a dead node is down.
#[tokio::test(start_paused = true)]
async fn a_killed_node_is_down_after_four_to_ten_seconds() {
    for round in 0..50 {
        let network = InProcessNetwork::new();
        let seeds = [Address::new("engines", "node-0", 1).unwrap()];
        let node = |n| Node::on(in_process(&network, &format!("node-{n}"), round), &seeds, lan(5));
        let mut nodes: Vec<_> = (0..5).map(node).collect();
        let mut all: Vec<_> = nodes.iter().map(Node::address).collect();
        agree("five find each other", &nodes.iter().collect::<Vec<_>>(), &all).await;
        // At any moment of a probe period.
        tokio::time::sleep(Duration::from_millis(20 * round)).await;
        let killed = nodes.pop().unwrap();
        all.pop();
        network.kill(&killed.address());
        let begin = Instant::now();
        agree("the killed one is down", &nodes.iter().collect::<Vec<_>>(), &all).await;
        let down = begin.elapsed();
        println!("round {round}: {down:?}");
        let stated = Duration::from_secs(4)..Duration::from_secs(10);
        assert!(stated.contains(&down), "round {round}: {down:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_cut_off_comes_back_renewed() {
    let network = InProcessNetwork::new();
    let seeds = ["a", "b"].map(|host| Address::new("engines", host, 1).unwrap());
    let node = |host| Node::on(in_process(&network, host, 1), &seeds, lan(3));
    let [mut a, b, mut c] = ["a", "b", "c"].map(node);
    let all = [a.address(), b.address(), c.address()];
    agree("they find each other", &[&a, &b, &c], &all).await;
    network.cut(&all[0], &all[2]);
    network.cut(&all[1], &all[2]);
    agree("two are left", &[&a, &b], &all[..2]).await;
    agree("one is alone", &[&c], &all[2..]).await;
    network.heal(&all[0], &all[2]);
    network.heal(&all[1], &all[2]);
    agree("they find each other again", &[&a, &b, &c], &all).await;
    let renewed = NodeId { address: all[2].clone(), incarnation: Incarnation(1), renewal: 1 };
    assert!(a.swim.members().contains(&renewed), "{:?}", a.swim.members());
    assert!(c.seen().await.contains(&Change::Rejoined(renewed.clone())));
    let seen = a.seen().await;
    let before = NodeId { renewal: 0, ..renewed.clone() };
    let at = |change| seen.iter().position(|seen| *seen == change).expect("all of them");
    assert!(at(Change::Down(before.clone())) < at(Change::Up(renewed.clone())), "{seen:?}");
    assert!(at(Change::Replaced { old: before, new: renewed.clone() }) < at(Change::Up(renewed)));
}

/// A suspicion that is refuted costs nothing, now or when its time is up.
#[tokio::test(start_paused = true)]
async fn a_node_that_was_cut_off_for_a_moment_stays() {
    let network = InProcessNetwork::new();
    let seeds = [Address::new("engines", "a", 1).unwrap()];
    let node = |host| Node::on(in_process(&network, host, 1), &seeds, lan(3));
    let mut nodes = ["a", "b", "c"].map(node);
    let all: Vec<_> = nodes.iter().map(Node::address).collect();
    agree("they find each other", &nodes.iter().collect::<Vec<_>>(), &all).await;
    // Longer than two probe periods, and shorter than a suspicion.
    network.cut(&all[0], &all[2]);
    network.cut(&all[1], &all[2]);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    network.heal(&all[0], &all[2]);
    network.heal(&all[1], &all[2]);
    tokio::time::sleep(Duration::from_secs(30)).await;
    for node in &mut nodes {
        let seen = node.seen().await;
        assert!(matches!(seen, [Change::Up(_), Change::Up(_)]), "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_started_anew_replaces_its_old_life() {
    let network = InProcessNetwork::new();
    let seeds = [Address::new("engines", "a", 1).unwrap()];
    let mut a = Node::on(in_process(&network, "a", 1), &seeds, lan(2));
    let old = Node::on(in_process(&network, "b", 1), &seeds, lan(2));
    let all = [a.address(), old.address()];
    agree("they find each other", &[&a, &old], &all).await;
    network.kill(&all[1]);
    let new = Node::on(in_process(&network, "b", 2), &seeds, lan(2));
    let life = |n| NodeId { address: all[1].clone(), incarnation: Incarnation(n), renewal: 0 };
    until("the new life", || a.swim.members() == [life(2)], || a.swim.members()).await;
    agree("they find each other", &[&a, &new], &all).await;
    let seen = a.seen().await;
    assert_eq!(seen, [Change::Up(life(1)), Change::Replaced { old: life(1), new: life(2) }]);
}

/// What the module says of the gossip lane's "latest wins".
#[tokio::test(start_paused = true)]
async fn packets_to_one_peer_displace_each_other_only_beyond_the_budget() {
    let network = InProcessNetwork::new();
    let (a, b) = (in_process(&network, "a", 1), in_process(&network, "b", 1));
    let peer = a.peer(b.address()).unwrap();
    // As many as wait where nobody takes them yet.
    let packet = |n: u8| vec![n; 1400];
    network.cut(a.address(), b.address());
    for n in 0..=186 {
        peer.send_gossip(Bytes::new(&packet(n))).unwrap();
        let dropped = peer.stats().gossip.dropped;
        assert_eq!(dropped, u64::from(n == 186), "packet {n}");
    }
    network.heal(a.address(), b.address());
    let (inbox, mut gossip) = gossip_inbox::<ByteBuf>(1);
    b.start(inbox, RecordingSink::new()).unwrap();
    for n in 1..=186 {
        assert_eq!(gossip.recv().await.unwrap().message, packet(n), "in their order");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_cannot_speak_in_another_s_name() {
    let network = InProcessNetwork::new();
    let a = Node::on(in_process(&network, "a", 1), &[], lan(2));
    let mallory = in_process(&network, "mallory", 1);
    let id = |address: Address| NodeId { address, incarnation: Incarnation(1), renewal: 0 };
    let announce = |source: Address| {
        let header = Header {
            src: id(source),
            src_incarnation: 0,
            dst: id(a.address()),
            message: Message::Announce,
        };
        let mut packet = Vec::new();
        PostcardCodec.encode_header(&header, &mut packet).unwrap();
        mallory.send_gossip(&a.address(), Bytes::new(&packet)).unwrap();
    };
    announce(Address::new("engines", "ghost", 1).unwrap());
    // One lane, one order: when this is seen, the other was.
    announce(mallory.address().clone());
    let mallory = id(mallory.address().clone());
    until("a member", || !a.swim.members().is_empty(), || ()).await;
    assert_eq!(a.swim.members(), [mallory]);
}

#[tokio::test]
async fn the_engine_ends_with_the_transport_and_does_not_hold_it() {
    let network = InProcessNetwork::new();
    let Node { transport, mut changes, swim, .. } =
        Node::on(in_process(&network, "a", 1), &[], lan(1));
    assert!(Swim::start(&transport, RecordingSink::new(), lan(1)).is_err(), "started already");
    drop(transport);
    assert_eq!(timeout(engines::LIMIT, changes.recv()).await.expect("an end"), None);
    assert_eq!(swim.changes().recv().await, None);
    swim.leave().await;
}
