//! Nodes on a simulated network, each with an identity of its own, and one wall clock for all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use cluster_quic::{
    Address, ClusterTransport, Config, ConfigBuilder, CustomSocket, DevCa, DevCertOptions, Event,
    Events, Gossip, Identity, Peer, RemoteMessageSink, RemoteTellRef, Runtime, gossip_inbox,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::network::{Network, Pipe, PipeId};

pub(crate) const HOST: &str = "127.0.0.1";

/// In simulated time: a test that waits so long for something has failed.
pub(crate) const NEVER: Duration = Duration::from_secs(120);

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// A certificate of `ca` that lives for `life` from now, and trust in all of `trusted`.
pub(crate) fn identity_for(ca: &DevCa, trusted: &[&DevCa], life: Duration) -> Identity {
    let now = SystemTime::now();
    let options =
        DevCertOptions { not_before: now, not_after: now + life, ..DevCertOptions::default() };
    let issued = ca.issue_with(&[HOST], &options).unwrap();
    let bundle: String = trusted.iter().map(|ca| ca.certificate()).collect();
    Identity::from_pem(issued.chain.as_bytes(), issued.key.as_bytes(), bundle.as_bytes()).unwrap()
}

pub(crate) fn identity(ca: &DevCa, trusted: &[&DevCa]) -> Identity {
    identity_for(ca, trusted, 30 * DAY)
}

/// Takes tells that each sender numbers from 0, and nothing else.
#[derive(Default)]
pub(crate) struct InOrder {
    next: Mutex<HashMap<Address, u64>>,
    wrong: AtomicU64,
}

impl InOrder {
    /// Tells received from a node, and how many of all were not the next of their sender.
    pub(crate) fn received(&self, from: &Address) -> (u64, u64) {
        let next = self.next.lock().unwrap().get(from).copied().unwrap_or(0);
        (next, self.wrong.load(Ordering::Relaxed))
    }
}

impl RemoteMessageSink for InOrder {
    fn deliver(&self, from: &Address, tell: RemoteTellRef<'_>) {
        let number = u64::from_le_bytes(tell.payload[..8].try_into().unwrap());
        let mut next = self.next.lock().unwrap();
        let expected = next.entry(from.clone()).or_default();
        self.wrong.fetch_add(u64::from(number != *expected), Ordering::Relaxed);
        *expected += 1;
    }
}

pub(crate) struct World {
    network: Network,
    nodes: AtomicU64,
    /// Seconds by which the wall clock is ahead of the machine's.
    ahead: Arc<AtomicU64>,
    pipe: Pipe,
}

pub(crate) struct Node {
    pub(crate) transport: ClusterTransport,
    pub(crate) sink: Arc<InOrder>,
    pub(crate) events: Events,
    pub(crate) gossip: mpsc::Receiver<Gossip<u64>>,
}

impl World {
    pub(crate) fn new(pipe: Pipe) -> Self {
        let network = Network::new(1, pipe.clone());
        Self { network, nodes: AtomicU64::new(0), ahead: Arc::default(), pipe }
    }

    pub(crate) fn now(&self) -> SystemTime {
        SystemTime::now() + Duration::from_secs(self.ahead.load(Ordering::Relaxed))
    }

    /// Turns the wall clock, and nothing else.
    pub(crate) fn turn_clock(&self, by: Duration) {
        self.ahead.fetch_add(by.as_secs(), Ordering::Relaxed);
    }

    pub(crate) fn node(
        &self,
        identity: &Identity,
        adapt: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
    ) -> Node {
        let number = self.nodes.fetch_add(1, Ordering::Relaxed) + 1;
        let ahead = Arc::clone(&self.ahead);
        let config = Config::builder("rotation")
            .incarnation(number)
            .runtime(Runtime::Simulated)
            .idle_release(None)
            .wall_clock(move || {
                SystemTime::now() + Duration::from_secs(ahead.load(Ordering::Relaxed))
            });
        let socket = self.network.socket(([127, 0, 0, 1], 1000 + number as u16).into());
        let socket = CustomSocket { socket, seed: Some([number as u8; 32]) };
        let config = adapt(config).build().unwrap();
        let transport = ClusterTransport::bind_socket(config, identity, socket).unwrap();
        let (inbox, gossip) = gossip_inbox(4096);
        let (sink, events) = (Arc::new(InOrder::default()), transport.events());
        transport.start(inbox, Arc::clone(&sink)).unwrap();
        Node { transport, sink, events, gossip }
    }

    /// Pipes of their own between two nodes, there and back.
    pub(crate) fn join(&self, a: &Node, b: &Node) -> [PipeId; 2] {
        let at = |node: &Node| ([127, 0, 0, 1], node.transport.address().port()).into();
        [(a, b), (b, a)].map(|(from, to)| {
            let pipe = self.network.pipe(self.pipe.clone());
            self.network.route(at(from), at(to), pipe);
            pipe
        })
    }

    pub(crate) fn cut(&self, pipes: [PipeId; 2]) {
        for pipe in pipes {
            self.network.change(pipe, |pipe| pipe.cut = true);
        }
    }
}

impl Node {
    pub(crate) fn address(&self) -> &Address {
        self.transport.address()
    }

    pub(crate) fn peer(&self, other: &Self) -> Peer {
        self.transport.peer(other.address()).unwrap()
    }

    pub(crate) async fn connect(&self, other: &Self) -> Peer {
        let peer = self.peer(other);
        timeout(NEVER, peer.connect()).await.expect("a connection").unwrap();
        peer
    }

    /// The next event that `pick` wants; others are passed over.
    pub(crate) async fn event<T>(&mut self, pick: impl Fn(&Event) -> Option<T>) -> T {
        let wanted = async {
            loop {
                let event = self.events.recv().await.expect("the node lives");
                if let Some(picked) = pick(&event) {
                    return picked;
                }
            }
        };
        timeout(NEVER, wanted).await.expect("an event that never came")
    }

    /// The events that have come so far.
    pub(crate) async fn events_so_far(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Ok(Some(event)) = timeout(Duration::ZERO, self.events.recv()).await {
            events.push(event);
        }
        events
    }
}

/// Waits for a condition, in simulated time; returns how long it took.
pub(crate) async fn until(what: &str, done: impl Fn() -> bool) -> Duration {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < NEVER, "{what}");
        sleep(Duration::from_millis(1)).await;
    }
    begin.elapsed()
}
