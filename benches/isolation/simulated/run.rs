//! Two nodes over a network in memory, in simulated time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cluster_quic::{
    Address, ClusterTransport, Config, Congestion, CustomSocket, DevCa, Identity, Peer,
    RemoteMessageSink, RemoteTellRef, gossip_inbox,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::links::Link;
use crate::Error;
use crate::network::{Network, Pipe, PipeId};
use crate::probe::{self, Delay, Probe};

/// How often gossip is sent.
pub(super) const GOSSIP: Duration = Duration::from_millis(20);

const TELL: usize = 16 * 1024;

/// What fills the link, and how gossip shares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    LowDelay,
    Cubic,
    /// Everything on one ordered stream, as on the baseline's TCP connection: the probes are tells
    /// behind the others.
    OneStream,
    GossipAlone,
}

impl Subject {
    pub(crate) const ALL: [Self; 4] =
        [Self::LowDelay, Self::Cubic, Self::OneStream, Self::GossipAlone];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LowDelay => "low-delay",
            Self::Cubic => "cubic",
            Self::OneStream => "one-stream",
            Self::GossipAlone => "gossip-alone",
        }
    }

    fn congestion(self) -> Congestion {
        match self {
            Self::LowDelay | Self::GossipAlone => Congestion::LowDelay,
            Self::Cubic | Self::OneStream => Congestion::Cubic,
        }
    }
}

pub(crate) struct Outcome {
    pub(crate) delays: Vec<Delay>,
    /// Bytes of tells that arrived, over those that the link could have carried.
    pub(crate) share: f64,
}

/// Counts what arrives.
pub(super) struct Sink {
    pub(super) bytes: AtomicU64,
    pub(super) epoch: Instant,
    pub(super) delays: mpsc::UnboundedSender<Delay>,
}

impl RemoteMessageSink for Sink {
    fn deliver(&self, _: &Address, tell: RemoteTellRef<'_>) {
        self.bytes.fetch_add(tell.payload.len() as u64, Ordering::Relaxed);
        if let ("probe", Ok(sent)) = (tell.manifest, tell.payload.try_into()) {
            let _ = self.delays.send(Probe::delay(u64::from_le_bytes(sent), self.epoch));
        }
    }
}

pub(super) struct World {
    pub(super) network: Network,
    pub(super) identity: Identity,
    pub(super) epoch: Instant,
}

impl World {
    pub(super) fn node(
        &self,
        number: u8,
        congestion: Congestion,
        lanes: u8,
    ) -> Result<ClusterTransport, Error> {
        let config = Config::builder("bench")
            .congestion(congestion)
            .tell_lanes(lanes)
            // One lane is to fill the longest link.
            .stream_window(4 << 20)
            .lane_budget(8 << 20)
            .incarnation(u64::from(number))
            .advertise_host("127.0.0.1")
            .build()?;
        let socket = self.network.socket(address(number));
        let socket = CustomSocket { socket, seed: Some([number; 32]) };
        Ok(ClusterTransport::bind_socket(config, &self.identity, socket)?)
    }
}

pub(super) fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1000 + u16::from(number)))
}

/// Runs in simulated time.
pub(super) fn simulate<T>(run: impl AsyncFnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build()?;
    let result = runtime.block_on(run());
    runtime.shutdown_background();
    result
}

pub(super) fn pipes(network: &Network, link: &Link) -> [PipeId; 2] {
    let pipe = Pipe {
        rate: Some(link.bytes_per_second),
        delay: link.rtt / 2,
        queue: link.buffer,
        loss: link.loss,
        ..Pipe::default()
    };
    [network.pipe(pipe.clone()), network.pipe(pipe)]
}

/// A sending node, its peer, and what is counted at the peer.
struct Pair {
    _nodes: [ClusterTransport; 2],
    peer: Peer,
    sink: Arc<Sink>,
    delays: mpsc::UnboundedReceiver<Delay>,
}

impl Pair {
    async fn new(
        world: &World,
        numbers: [u8; 2],
        congestion: Congestion,
        lanes: u8,
    ) -> Result<Self, Error> {
        let [a, b] = [
            world.node(numbers[0], congestion, lanes)?,
            world.node(numbers[1], congestion, lanes)?,
        ];
        let (heard, delays) = mpsc::unbounded_channel();
        let sink =
            Arc::new(Sink { bytes: AtomicU64::new(0), epoch: world.epoch, delays: heard.clone() });
        let (inbox, gossip) = gossip_inbox::<Probe>(1024);
        b.start(inbox, Arc::clone(&sink) as Arc<dyn RemoteMessageSink>)?;
        tokio::spawn(probe::receive(gossip, world.epoch, heard.clone()));
        let nothing =
            Arc::new(Sink { bytes: AtomicU64::new(0), epoch: world.epoch, delays: heard });
        a.start(gossip_inbox::<Probe>(1).0, nothing as Arc<dyn RemoteMessageSink>)?;
        let peer = a.peer(b.address())?;
        timeout(Duration::from_secs(30), peer.connect()).await??;
        Ok(Self { _nodes: [a, b], peer, sink, delays })
    }

    fn received(&self) -> u64 {
        self.sink.bytes.load(Ordering::Relaxed)
    }
}

/// Tells as many as the lanes take.
pub(super) async fn saturate(peer: Peer) {
    let paths: Vec<_> = (0..16).map(|n| format!("/user/target-{n}")).collect();
    let payload = vec![0x5a; TELL];
    for target_path in paths.iter().cycle() {
        let tell =
            RemoteTellRef { target_path, manifest: "load", payload: &payload, sender_path: None };
        if peer.tell_when_ready(tell).await.is_err() {
            return;
        }
    }
}

/// The same on one lane, with the probes in line: a tell each, behind whatever waits.
async fn saturate_with_probes(peer: Peer, epoch: Instant) {
    let payload = vec![0x5a; TELL];
    let mut due = Instant::now();
    loop {
        let probe = Instant::now() >= due;
        let sent = (due - epoch).as_nanos() as u64;
        let tell = RemoteTellRef {
            target_path: "/user/target-0",
            manifest: if probe { "probe" } else { "load" },
            payload: if probe { &sent.to_le_bytes() } else { &payload },
            sender_path: None,
        };
        if peer.tell_when_ready(tell).await.is_err() {
            return;
        }
        if probe {
            due += GOSSIP;
        }
    }
}

/// Gossip beside (or behind) tells that saturate the link, for the link's time.
pub(crate) fn one(
    ca: &DevCa,
    link: &Link,
    subject: Subject,
    time: Duration,
) -> Result<Outcome, Error> {
    simulate(async || {
        let network = Network::new(link.seed, Pipe::default());
        let [there, back] = pipes(&network, link);
        network.route(address(1), address(2), there);
        network.route(address(2), address(1), back);
        let epoch = Instant::now();
        let world =
            World { network: network.clone(), identity: ca.identity(&["127.0.0.1"])?, epoch };
        let one_stream = subject == Subject::OneStream;
        let lanes = if one_stream { 1 } else { 4 };
        let mut pair = Pair::new(&world, [1, 2], subject.congestion(), lanes).await?;
        let mut tasks = tokio::task::JoinSet::new();
        match subject {
            Subject::OneStream => drop(tasks.spawn(saturate_with_probes(pair.peer.clone(), epoch))),
            Subject::GossipAlone => {}
            _ => drop(tasks.spawn(saturate(pair.peer.clone()))),
        }
        if !one_stream {
            let peer = pair.peer.clone();
            let send = move |probe: &Probe| drop(peer.send_gossip(probe));
            tasks.spawn(probe::gossip(send, GOSSIP, epoch));
        }
        let before = pair.received();
        let mut capacity = 0.0;
        for (part, factor) in link.phases(time) {
            let rate = link.bytes_per_second * factor;
            network.change(there, |pipe| pipe.rate = Some(rate));
            sleep(part).await;
            capacity += rate * part.as_secs_f64();
        }
        let share = (pair.received() - before) as f64 / capacity;
        let mut delays = Vec::new();
        while let Ok(delay) = pair.delays.try_recv() {
            delays.push(delay);
        }
        if delays.is_empty() {
            return Err(format!("no gossip arrived over {}", link.name).into());
        }
        Ok(Outcome { delays, share })
    })
}

/// Two flows through one link, the second three seconds after the first; each one's part of the
/// link in the last two thirds of the time.
pub(crate) fn two(
    ca: &DevCa,
    link: &Link,
    second: Congestion,
    time: Duration,
) -> Result<[f64; 2], Error> {
    simulate(async || {
        let network = Network::new(link.seed, Pipe::default());
        let [there, back] = pipes(&network, link);
        for (from, to) in [(1, 2), (3, 4)] {
            network.route(address(from), address(to), there);
            network.route(address(to), address(from), back);
        }
        let world = World {
            network: network.clone(),
            identity: ca.identity(&["127.0.0.1"])?,
            epoch: Instant::now(),
        };
        let a = Pair::new(&world, [1, 2], Congestion::LowDelay, 4).await?;
        let b = Pair::new(&world, [3, 4], second, 4).await?;
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(saturate(a.peer.clone()));
        sleep(Duration::from_secs(3)).await;
        tasks.spawn(saturate(b.peer.clone()));
        sleep(time / 3).await;
        let before = [a.received(), b.received()];
        let begin = Instant::now();
        sleep(time * 2 / 3).await;
        let capacity = link.bytes_per_second * begin.elapsed().as_secs_f64();
        let part = |pair: &Pair, before| (pair.received() - before) as f64 / capacity;
        Ok([part(&a, before[0]), part(&b, before[1])])
    })
}
