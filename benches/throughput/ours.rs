//! This crate's transport, over QUIC and in process.

use std::sync::Arc;

use cluster_quic::{
    Address, ClusterTransport, Config, ConfigError, DevCa, Identity, InProcessNetwork, Peer,
    RemoteMessageSink, RemoteTellRef, gossip_inbox,
};
use tokio::task::JoinSet;

use crate::Error;
use crate::counter::{Counter, Load, target_path};
use crate::measure::{SET_UP, Sending, Subject, within};

/// One node that sends, and those that it sends to: target `i` is at node `i % nodes`.
pub(crate) struct Ours {
    peers: Vec<Peer>,
    counter: Arc<Counter>,
    /// Kept alive.
    _nodes: Vec<ClusterTransport>,
}

struct CountingSink {
    counter: Arc<Counter>,
    may_block: bool,
}

impl RemoteMessageSink for CountingSink {
    fn deliver(&self, _: &Address, tell: RemoteTellRef<'_>) {
        self.counter.record(tell.target_path, tell.payload);
    }

    fn may_block(&self) -> bool {
        self.may_block
    }
}

/// The defaults.
pub(crate) fn config() -> Result<Config, ConfigError> {
    Config::builder("bench").build()
}

/// Where all nodes of the benchmark are.
pub(crate) fn identity(ca: &DevCa) -> Result<Identity, Error> {
    Ok(ca.identity(&["127.0.0.1"])?)
}

/// Two nodes over QUIC on 127.0.0.1.
pub(crate) async fn quic(ca: &DevCa, config: Config) -> Result<Ours, Error> {
    quic_peers(ca, config, 1).await
}

/// The same, with a sink that says it does not block.
pub(crate) async fn quic_prompt(ca: &DevCa, config: Config) -> Result<Ours, Error> {
    let identity = identity(ca)?;
    let node = || ClusterTransport::bind(config.clone(), &identity);
    Ours::between(vec![node()?, node()?], false).await
}

/// One node and `peers` others.
pub(crate) async fn quic_peers(ca: &DevCa, config: Config, peers: usize) -> Result<Ours, Error> {
    let identity = identity(ca)?;
    let node = |_| ClusterTransport::bind(config.clone(), &identity);
    Ours::between((0..=peers).map(node).collect::<Result<_, _>>()?, true).await
}

/// Two nodes on an in-process network.
pub(crate) async fn in_process(config: Config) -> Result<Ours, Error> {
    let network = InProcessNetwork::new();
    let node = |host| ClusterTransport::in_process(config.clone(), &network, host);
    Ours::between(vec![node("a")?, node("b")?], true).await
}

impl Ours {
    /// The first one sends to the others.
    async fn between(nodes: Vec<ClusterTransport>, may_block: bool) -> Result<Self, Error> {
        let counter = Arc::new(Counter::new());
        for node in &nodes {
            let (inbox, _) = gossip_inbox::<()>(1);
            let counter = Arc::clone(&counter);
            node.start(inbox, Arc::new(CountingSink { counter, may_block }))?;
        }
        let mut peers = Vec::new();
        for node in &nodes[1..] {
            let peer = nodes[0].peer(node.address())?;
            within(SET_UP, "an association", peer.connect()).await??;
            peers.push(peer);
        }
        Ok(Self { peers, counter, _nodes: nodes })
    }

    /// What sender `sender` of `load` has to send.
    async fn send_share(&self, load: Load, sender: usize) -> Result<(), Error> {
        let targets = (sender..load.targets).step_by(load.senders);
        let targets: Vec<_> = targets
            .map(|n| (n as u64, target_path(n), &self.peers[n % self.peers.len()]))
            .collect();
        let mut payload = vec![0x5a; load.payload];
        let mut sequence = 0_u64;
        loop {
            let before = sequence * load.targets as u64;
            payload[..8].copy_from_slice(&sequence.to_le_bytes());
            for (number, target_path, peer) in &targets {
                if before + number >= load.tells {
                    return Ok(());
                }
                let tell = RemoteTellRef {
                    target_path,
                    manifest: "bench",
                    payload: &payload,
                    sender_path: None,
                };
                peer.tell_when_ready(tell).await.map_err(|e| e.to_string())?;
            }
            sequence += 1;
        }
    }
}

impl Subject for Ours {
    fn send(self: Arc<Self>, load: Load) -> Sending {
        if load.senders == 1 {
            return Box::pin(async move { self.send_share(load, 0).await });
        }
        let mut tasks = JoinSet::new();
        for sender in 0..load.senders {
            let ours = Arc::clone(&self);
            tasks.spawn(async move { ours.send_share(load, sender).await });
        }
        Box::pin(async move {
            // Dropped, it aborts them.
            while let Some(sent) = tasks.join_next().await {
                sent??;
            }
            Ok(())
        })
    }

    fn counter(&self) -> &Counter {
        &self.counter
    }
}
