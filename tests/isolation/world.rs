//! Nodes with real QUIC and TLS on a simulated network. Under tokio's paused clock time is simulated
//! as well; where a sink blocks, which holds that clock, it is real.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use cluster_quic::{
    Address, ClusterTransport, Config, ConfigBuilder, CustomSocket, DevCa, Gossip, Identity, Peer,
    RemoteMessageSink, RemoteTellRef, gossip_inbox,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::network::{Network, Pipe, PipeId};

/// Draws the network's chances, and quinn's.
pub(crate) const SEED: u8 = 7;

/// How long to wait for what comes at once, or never.
pub(crate) const NEVER: Duration = Duration::from_secs(10);

/// Gossip, numbered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Probe {
    pub(crate) number: usize,
    pub(crate) filling: String,
}

impl Probe {
    pub(crate) fn new(number: usize, size: usize) -> Self {
        Self { number, filling: "x".repeat(size) }
    }
}

/// 10 Mbit/s, a round trip of 20 ms, and a buffer of 800 ms.
pub(crate) fn narrow() -> Pipe {
    Pipe {
        rate: Some(1_250_000.0),
        delay: Duration::from_millis(10),
        queue: 1_000_000,
        ..Pipe::default()
    }
}

pub(crate) struct World {
    pub(crate) network: Network,
    identity: Identity,
    nodes: AtomicU8,
}

pub(crate) struct Node {
    pub(crate) transport: ClusterTransport,
    pub(crate) gossip: mpsc::Receiver<Gossip<Probe>>,
}

impl World {
    /// A world whose links have no limit, but for those that [`join`](Self::join) makes.
    pub(crate) fn new() -> Self {
        let ca = DevCa::new("isolation").unwrap();
        Self {
            network: Network::new(SEED.into(), Pipe::default()),
            identity: ca.identity(&["127.0.0.1"]).unwrap(),
            nodes: AtomicU8::new(0),
        }
    }

    pub(crate) fn node(
        &self,
        adapt: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
        sink: Arc<impl RemoteMessageSink>,
    ) -> Node {
        let number = self.nodes.fetch_add(1, Ordering::Relaxed) + 1;
        let config = Config::builder("isolation").incarnation(number.into());
        let socket = self.network.socket(([127, 0, 0, 1], 1000 + u16::from(number)).into());
        let socket = CustomSocket { socket, seed: Some([SEED ^ number; 32]) };
        let config = adapt(config).build().unwrap();
        let transport = ClusterTransport::bind_socket(config, &self.identity, socket).unwrap();
        let (inbox, gossip) = gossip_inbox(4096);
        transport.start(inbox, sink).unwrap();
        Node { transport, gossip }
    }

    /// Joins two nodes by a link of their own, alike in both directions; returns the one from `a` to
    /// `b`, and the one back.
    pub(crate) fn join(&self, a: &Node, b: &Node, pipe: &Pipe) -> [PipeId; 2] {
        let [to, from] = [self.network.pipe(pipe.clone()), self.network.pipe(pipe.clone())];
        self.network.route(a.socket(), b.socket(), to);
        self.network.route(b.socket(), a.socket(), from);
        [to, from]
    }
}

impl Node {
    pub(crate) fn address(&self) -> &Address {
        self.transport.address()
    }

    fn socket(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.address().port()).into()
    }

    pub(crate) fn peer(&self, other: &Self) -> Peer {
        self.transport.peer(other.address()).unwrap()
    }

    /// A handle of an associated peer.
    pub(crate) async fn connect(&self, other: &Self) -> Peer {
        let peer = self.peer(other);
        timeout(NEVER, peer.connect()).await.expect("an association").unwrap();
        peer
    }

    /// The number of the next gossip, which comes at once or never.
    pub(crate) async fn gossip(&mut self, what: &str) -> usize {
        let gossip = timeout(NEVER, self.gossip.recv()).await;
        gossip.unwrap_or_else(|_| panic!("no gossip arrives {what}")).unwrap().message.number
    }
}

/// A sink that forgets.
pub(crate) struct Nowhere;

impl RemoteMessageSink for Nowhere {
    fn deliver(&self, _: &Address, _: RemoteTellRef<'_>) {}
}

/// A sink that hears of the tells that [`Delays::of_tells`](crate::delays::Delays::of_tells) sends.
pub(crate) struct Timed(mpsc::UnboundedSender<usize>);

impl Timed {
    /// The sink, and a receiver of their numbers.
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<usize>) {
        let (sender, numbers) = mpsc::unbounded_channel();
        (Arc::new(Self(sender)), numbers)
    }
}

impl RemoteMessageSink for Timed {
    fn deliver(&self, _: &Address, tell: RemoteTellRef<'_>) {
        if let ("probe", Ok(number)) = (tell.manifest, tell.payload.try_into()) {
            let _ = self.0.send(usize::from_le_bytes(number));
        }
    }
}

/// A target in each tell lane to the peer: a tell to each of some shows in which lane it goes.
pub(crate) fn targets(peer: &Peer) -> Vec<String> {
    let mut targets: Vec<Option<String>> = vec![None; peer.stats().lanes.len()];
    for n in 0..1000 {
        let path = format!("/user/target-{n}");
        let before = peer.stats();
        peer.tell(tell(&path, &[])).unwrap();
        let after = peer.stats();
        let lane = (0..targets.len())
            .find(|&lane| {
                let accepted =
                    |stats: &cluster_quic::PeerStats| stats.lanes[lane].1.accepted_frames;
                accepted(&before) < accepted(&after)
            })
            .expect("it went in some lane");
        targets[lane].get_or_insert(path);
        if targets.iter().all(Option::is_some) {
            return targets.into_iter().flatten().collect();
        }
    }
    panic!("a lane gets no target: {targets:?}")
}

pub(crate) fn tell<'a>(target_path: &'a str, payload: &'a [u8]) -> RemoteTellRef<'a> {
    RemoteTellRef { target_path, manifest: "", payload, sender_path: None }
}

/// Tells each target as much as its lane takes.
pub(crate) fn fill(peer: &Peer, targets: &[String], size: usize) {
    let payload = vec![0x5a; size];
    for target in targets {
        while peer.tell(tell(target, &payload)).is_ok() {}
    }
}

/// Keeps the targets' lanes full until it is dropped.
pub(crate) fn keep_full(peer: &Peer, targets: &[String], size: usize) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for target in targets {
        let (peer, target, payload) = (peer.clone(), target.clone(), vec![0x5a; size]);
        tasks.spawn(
            async move { while peer.tell_when_ready(tell(&target, &payload)).await.is_ok() {} },
        );
    }
    tasks
}

/// Waits for what no event tells.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let condition = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(NEVER, condition).await.unwrap_or_else(|_| panic!("never: {what}"));
}
