//! Gossip that carries the time at which it was sent, and what became of it.

use std::time::Duration;

use cluster_quic::{Gossip, Peer};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// A piece of gossip; both nodes live in one process, so its time is the receiver's too.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// Nanoseconds from the beginning.
    sent: u64,
    /// About as much as a small cluster's membership takes.
    state: Vec<u8>,
}

const STATE: usize = 200;

impl Probe {
    pub(crate) fn now(epoch: Instant) -> Self {
        Self { sent: epoch.elapsed().as_nanos() as u64, state: vec![0; STATE] }
    }

    /// How long a probe that was sent then (nanoseconds) took until now.
    pub(crate) fn delay(sent: u64, epoch: Instant) -> Delay {
        let sent = Duration::from_nanos(sent);
        Delay { sent: sent.as_secs_f64(), took: epoch.elapsed().saturating_sub(sent).as_secs_f64() }
    }
}

/// One probe's way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delay {
    /// When it was sent, from the beginning, in seconds.
    pub(crate) sent: f64,
    /// In seconds.
    pub(crate) took: f64,
}

/// Gossips to a peer for ever.
pub(crate) async fn gossip(peer: Peer, every: Duration, epoch: Instant) {
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let _ = peer.send_gossip(&Probe::now(epoch));
    }
}

/// Receives probes until the sender is gone, and passes on how long each took.
pub(crate) async fn receive(
    mut inbox: mpsc::Receiver<Gossip<Probe>>,
    epoch: Instant,
    delays: mpsc::UnboundedSender<Delay>,
) {
    while let Some(gossip) = inbox.recv().await {
        let _ = delays.send(Probe::delay(gossip.message.sent, epoch));
    }
}
