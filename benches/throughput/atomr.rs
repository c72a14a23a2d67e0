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

/// Sends all of `load`, a window ahead of what has arrived. `send` gets the target's number too.
async fn paced(counter: &Counter, load: Load, send: impl Fn(usize, String, Vec<u8>)) {
    let paths: Vec<_> = (0..load.targets).map(target_path).collect();
    for sent in 0..load.tells {
        counter.keep_window(sent, window(load.payload), load.targets).await;
        let (sequence, target) = (sent / paths.len() as u64, sent as usize % paths.len());
        send(target, paths[target].clone(), payload(sequence, load.payload));
    }
}

fn sink(counter: &Arc<Counter>) -> Arc<dyn RemoteMessageSink> {
    Arc::new(CountingSink(Arc::clone(counter)))
}

/// One node that sends, and those that it sends to: target `i` is at node `i % nodes`.
pub(crate) struct Tcp {
    from: TcpClusterTransport,
    to: Vec<Address>,
    counter: Arc<Counter>,
    _to: Vec<(TcpClusterTransport, mpsc::UnboundedReceiver<GossipPdu>)>,
}

/// A node that does not listen yet.
pub(crate) fn tcp_node() -> Result<TcpClusterTransport, Error> {
    let bind = "127.0.0.1:0".parse()?;
    Ok(TcpClusterTransport::new(Address::remote("akka.tcp", "bench", "127.0.0.1", 0), bind))
}

impl Tcp {
    pub(crate) async fn new(peers: usize) -> Result<Self, Error> {
        let counter = Arc::new(Counter::new());
        let from = tcp_node()?;
        let (mut to, mut nodes) = (Vec::new(), Vec::new());
        for _ in 0..peers {
            let node = tcp_node()?;
            to.push(node.listen().await?);
            let (gossip, received) = mpsc::unbounded_channel();
            node.start(gossip, sink(&counter));
            nodes.push((node, received));
        }
        let tcp = Self { from, to, counter, _to: nodes };
        // One to each: tells that are sent before there is a connection open one each, and get lost.
        let load = Load { tells: peers as u64, targets: peers, ..Load::simple(1, 64) };
        let begun = tcp.counter.begin(load);
        for n in 0..peers {
            tcp.tell(n, target_path(n), payload(0, load.payload));
        }
        match tcp.counter.end(load, begun).await.lost {
            0 => Ok(tcp),
            lost => Err(format!("TCP: {lost} of {peers} first tells did not come").into()),
        }
    }

    fn tell(&self, target: usize, path: String, payload: Vec<u8>) {
        let to = &self.to[target % self.to.len()];
        self.from.send_remote(to, path, "bench".into(), payload, None);
    }
}

impl Subject for Tcp {
    fn send(self: Arc<Self>, load: Load) -> Sending {
        Box::pin(async move {
            paced(&self.counter, load, |target, path, payload| self.tell(target, path, payload))
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
            paced(&self.counter, load, |_, path, payload| {
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
