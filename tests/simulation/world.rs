//! A cluster in simulated time, on either backend: nodes that are started, killed, drained and
//! brought back, and what they were given to send.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster_quic::{
    Address, ClusterTransport, Config, ConfigBuilder, CustomSocket, Identity, InProcessNetwork,
    PeerState, Runtime,
};
use tokio::time::{Instant, sleep};

use crate::identity::{HOST, identity};
use crate::life::Life;
use crate::network::{Network, Pipe, PipeId};
use crate::sink::Sink;

/// What carries a world's traffic.
pub(crate) enum Net {
    Quic { network: Network, pipes: Vec<Vec<PipeId>> },
    InProcess(InProcessNetwork),
}

/// Changes a node's configuration.
pub(crate) type Adapt = Arc<dyn Fn(ConfigBuilder) -> ConfigBuilder>;

pub(crate) struct World {
    pub(crate) net: Net,
    pub(crate) nodes: Vec<Node>,
    /// What a pipe is without faults.
    pub(crate) pipe: Pipe,
    adapt: Adapt,
    /// What its QUIC nodes show and trust.
    identity: Identity,
    seed: u64,
    begin: Instant,
    lives: u64,
    /// Checks of the ledger so far.
    pub(crate) checks: u64,
}

/// A place in the cluster, and who has lived there.
pub(crate) struct Node {
    pub(crate) address: Address,
    pub(crate) life: Option<Life>,
    pub(crate) past: Vec<Life>,
    /// Those of all lives.
    pub(crate) sinks: Arc<Mutex<Vec<Arc<Sink>>>>,
}

impl Node {
    /// All lives, in order.
    pub(crate) fn lives(&self) -> impl Iterator<Item = &Life> {
        self.past.iter().chain(&self.life)
    }

    pub(crate) fn life(&self) -> &Life {
        self.life.as_ref().expect("the node is up")
    }
}

/// The socket of node `n`.
pub(crate) fn socket_address(n: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1001 + n as u16))
}

fn nodes(addresses: impl Iterator<Item = Address>) -> Vec<Node> {
    addresses
        .map(|address| Node { address, life: None, past: Vec::new(), sinks: Arc::default() })
        .collect()
}

impl World {
    /// Nodes that speak QUIC over a simulated network, each pair with a pipe for each direction.
    pub(crate) fn quic(
        seed: u64,
        size: usize,
        pipe: Pipe,
        adapt: impl Fn(ConfigBuilder) -> ConfigBuilder + 'static,
    ) -> Self {
        Self::quic_with(seed, size, pipe, identity().clone(), adapt)
    }

    /// The same, with an identity of their own.
    pub(crate) fn quic_with(
        seed: u64,
        size: usize,
        pipe: Pipe,
        identity: Identity,
        adapt: impl Fn(ConfigBuilder) -> ConfigBuilder + 'static,
    ) -> Self {
        let network = Network::new(seed, pipe.clone());
        let pipes = (0..size).map(|from| {
            let to = |to| {
                let id = network.pipe(pipe.clone());
                network.route(socket_address(from), socket_address(to), id);
                id
            };
            (0..size).map(to).collect()
        });
        let pipes = pipes.collect();
        let address = |n| Address::new("sim", HOST, socket_address(n).port()).unwrap();
        let nodes = nodes((0..size).map(address));
        Self::started(Net::Quic { network, pipes }, nodes, pipe, identity, seed, adapt)
    }

    /// Nodes joined by channels.
    pub(crate) fn in_process(
        seed: u64,
        size: usize,
        adapt: impl Fn(ConfigBuilder) -> ConfigBuilder + 'static,
    ) -> Self {
        let address = |n| Address::new("sim", format!("node-{n}"), 1).unwrap();
        let nodes = nodes((0..size).map(address));
        let net = Net::InProcess(InProcessNetwork::new());
        Self::started(net, nodes, Pipe::default(), identity().clone(), seed, adapt)
    }

    fn started(
        net: Net,
        nodes: Vec<Node>,
        pipe: Pipe,
        identity: Identity,
        seed: u64,
        adapt: impl Fn(ConfigBuilder) -> ConfigBuilder + 'static,
    ) -> Self {
        let adapt = Arc::new(adapt);
        let begin = Instant::now();
        let mut world =
            Self { net, nodes, pipe, adapt, identity, seed, begin, lives: 0, checks: 0 };
        (0..world.nodes.len()).for_each(|n| world.start(n));
        world
    }

    pub(crate) fn size(&self) -> usize {
        self.nodes.len()
    }

    /// Starts node `n`, in a new life.
    pub(crate) fn start(&mut self, n: usize) {
        assert!(self.nodes[n].life.is_none());
        self.lives += 1;
        let config = Config::builder("sim")
            .runtime(Runtime::Simulated)
            .incarnation(self.lives)
            .advertise_host(HOST);
        let config = (self.adapt)(config).build().unwrap();
        let transport = match &self.net {
            Net::Quic { network, .. } => {
                let socket = network.socket(socket_address(n));
                let seed = (self.seed << 8) ^ self.lives;
                let seed = std::array::from_fn(|i| seed.to_le_bytes()[i % 8]);
                let socket = CustomSocket { socket, seed: Some(seed) };
                ClusterTransport::bind_socket(config, &self.identity, socket).unwrap()
            }
            Net::InProcess(network) => {
                let host = self.nodes[n].address.host();
                ClusterTransport::in_process(config, network, host).unwrap()
            }
        };
        assert_eq!(*transport.address(), self.nodes[n].address);
        let addresses: Vec<_> = self.nodes.iter().map(|node| node.address.clone()).collect();
        let life = Life::start(n, transport, &addresses, self.begin);
        self.nodes[n].sinks.lock().unwrap().push(Arc::clone(&life.sink));
        self.nodes[n].life = Some(life);
        for other in (0..self.size()).filter(|other| *other != n) {
            let Some(life) = &mut self.nodes[other].life else { continue };
            life.note_restart(n, self.lives);
        }
    }

    /// What nodes show and trust that start from now on.
    pub(crate) fn renew(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// Ends node `n` as a crash would: it says nothing any more, and hears nothing.
    pub(crate) fn kill(&mut self, n: usize) {
        let Some(mut life) = self.nodes[n].life.take() else { return };
        match &self.net {
            Net::Quic { network, .. } => network.unplug(socket_address(n)),
            Net::InProcess(network) => network.kill(&self.nodes[n].address),
        }
        life.end();
        self.nodes[n].past.push(life);
    }

    /// Begins to drain node `n`; [`drained`](Self::drained) ends it.
    pub(crate) fn drain(&mut self, n: usize, deadline: Duration) {
        if let Some(life) = &mut self.nodes[n].life {
            life.drain(deadline);
        }
    }

    /// Waits for the end of a drain, if one is under way.
    pub(crate) async fn drained(&mut self, n: usize) {
        let Some(life) = self.nodes[n].life.as_mut().filter(|life| life.is_draining()) else {
            return;
        };
        life.drained().await;
        let Some(mut life) = self.nodes[n].life.take() else { return };
        life.end();
        self.nodes[n].past.push(life);
    }

    /// Gives node `from` `count` tells to `to`; returns how many were taken.
    pub(crate) fn tell(&mut self, from: usize, to: usize, count: u64, size: usize) -> u64 {
        self.nodes[from].life.as_mut().map_or(0, |life| life.tell(to, count, size))
    }

    pub(crate) fn gossip(&mut self, from: usize, to: usize) {
        if let Some(life) = &mut self.nodes[from].life {
            life.gossip(to);
        }
    }

    /// Waits until gossip arrives from every living node at those that it has met; what was said before may be
    /// lost.
    pub(crate) async fn gossip_arrives(&mut self, limit: Duration) {
        let begin = Instant::now();
        let living = |world: &Self, n: usize| world.nodes[n].life.is_some();
        let pairs = (0..self.size()).flat_map(|n| (0..self.size()).map(move |to| (n, to)));
        let mut missing: Vec<_> = pairs
            .filter(|&(n, to)| n != to && living(self, n) && living(self, to))
            .filter(|&(n, to)| self.associations(n, to) > 0)
            .map(|(n, to)| (n, to, u64::MAX))
            .collect();
        while !missing.is_empty() {
            assert!(begin.elapsed() < limit, "no gossip arrives: {missing:?} (from, to, since)");
            for (from, to, first) in &mut missing {
                let Some(life) = &mut self.nodes[*from].life else { continue };
                *first = life.gossip(*to).min(*first);
            }
            sleep(Duration::from_millis(100)).await;
            missing.retain(|&(from, to, first)| {
                let node = &self.nodes[from];
                let heard = self.nodes[to].life().ears.last(&node.address);
                heard < (node.life().incarnation, first)
            });
        }
    }

    /// How long gossip took that arrived, sorted.
    pub(crate) fn gossip_delays(&self) -> Vec<Duration> {
        let lives = self.nodes.iter().flat_map(Node::lives);
        let mut delays: Vec<_> = lives.flat_map(|life| life.ears.delays()).collect();
        delays.sort();
        delays
    }

    /// Changes the pipe from one node to another; the in-process backend has none.
    pub(crate) fn change(&self, from: usize, to: usize, change: impl FnOnce(&mut Pipe)) {
        if let Net::Quic { network, pipes } = &self.net {
            network.change(pipes[from][to], change);
        }
    }

    /// Cuts the way from one node to another, or heals it. In the in-process network both ways.
    pub(crate) fn cut(&self, from: usize, to: usize, cut: bool) {
        let (a, b) = (&self.nodes[from].address, &self.nodes[to].address);
        match &self.net {
            Net::Quic { .. } => self.change(from, to, |pipe| pipe.cut = cut),
            Net::InProcess(network) if cut => network.cut(a, b),
            Net::InProcess(network) => network.heal(a, b),
        }
    }

    pub(crate) fn cut_both(&self, a: usize, b: usize, cut: bool) {
        self.cut(a, b, cut);
        self.cut(b, a, cut);
    }

    pub(crate) fn network(&self) -> &Network {
        match &self.net {
            Net::Quic { network, .. } => network,
            Net::InProcess(_) => panic!("it has no packets"),
        }
    }

    pub(crate) fn is_connected(&self, from: usize, to: usize) -> bool {
        let stats = self.nodes[from].life().peer(to).stats();
        stats.state == PeerState::Connected
    }

    /// Associations so far of `from` with `to`, in `from`'s present life.
    pub(crate) fn associations(&self, from: usize, to: usize) -> u64 {
        self.nodes[from].life().peer(to).stats().associations
    }

    /// Waits until `done`, checking every 10 ms; returns how long it took. Panics past `limit`.
    pub(crate) async fn until(
        &self,
        what: &str,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Duration {
        let begin = Instant::now();
        while !done(self) {
            assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
            sleep(Duration::from_millis(10)).await;
        }
        begin.elapsed()
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.nodes.iter().filter_map(|node| node.life.as_ref()).any(Life::has_pending)
    }

    /// Waits until nothing is pending anywhere, and checks the ledger; returns how long it took.
    pub(crate) async fn quiet(&mut self, limit: Duration) -> Duration {
        let begin = Instant::now();
        for n in 0..self.size() {
            self.drained(n).await;
        }
        while self.has_pending() {
            if begin.elapsed() >= limit {
                panic!("still pending after {limit:?}: {:#?}", self.pending());
            }
            self.check();
            sleep(Duration::from_millis(100)).await;
        }
        let took = begin.elapsed();
        // Lost tells are given back on a thread of its own, for which the clock waits.
        sleep(Duration::from_millis(1)).await;
        self.check_quiet();
        took
    }

    fn pending(&self) -> Vec<String> {
        let lives = self.nodes.iter().filter_map(|node| node.life.as_ref());
        let pending = |life: &Life| {
            let peers = life.peers().filter(|(_, peer)| {
                let stats = peer.stats();
                stats.tells().pending_frames() > 0 || stats.tells_received().waiting_frames > 0
            });
            let text = |(to, peer): (usize, &cluster_quic::Peer)| {
                format!("{} -> {to}: {:?}", life.number, peer.stats())
            };
            peers.map(text).collect::<Vec<_>>()
        };
        lives.flat_map(pending).collect()
    }
}
