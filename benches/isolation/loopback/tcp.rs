//! atomr-cluster's TCP transport.
//!
//! It takes everything at once into queues without bounds, so what saturates it keeps as many tells ahead
//! of the sink as our lanes hold by default: 128 MiB of payload, but at most 131 072 tells.

use std::sync::Arc;
use std::time::Duration;

use atomr_cluster::{GossipPdu, GossipTransport, TcpClusterTransport, VectorClock};
use atomr_core::actor::Address;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

use super::pair::Setting;
use super::sink::{Sink, TARGETS, target_path};
use crate::Error;
use crate::probe::{Delay, Probe};

const AHEAD_BYTES: usize = 128 * 1024 * 1024;
const AHEAD: usize = 131_072;

/// How often a full window is looked at again: short beside the time that it takes to drain.
const LOOK: Duration = Duration::from_millis(1);

pub(super) struct Tcp {
    from: TcpClusterTransport,
    to: Address,
    /// It spawns where it is called.
    runtime: Handle,
    _to: TcpClusterTransport,
}

impl Tcp {
    pub(super) async fn connect(setting: Setting<'_>) -> Result<Self, Error> {
        let Setting { places, sink, epoch, heard, .. } = setting;
        let node = || {
            let bind = "127.0.0.1:0".parse()?;
            let address = Address::remote("akka.tcp", "bench", "127.0.0.1", 0);
            Ok::<_, Error>(TcpClusterTransport::new(address, bind))
        };
        let (from, to) = (node()?, node()?);
        let (inbox, gossip) = mpsc::unbounded_channel();
        let listening = places.to.spawn(async move {
            let address = to.listen().await?;
            to.start(inbox, sink);
            Ok::<_, std::io::Error>((to, address))
        });
        let (receiver, to) = listening.await??;
        places.daemons[1].spawn(receive(gossip, epoch, heard.clone()));
        Ok(Self { from, to, runtime: places.from.clone(), _to: receiver })
    }

    pub(super) fn gossip(&self, probe: &Probe) {
        let _entered = self.runtime.enter();
        let from = format!("{} {:0200}", probe.sent, 0);
        self.from.send(&self.to, GossipPdu::Status { from, version: VectorClock::new() });
    }

    pub(super) fn tell(&self, path: String, payload: Vec<u8>) {
        let _entered = self.runtime.enter();
        self.from.send_remote(&self.to, path, "bench".into(), payload, None);
    }

    pub(super) async fn saturate(&self, sink: &Arc<Sink>, payload: usize, full: &Notify) {
        let ahead = (AHEAD_BYTES / payload).clamp(1, AHEAD) as u64;
        for sent in 0.. {
            while sent >= sink.received() + ahead {
                full.notify_one();
                sleep(LOOK).await;
            }
            self.tell(target_path(sent as usize % TARGETS), vec![0x5a; payload]);
        }
    }
}

async fn receive(
    mut gossip: mpsc::UnboundedReceiver<GossipPdu>,
    epoch: Instant,
    heard: mpsc::UnboundedSender<Delay>,
) {
    while let Some(pdu) = gossip.recv().await {
        let GossipPdu::Status { from, .. } = pdu else { continue };
        let sent = from.split_once(' ').and_then(|(sent, _)| sent.parse().ok());
        if let Some(sent) = sent {
            let _ = heard.send(Probe::delay(sent, epoch));
        }
    }
}
