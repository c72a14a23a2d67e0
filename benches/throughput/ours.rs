//! This crate's transport, over QUIC and in process.

use std::sync::Arc;

use cluster_quic::{
    Address, ClusterTransport, Config, ConfigError, DevCa, InProcessNetwork, Peer,
    RemoteMessageSink, RemoteTellRef, SendError, gossip_inbox,
};

use crate::Error;
use crate::counter::{Counter, Load, target_path};
use crate::measure::{Sending, Subject};

pub(crate) struct Ours {
    peer: Peer,
    counter: Arc<Counter>,
    /// Kept alive.
    _nodes: [ClusterTransport; 2],
}

struct CountingSink(Arc<Counter>);

impl RemoteMessageSink for CountingSink {
    fn deliver(&self, _: &Address, tell: RemoteTellRef<'_>) {
        self.0.record(tell.target_path, tell.payload);
    }
}

/// The defaults.
pub(crate) fn config() -> Result<Config, ConfigError> {
    Config::builder("bench").build()
}

/// Two nodes over QUIC on 127.0.0.1.
pub(crate) async fn quic(ca: &DevCa, config: Config) -> Result<Ours, Error> {
    let identity = ca.identity(&["127.0.0.1"])?;
    let bind = || ClusterTransport::bind(config.clone(), &identity);
    Ours::between(bind()?, bind()?)
}

/// Two nodes on an in-process network.
pub(crate) fn in_process(config: Config) -> Result<Ours, Error> {
    let network = InProcessNetwork::new();
    let node = |host| ClusterTransport::in_process(config.clone(), &network, host);
    Ours::between(node("a")?, node("b")?)
}

impl Ours {
    fn between(from: ClusterTransport, to: ClusterTransport) -> Result<Self, Error> {
        let counter = Arc::new(Counter::new());
        for node in [&from, &to] {
            let (inbox, _) = gossip_inbox::<()>(1);
            node.start(inbox, Arc::new(CountingSink(Arc::clone(&counter))))?;
        }
        Ok(Self { peer: from.peer(to.address())?, counter, _nodes: [from, to] })
    }

    async fn send_all(&self, load: Load) -> Result<(), Error> {
        let paths: Vec<_> = (0..load.targets).map(target_path).collect();
        let mut payload = vec![0x5a; load.payload];
        let (mut sequence, mut sent) = (0_u64, 0);
        while sent < load.tells {
            payload[..8].copy_from_slice(&sequence.to_le_bytes());
            for target_path in paths.iter().take((load.tells - sent).min(64) as usize) {
                let tell = RemoteTellRef {
                    target_path,
                    manifest: "bench",
                    payload: &payload,
                    sender_path: None,
                };
                match self.peer.tell(tell) {
                    Err(SendError::Full(tell)) => self.tell_when_ready(tell).await?,
                    result => result.map_err(|e| e.to_string())?,
                }
                sent += 1;
            }
            sequence += 1;
        }
        Ok(())
    }

    async fn tell_when_ready(&self, tell: RemoteTellRef<'_>) -> Result<(), Error> {
        self.peer.tell_when_ready(tell).await.map_err(|e| e.to_string().into())
    }
}

impl Subject for Ours {
    fn send(self: Arc<Self>, load: Load) -> Sending {
        Box::pin(async move { self.send_all(load).await })
    }

    fn counter(&self) -> &Counter {
        &self.counter
    }
}
