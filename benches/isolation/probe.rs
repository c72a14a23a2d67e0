//! Gossip that carries the time at which it was sent, and what became of it.

use std::time::Duration;

use cluster_quic::Gossip;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// A piece of gossip; both nodes live in one process, so its time is the receiver's too.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// Nanoseconds from the beginning.
    pub(crate) sent: u64,
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
        let took = epoch.elapsed().saturating_sub(Duration::from_nanos(sent));
        Delay { sent, took: took.as_secs_f64() }
    }
}

/// One probe's way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delay {
    /// When it was sent, from the beginning, in nanoseconds.
    pub(crate) sent: u64,
    /// In seconds.
    pub(crate) took: f64,
}

/// Gossips for ever.
pub(crate) async fn gossip(send: impl Fn(&Probe), every: Duration, epoch: Instant) {
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        send(&Probe::now(epoch));
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
