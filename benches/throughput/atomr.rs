//! atomr-cluster's own transports.
//!
//! Their sender keeps to a window, since nothing else bounds what they queue.

use std::sync::Arc;

use atomr_cluster::{
    GossipPdu, InProcessClusterTransport, InProcessRegistry, RemoteMessageSink, TcpClusterTransport,
};
use atomr_core::actor::Address;
use tokio::sync::mpsc;

use crate::Error;
use crate::counter::{Counter, Load, target_path};
use crate::measure::{Sending, Subject};

struct CountingSink(Arc<Counter>);

impl RemoteMessageSink for CountingSink {
    fn deliver(&self, target_path: &str, _: &str, payload: &[u8], _: Option<&str>) {
        self.0.record(target_path, payload);
    }
}

/// How many tells may be on their way. From 64 to 65536, no window makes the rate of TCP better or
/// worse by more than it varies by itself.
fn window(payload: usize) -> u64 {
    (WINDOW_BYTES / payload as u64).clamp(256, 8192)
}

const WINDOW_BYTES: u64 = 512 * 1024;

fn payload(sequence: u64, len: usize) -> Vec<u8> {
    let mut payload = vec![0x5a; len];
    payload[..8].copy_from_slice(&sequence.to_le_bytes());
    payload
}

/// Sends all of `load`, a window ahead of what has arrived.
async fn paced(counter: &Counter, load: Load, send: impl Fn(String, Vec<u8>)) {
    let path = target_path(0);
    for sequence in 0..load.tells {
        counter.keep_window(sequence, window(load.payload), 1).await;
        send(path.clone(), payload(sequence, load.payload));
    }
}

fn sink(counter: &Arc<Counter>) -> Arc<dyn RemoteMessageSink> {
    Arc::new(CountingSink(Arc::clone(counter)))
}

pub(crate) struct Tcp {
    from: TcpClusterTransport,
    to: Address,
    counter: Arc<Counter>,
    _to: TcpClusterTransport,
    _gossip: mpsc::UnboundedReceiver<GossipPdu>,
}

impl Tcp {
    pub(crate) async fn new() -> Result<Self, Error> {
        let counter = Arc::new(Counter::new());
        let bind = "127.0.0.1:0".parse()?;
        let node = |name: &str| {
            TcpClusterTransport::new(Address::remote("akka.tcp", name, "127.0.0.1", 0), bind)
        };
        let (from, to) = (node("a"), node("b"));
        let address = to.listen().await?;
        let (gossip, received) = mpsc::unbounded_channel();
        to.start(gossip, sink(&counter));
        // One alone: tells that are sent before there is a connection open one each, and get lost.
        let load = Load { tells: 1, payload: 64, targets: 1 };
        let begun = counter.begin(load);
        from.send_remote(&address, target_path(0), "bench".into(), payload(0, load.payload), None);
        counter.end(load, begun).await;
        Ok(Self { from, to: address, counter, _to: to, _gossip: received })
    }
}

impl Subject for Tcp {
    fn send(self: Arc<Self>, load: Load) -> Sending {
        Box::pin(async move {
            paced(&self.counter, load, |path, payload| {
                self.from.send_remote(&self.to, path, "bench".into(), payload, None);
            })
            .await;
            Ok(())
        })
    }

    fn counter(&self) -> &Counter {
        &self.counter
    }
}

pub(crate) struct InProcess {
    from: InProcessClusterTransport,
    to: Address,
    counter: Arc<Counter>,
    _to: InProcessClusterTransport,
    _gossip: mpsc::UnboundedReceiver<GossipPdu>,
}

impl InProcess {
    pub(crate) fn new() -> Self {
        let counter = Arc::new(Counter::new());
        let registry = InProcessRegistry::new();
        let node = |name| InProcessClusterTransport::new(Address::local(name), registry.clone());
        let (from, to) = (node("a"), node("b"));
        let (gossip, received) = mpsc::unbounded_channel();
        to.start(gossip, sink(&counter));
        Self { from, to: to.self_address().clone(), counter, _to: to, _gossip: received }
    }
}

impl Subject for InProcess {
    fn send(self: Arc<Self>, load: Load) -> Sending {
        Box::pin(async move {
            paced(&self.counter, load, |path, payload| {
                self.from.send_remote(&self.to, path, "bench".into(), payload, None);
            })
            .await;
            Ok(())
        })
    }

    fn counter(&self) -> &Counter {
        &self.counter
    }
}
