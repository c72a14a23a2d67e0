//! A cluster of real atomr TCP nodes becomes one of QUIC nodes, one after the other, while it runs. The
//! TCP nodes are atomr's own, unmodified: they know nothing of QUIC or of this crate.
#![cfg(feature = "atomr")]

use std::collections::{BTreeSet, HashSet};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use atomr_cluster::{
    ClusterDaemonHandle, ClusterEvent, ClusterEventBus, DaemonConfig, GossipTransport, Member,
    MemberStatus, MembershipState, RecordingSink, SubscriptionHandle, TcpClusterTransport,
    spawn_daemon,
};
use atomr_core::actor::Address;
use cluster_quic::atomr::join_through;
use cluster_quic::atomr::upgrade::{BothTransports, UpgradeError};
use cluster_quic::{BindError, Config, DevCa, Identity};
use tokio::runtime::Runtime;

const GOSSIP: Duration = Duration::from_millis(30);
const LIMIT: Duration = Duration::from_secs(60);
const SYSTEM: &str = "cluster";

/// What a node speaks.
enum Transport {
    /// atomr's own, and nothing else.
    Tcp(Arc<TcpClusterTransport>),
    Both(Arc<BothTransports>),
}

/// A node on a runtime of its own, so that it can end as a process does.
struct Node {
    runtime: Runtime,
    transport: Transport,
    daemon: Arc<ClusterDaemonHandle>,
    sink: Arc<RecordingSink>,
    address: Address,
    /// Who was removed here, or said to be unreachable.
    removed: Arc<Mutex<Vec<Address>>>,
    _events: SubscriptionHandle,
}

impl Node {
    fn old(port: u16, seed: Option<&Address>, watch: &Watch) -> Arc<Self> {
        let runtime = runtime();
        let bind = SocketAddr::from(([127, 0, 0, 1], port));
        let (tcp, address) = bound("TCP", || {
            let own = Address::remote("akka.tcp", SYSTEM, "127.0.0.1", port);
            let tcp = TcpClusterTransport::new(own, bind);
            let address = runtime.block_on(tcp.listen()).ok()?;
            Some((Arc::new(tcp), address))
        });
        let gossip: Arc<dyn GossipTransport> = tcp.clone();
        let start = |daemon: &ClusterDaemonHandle, sink| tcp.start(daemon.gossip_inbox(), sink);
        let transport = Transport::Tcp(tcp.clone());
        Self::assemble(runtime, transport, address, gossip, watch, start, |daemon, runtime| {
            let seed = seed?;
            Some(runtime.block_on(join_through(&*tcp, daemon, seed, LIMIT)))
        })
    }

    fn both(port: u16, identity: &Identity, seed: &Address, watch: &Watch) -> Arc<Self> {
        let runtime = runtime();
        let both = bound("QUIC and TCP", || {
            match runtime.block_on(BothTransports::bind(config(port), identity)) {
                Ok(both) => Some(Arc::new(both)),
                Err(UpgradeError::Quic(BindError::Socket { .. }) | UpgradeError::Tcp(_)) => None,
                Err(error) => panic!("{error}"),
            }
        });
        let gossip: Arc<dyn GossipTransport> = both.clone();
        let start =
            |daemon: &ClusterDaemonHandle, sink| both.start(daemon.gossip_inbox(), sink).unwrap();
        let transport = Transport::Both(both.clone());
        let node = Self::assemble(
            runtime,
            transport,
            both.address(),
            gossip,
            watch,
            start,
            |daemon, runtime| Some(runtime.block_on(join_through(&*both, daemon, seed, LIMIT))),
        );
        let _entered = node.runtime.enter();
        both.retire_old_address(&node.daemon);
        drop(_entered);
        node
    }

    fn assemble(
        runtime: Runtime,
        transport: Transport,
        address: Address,
        gossip: Arc<dyn GossipTransport>,
        watch: &Watch,
        start: impl Fn(&ClusterDaemonHandle, Arc<dyn atomr_cluster::RemoteMessageSink>),
        join: impl Fn(
            &ClusterDaemonHandle,
            &Runtime,
        ) -> Option<Result<(), cluster_quic::atomr::JoinError>>,
    ) -> Arc<Self> {
        let bus = ClusterEventBus::new();
        let removed = Arc::<Mutex<Vec<Address>>>::default();
        let record = removed.clone();
        let events = bus.subscribe(move |event| {
            if let ClusterEvent::MemberDowned(member)
            | ClusterEvent::MemberRemoved(member, _)
            | ClusterEvent::UnreachableMember(member) = event
            {
                record.lock().unwrap().push(member.address.clone());
            }
        });
        let entered = runtime.enter();
        let daemon =
            spawn_daemon(address.clone(), gossip, bus, DaemonConfig { gossip_interval: GOSSIP });
        let daemon = Arc::new(daemon);
        watch.add(&daemon);
        let sink = Arc::new(RecordingSink::default());
        start(&daemon, sink.clone());
        drop(entered);
        match join(&daemon, &runtime) {
            Some(joined) => joined.unwrap(),
            None => daemon.join(Member::new(address.clone(), vec![])),
        }
        Arc::new(Self { runtime, transport, daemon, sink, address, removed, _events: events })
    }

    fn up(&self) -> BTreeSet<String> {
        let members = self.daemon.snapshot().state.members;
        let up = members.into_iter().filter(|member| member.status == MemberStatus::Up);
        up.map(|member| member.address.to_string()).collect()
    }

    fn tell(&self, target: &Address, target_path: &str) {
        // atomr's sends on a task of its own.
        let _entered = self.runtime.enter();
        let (path, payload) = (target_path.to_owned(), b"hello".to_vec());
        match &self.transport {
            Transport::Tcp(tcp) => tcp.send_remote(target, path, "text".into(), payload, None),
            Transport::Both(both) => {
                both.send_remote(target, path, "text".into(), payload, None).unwrap();
            }
        }
    }

    fn received(&self, target_path: &str) -> usize {
        let records = self.sink.records.lock();
        records.iter().filter(|record| record.target_path == target_path).count()
    }

    /// As a process ends: all its tasks are gone, and its sockets.
    fn end(self: Arc<Self>) {
        let node = Arc::into_inner(self).expect("nobody else has it");
        if let Transport::Both(both) = &node.transport {
            node.runtime.block_on(both.shutdown(Duration::from_secs(5)));
        }
        drop((node.transport, node.daemon));
        node.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn config(port: u16) -> Config {
    Config::builder(SYSTEM).bind(([127, 0, 0, 1], port).into()).build().unwrap()
}

fn until<T>(what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = get() {
            return value;
        }
        assert!(begin.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A port that was in use a moment ago may be so for another.
fn bound<T>(what: &str, bind: impl FnMut() -> Option<T>) -> T {
    until(&format!("{what} bound"), bind)
}

/// A port that is free for UDP, and kept so, and free for TCP.
fn port() -> (UdpSocket, u16) {
    until("a port free for both", || {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = udp.local_addr().unwrap().port();
        std::net::TcpListener::bind(("127.0.0.1", port)).ok().map(|_| (udp, port))
    })
}

/// Looks all the time how the nodes that run see each other, each from its start.
struct Watch {
    nodes: Arc<Mutex<Vec<Watched>>>,
    looks: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

struct Watched {
    daemon: Arc<ClusterDaemonHandle>,
    /// It is a member like the others: all see it Up, and it sees all Up.
    joined: bool,
}

impl Watched {
    fn address(&self) -> &Address {
        self.daemon.address()
    }

    /// What is wrong with how this node sees another; `up`: who has seen whom Up. Before that, the other may
    /// not be known yet, or be about to join; afterwards, and once it has joined, it is Up and nothing else.
    fn sees(
        &self,
        state: &MembershipState,
        other: &Self,
        up: &mut HashSet<[Address; 2]>,
    ) -> Option<String> {
        let pair = [self.address().clone(), other.address().clone()];
        let member = state.members.iter().find(|member| member.address == pair[1]);
        let status = member.map(|member| member.status);
        let is_reachable = state.reachability.is_reachable(&pair[1]);
        let joins = !(up.contains(&pair) || self.joined && other.joined);
        let is_right = match status {
            Some(MemberStatus::Up) => true,
            None | Some(MemberStatus::Joining | MemberStatus::WeaklyUp) => joins,
            Some(_) => false,
        };
        if status == Some(MemberStatus::Up) {
            up.insert(pair.clone());
        }
        let [from, to] = pair;
        let wrong = || format!("{from} sees {to} as {status:?}, reachable: {is_reachable}");
        (!is_right || !is_reachable).then(wrong)
    }
}

impl Watch {
    fn start() -> Self {
        let nodes = Arc::<Mutex<Vec<Watched>>>::default();
        let (looks, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (watched, looked, stopped) = (nodes.clone(), looks.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let (mut wrong, mut up) = (Vec::new(), HashSet::new());
            while !stopped.load(Ordering::Relaxed) {
                let nodes = watched.lock().unwrap();
                for node in nodes.iter() {
                    let state = node.daemon.snapshot().state;
                    let sees = |other| node.sees(&state, other, &mut up);
                    wrong.extend(nodes.iter().filter_map(sees));
                }
                drop(nodes);
                looked.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
            wrong
        });
        Self { nodes, looks, stop, thread }
    }

    fn add(&self, daemon: &Arc<ClusterDaemonHandle>) {
        self.nodes.lock().unwrap().push(Watched { daemon: daemon.clone(), joined: false });
    }

    /// All that run have agreed: from now on nobody may miss anybody.
    fn all_joined(&self) {
        self.nodes.lock().unwrap().iter_mut().for_each(|node| node.joined = true);
    }

    /// Before it ends.
    fn remove(&self, node: &Node) {
        self.nodes.lock().unwrap().retain(|watched| *watched.address() != node.address);
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let wrong = self.thread.join().unwrap();
        assert!(wrong.is_empty(), "{} times: {}", wrong.len(), wrong[0]);
        println!("looked {} times", self.looks.load(Ordering::Relaxed));
    }
}

/// Waits until each of `nodes` sees exactly them Up, and tells go through between any two.
fn agree(what: &str, nodes: &[Arc<Node>]) -> Duration {
    let begin = Instant::now();
    let all: BTreeSet<_> = nodes.iter().map(|node| node.address.to_string()).collect();
    until(what, || nodes.iter().all(|node| node.up() == all).then_some(()));
    let took = begin.elapsed();
    for (from, to) in pairs(nodes) {
        let path = format!("{}/user/{what}/{}", to.address, from.address);
        from.tell(&to.address, &path);
        until(&format!("a tell: {path}"), || (to.received(&path) > 0).then_some(()));
        assert_eq!(to.received(&path), 1, "{path}");
    }
    took
}

fn pairs(nodes: &[Arc<Node>]) -> impl Iterator<Item = (&Arc<Node>, &Arc<Node>)> {
    let all = nodes.iter().flat_map(move |from| nodes.iter().map(move |to| (from, to)));
    all.filter(|(from, to)| from.address != to.address)
}

#[test]
fn three_tcp_nodes_become_quic_nodes_one_after_the_other() {
    let identity = DevCa::new("upgrade").unwrap().identity(&["127.0.0.1"]).unwrap();
    let mut ports: Vec<_> = (0..3).map(|_| port()).collect();
    let watch = Watch::start();
    let mut seed = None;
    let mut all = Vec::new();
    for (_, port) in &ports {
        let node = Node::old(*port, seed.as_ref(), &watch);
        seed.get_or_insert(node.address.clone());
        all.push(node);
    }
    agree("before", &all);
    watch.all_joined();
    let old_addresses: Vec<_> = all.iter().map(|node| node.address.clone()).collect();

    for (n, (udp, port)) in ports.drain(..).enumerate() {
        // The first in the list is the next to go.
        let node = all.remove(0);
        watch.remove(&node);
        node.end();
        drop(udp);
        let seed = all[0].address.clone();
        let node = Node::both(port, &identity, &seed, &watch);
        assert_eq!(node.address, Address::remote("akka.quic", SYSTEM, "127.0.0.1", port));
        all.push(node.clone());
        let took = agree(&format!("step {}", n + 1), &all);
        println!("step {}, joined through {seed}: {took:?}", n + 1);
        watch.all_joined();
        // Its old address leads to it still, for those who have it written down somewhere.
        let alias = format!("{}/user/alias", old_addresses[n]);
        let other = &all[0];
        until("a tell to the old address", || {
            other.tell(&old_addresses[n], &alias);
            (node.received(&alias) > 0).then_some(())
        });
    }

    for node in &all {
        let Transport::Both(both) = &node.transport else { panic!("all speak both") };
        node.runtime.block_on(both.end_tcp());
        let port = node.address.port.unwrap();
        let refused = || TcpStream::connect(("127.0.0.1", port)).is_err().then_some(());
        until("the TCP port closed", refused);
        let sent = both.send_remote(&old_addresses[0], String::new(), String::new(), vec![], None);
        assert!(sent.is_err(), "refused, and not lost in silence");
    }
    // Gossip goes on, and so do tells.
    let rounds = |node: &Arc<Node>| node.daemon.snapshot().version.versions;
    let before: Vec<_> = all.iter().map(rounds).collect();
    let onward = |(node, before): (&Arc<Node>, &std::collections::BTreeMap<String, u64>)| {
        let now = rounds(node);
        all.iter().all(|other| now[&other.address.to_string()] > before[&other.address.to_string()])
    };
    until("gossip from each to each", || all.iter().zip(&before).all(onward).then_some(()));
    agree("QUIC alone", &all);
    for node in &all {
        let removed = node.removed.lock().unwrap();
        let healthy = removed.iter().find(|address| !old_addresses.contains(address));
        assert_eq!(healthy, None, "at {}", node.address);
    }
    watch.end();
    all.into_iter().for_each(Node::end);
}

#[test]
fn an_upgraded_node_can_go_back() {
    let identity = DevCa::new("upgrade").unwrap().identity(&["127.0.0.1"]).unwrap();
    let ports: Vec<_> = (0..3).map(|_| port()).collect();
    let [a, b, c] = [0, 1, 2].map(|n: usize| ports[n].1);
    let watch = Watch::start();
    let first = Node::old(a, None, &watch);
    drop(ports);
    let second = Node::both(b, &identity, &first.address, &watch);
    let third = Node::both(c, &identity, &first.address, &watch);
    agree("one old, two upgraded", &[first.clone(), second.clone(), third.clone()]);
    watch.all_joined();
    let gone = third.address.clone();
    watch.remove(&third);
    third.end();
    let third = Node::old(c, Some(&first.address), &watch);
    let Transport::Both(both) = &second.transport else { panic!("it speaks both") };
    let entered = second.runtime.enter();
    both.retire(&second.daemon, gone);
    drop(entered);
    agree("two old, one upgraded", &[first.clone(), second.clone(), third.clone()]);
    watch.end();
    [first, second, third].into_iter().for_each(Node::end);
}

#[test]
fn what_cannot_be_bound_says_why_and_leaves_nothing_bound() {
    let identity = DevCa::new("upgrade").unwrap().identity(&["127.0.0.1"]).unwrap();
    let runtime = runtime();
    let bind = |port| runtime.block_on(BothTransports::bind(config(port), &identity));
    assert!(matches!(bind(0), Err(UpgradeError::NoPort)));
    let (udp, port) = port();
    assert!(matches!(bind(port), Err(UpgradeError::Quic(_))), "UDP in use");
    drop(udp);
    let old = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    assert!(matches!(bind(port), Err(UpgradeError::Tcp(_))), "the old process still runs");
    UdpSocket::bind(("127.0.0.1", port)).expect("UDP is free when the error is there");
    drop(old);
    until("the node after all", || bind(port).ok());
}

fn both(runtime: &Runtime) -> BothTransports {
    let identity = DevCa::new("upgrade").unwrap().identity(&["127.0.0.1"]).unwrap();
    bound("both", || {
        let (udp, port) = port();
        drop(udp);
        runtime.block_on(BothTransports::bind(config(port), &identity)).ok()
    })
}

/// TCP is open to whoever reaches the port: a program that gives its node up must not keep it.
#[test]
fn a_node_that_is_dropped_leaves_no_port_open() {
    let runtime = runtime();
    let both = both(&runtime);
    let port = both.quic().address().port();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(), "it listens");
    drop(both);
    until("the TCP port closed", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_err().then_some(())
    });
}

#[test]
fn a_shutdown_keeps_its_deadline_whatever_becomes_of_the_tcp_port() {
    let runtime = runtime();
    let both = both(&runtime);
    let port = both.quic().address().port();
    let shutdown = async {
        // Somebody else has the port as soon as it is free, so that it never looks closed.
        let other = tokio::spawn(async move {
            loop {
                if let Ok(other) = tokio::net::TcpListener::bind(("127.0.0.1", port)).await {
                    return other;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let begin = Instant::now();
        both.shutdown(Duration::from_millis(200)).await;
        let took = begin.elapsed();
        other.abort();
        took
    };
    let took = runtime.block_on(shutdown);
    assert!(took < Duration::from_secs(3), "{took:?}");
}
