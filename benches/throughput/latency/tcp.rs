//! atomr-cluster's TCP transport.

use std::pin::Pin;
use std::sync::Arc;

use atomr_cluster::{GossipPdu, RemoteMessageSink, TcpClusterTransport};
use atomr_core::actor::Address;
use tokio::sync::mpsc;

use super::{Clock, Pinger};
use crate::Error;
use crate::atomr::tcp_node;

pub(super) struct Tcp {
    here: TcpClusterTransport,
    there: Address,
    clock: Arc<Clock>,
    _there: Arc<TcpClusterTransport>,
    _gossip: [mpsc::UnboundedReceiver<GossipPdu>; 2],
}

/// There: tells back.
struct Echo {
    clock: Arc<Clock>,
    there: Arc<TcpClusterTransport>,
    here: Address,
}

/// Here.
struct Returned(Arc<Clock>);

fn tell(from: &TcpClusterTransport, to: &Address) {
    from.send_remote(to, "/user/echo".into(), "bench".into(), vec![0x5a; 64], None);
}

impl RemoteMessageSink for Echo {
    fn deliver(&self, _: &str, _: &str, _: &[u8], _: Option<&str>) {
        self.clock.arrived();
        tell(&self.there, &self.here);
    }
}

impl RemoteMessageSink for Returned {
    fn deliver(&self, _: &str, _: &str, _: &[u8], _: Option<&str>) {
        self.0.returned();
    }
}

pub(super) async fn connect() -> Result<Tcp, Error> {
    let clock = Clock::new();
    let (node, echoing) = (tcp_node()?, Arc::new(tcp_node()?));
    let (here, there) = (node.listen().await?, echoing.listen().await?);
    let (here_gossip, here_received) = mpsc::unbounded_channel();
    let (there_gossip, there_received) = mpsc::unbounded_channel();
    node.start(here_gossip, Arc::new(Returned(Arc::clone(&clock))));
    let echo = Echo { clock: Arc::clone(&clock), there: Arc::clone(&echoing), here };
    echoing.start(there_gossip, Arc::new(echo));
    let _gossip = [here_received, there_received];
    Ok(Tcp { here: node, there, clock, _there: echoing, _gossip })
}

impl Pinger for Tcp {
    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn send(&self) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + '_>> {
        tell(&self.here, &self.there);
        Box::pin(std::future::ready(Ok(())))
    }
}
