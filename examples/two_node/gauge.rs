//! How long gossip takes on its way.
//!
//! The sending node puts a probe into the gossip lane every 10 ms, with the time of day in it; the
//! receiving node compares that with its own clock on arrival, and sends what it found back as
//! gossip, for the display. So the delay is one way, and right only where both nodes share a clock:
//! on one machine. The daemons' own gossip shares the lane all the while.

use std::time::{Duration, SystemTime};

use atomr_cluster::{GossipPdu, VectorClock};
use cluster_quic::{Address, Peer, SendError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often a probe is sent.
const EVERY: Duration = Duration::from_millis(10);

/// What is going on while gossip is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No tells yet.
    Idle,
    /// Tells wait in the lanes.
    Backlog,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Backlog => "backlog",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Idle, Self::Backlog].into_iter().find(|phase| phase.name() == name)
    }
}

/// Gossip that came in.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A probe, and how long it took.
    Probe { phase: Phase, delay: Duration, from: Address },
    /// What the other node found.
    Echo { phase: Phase, delay: Duration },
    /// The other node's daemon; forwarded to ours.
    Daemon,
}

/// An inbox in front of `daemon`'s that reports what it hears, and keeps the gauge's own messages.
pub(crate) fn tap(
    daemon: UnboundedSender<GossipPdu>,
) -> (UnboundedSender<GossipPdu>, UnboundedReceiver<Heard>) {
    let (inbox, mut received) = unbounded_channel();
    let (report, heard) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(pdu) = received.recv().await {
            let what = read(&pdu).unwrap_or(Heard::Daemon);
            if matches!(what, Heard::Daemon) && daemon.send(pdu).is_err() {
                return;
            }
            let _ = report.send(what);
        }
    });
    (inbox, heard)
}

fn read(pdu: &GossipPdu) -> Option<Heard> {
    let GossipPdu::Status { from, .. } = pdu else { return None };
    let mut parts = from.splitn(4, ' ');
    let kind = parts.next()?;
    let phase = Phase::parse(parts.next()?)?;
    let nanos = Duration::from_nanos(parts.next()?.parse().ok()?);
    match kind {
        "probe" => {
            let delay = since_epoch().saturating_sub(nanos);
            Some(Heard::Probe { phase, delay, from: parts.next()?.parse().ok()? })
        }
        "echo" => Some(Heard::Echo { phase, delay: nanos }),
        _ => None,
    }
}

fn since_epoch() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

fn send(peer: &Peer, text: String) -> Result<(), SendError<()>> {
    peer.send_gossip(&GossipPdu::Status { from: text, version: VectorClock::new() })
}

/// Sends back what a probe showed.
pub(crate) fn echo(peer: &Peer, phase: Phase, delay: Duration) {
    // It fails only while the node shuts down.
    let _ = send(peer, format!("echo {} {}", phase.name(), delay.as_nanos()));
}

/// Sends probes to `peer` until the phase is `None`; returns how many were sent idle, and under the
/// backlog.
pub(crate) async fn probe(
    peer: Peer,
    own: Address,
    mut phases: watch::Receiver<Option<Phase>>,
) -> [u64; 2] {
    let mut sent = [0; 2];
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let Some(phase) = *phases.borrow_and_update() else { return sent };
        let text = format!("probe {} {} {own}", phase.name(), since_epoch().as_nanos());
        if send(&peer, text).is_err() {
            return sent;
        }
        sent[phase as usize] += 1;
    }
}

/// What was heard so far.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    delays: [Vec<Duration>; 2],
    last: Option<(Instant, Duration)>,
    longest_gap: Duration,
    /// Messages of the daemons.
    pub(crate) of_daemons: u64,
}

/// Extremes and percentiles.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) received: u64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

impl Gauge {
    pub(crate) fn add(&mut self, phase: Phase, delay: Duration) {
        self.longest_gap = self.longest_gap();
        self.last = Some((Instant::now(), delay));
        self.delays[phase as usize].push(delay);
    }

    /// How many probes there were.
    pub(crate) fn received(&self) -> u64 {
        self.delays.iter().map(|delays| delays.len() as u64).sum()
    }

    /// The last delay, and how long ago it was heard of.
    pub(crate) fn latest(&self) -> Option<(Duration, Duration)> {
        self.last.map(|(at, delay)| (delay, at.elapsed()))
    }

    /// The longest time without a probe, from the first one until now.
    pub(crate) fn longest_gap(&self) -> Duration {
        self.last.map_or(Duration::ZERO, |(at, _)| self.longest_gap.max(at.elapsed()))
    }

    pub(crate) fn figures(&self, phase: Phase) -> Figures {
        let mut sorted = self.delays[phase as usize].clone();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100);
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Figures { received: sorted.len() as u64, p50: at(50), p99: at(99), max: at(100) }
    }
}
