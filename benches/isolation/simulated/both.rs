//! Tells and gossip in both directions of a link at once, as nodes of a cluster tell each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cluster_quic::{ClusterTransport, Congestion, DevCa, Peer, RemoteMessageSink, gossip_inbox};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::links::Link;
use super::run::{GOSSIP, Outcome, Sink, World, address, pipes, saturate, simulate};
use crate::Error;
use crate::network::{Network, Pipe};
use crate::probe::{self, Probe};

/// How long after the first direction the second one's tells begin.
const AFTER: Duration = Duration::from_secs(3);

/// One of the two nodes: tells, and is told.
struct End {
    node: ClusterTransport,
    sink: Arc<Sink>,
    delays: mpsc::UnboundedReceiver<probe::Delay>,
}

impl End {
    fn new(world: &World, number: u8) -> Result<Self, Error> {
        let node = world.node(number, Congestion::LowDelay, 4)?;
        let (heard, delays) = mpsc::unbounded_channel();
        let sink =
            Arc::new(Sink { bytes: AtomicU64::new(0), epoch: world.epoch, delays: heard.clone() });
        let (inbox, gossip) = gossip_inbox::<Probe>(1024);
        node.start(inbox, Arc::clone(&sink) as Arc<dyn RemoteMessageSink>)?;
        tokio::spawn(probe::receive(gossip, world.epoch, heard));
        Ok(Self { node, sink, delays })
    }

    async fn peer(&self, other: &Self) -> Result<Peer, Error> {
        let peer = self.node.peer(other.node.address())?;
        timeout(Duration::from_secs(30), peer.connect()).await??;
        Ok(peer)
    }

    /// What came of `capacity` bytes that the link could have brought.
    fn outcome(&mut self, before: u64, capacity: f64) -> Outcome {
        let share = (self.sink.bytes.load(Ordering::Relaxed) - before) as f64 / capacity;
        let mut delays = Vec::new();
        while let Ok(delay) = self.delays.try_recv() {
            delays.push(delay);
        }
        Outcome { delays, share }
    }
}

/// Gossip beside tells that saturate both directions, the second [`AFTER`] the first; what each
/// direction saw from then on.
pub(crate) fn both(ca: &DevCa, link: &Link, time: Duration) -> Result<[Outcome; 2], Error> {
    simulate(async || {
        let network = Network::new(link.seed, Pipe::default());
        let [there, back] = pipes(&network, link);
        network.route(address(1), address(2), there);
        network.route(address(2), address(1), back);
        let world = World {
            network: network.clone(),
            identity: ca.identity(&["127.0.0.1"])?,
            epoch: Instant::now(),
        };
        let mut ends = [End::new(&world, 1)?, End::new(&world, 2)?];
        let peers = [ends[0].peer(&ends[1]).await?, ends[1].peer(&ends[0]).await?];
        let mut tasks = JoinSet::new();
        for peer in &peers {
            let peer = peer.clone();
            let send = move |probe: &Probe| drop(peer.send_gossip(probe));
            tasks.spawn(probe::gossip(send, GOSSIP, world.epoch));
        }
        let [first, second] = peers;
        tasks.spawn(saturate(first));
        sleep(AFTER).await;
        tasks.spawn(saturate(second));
        for end in &mut ends {
            while end.delays.try_recv().is_ok() {}
        }
        let before = [0, 1].map(|n| ends[n].sink.bytes.load(Ordering::Relaxed));
        sleep(time).await;
        let capacity = link.bytes_per_second * time.as_secs_f64();
        // The first direction's gossip arrives at the second node.
        let there = ends[1].outcome(before[1], capacity);
        let back = ends[0].outcome(before[0], capacity);
        Ok([there, back])
    })
}
