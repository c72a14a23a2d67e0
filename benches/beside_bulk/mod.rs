//! Small tells while another target of the same node gets 16 MiB tells: how long they take, in the bulk's
//! lane and in another. Two benchmarks measure it; each brings its `Error`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cluster_quic::{
    Address, ClusterTransport, Config, DevCa, MAX_FRAME, Peer, RemoteMessageSink, RemoteTellRef,
    gossip_inbox,
};
use tokio::time::{MissedTickBehavior, interval};

use crate::Error;

/// How often a small tell is sent.
const PROBE: Duration = Duration::from_millis(2);

/// Among so many targets some share the bulk's lane, and most do not.
const TARGETS: usize = 64;

/// The one-way delays of the small tells, in seconds, in order of size.
pub(crate) struct Delays {
    /// In another lane than the bulk's; none if there is but one.
    pub(crate) other: Vec<f64>,
    /// In the bulk's lane.
    pub(crate) same: Vec<f64>,
}

fn target_path(target: usize) -> String {
    format!("/user/target-{target:02}")
}

/// Notes how old a small tell is, by the target it is for.
struct DelaySink(Mutex<BTreeMap<String, Vec<f64>>>, Instant);

impl RemoteMessageSink for DelaySink {
    fn deliver(&self, _: &Address, tell: RemoteTellRef<'_>) {
        let (Some(sent), 64) = (tell.payload.first_chunk::<8>(), tell.payload.len()) else {
            return;
        };
        let sent = Duration::from_nanos(u64::from_le_bytes(*sent));
        let delay = self.1.elapsed().saturating_sub(sent).as_secs_f64();
        let mut delays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        delays.entry(tell.target_path.into()).or_default().push(delay);
    }
}

/// Measures for `time`, after a quarter of it.
pub(crate) async fn delays(ca: &DevCa, config: &Config, time: Duration) -> Result<Delays, Error> {
    let identity = ca.identity(&["127.0.0.1"])?;
    let bind = || ClusterTransport::bind(config.clone(), &identity);
    let (from, to) = (bind()?, bind()?);
    let epoch = Instant::now();
    let sink = Arc::new(DelaySink(Mutex::default(), epoch));
    for node in [&from, &to] {
        node.start(gossip_inbox::<()>(1).0, Arc::clone(&sink))?;
    }
    let peer = from.peer(to.address())?;
    let bulk = target_path(0);
    let (mut same, mut other) = (None, None);
    let bulk_lane = lane_of(&peer, &bulk).await?;
    for path in (1..TARGETS).map(target_path) {
        let found = if lane_of(&peer, &path).await? == bulk_lane { &mut same } else { &mut other };
        found.get_or_insert(path);
    }
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(send_bulk(peer.clone(), bulk));
    tokio::time::sleep(time / 4).await;
    sink.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    for path in [&same, &other].into_iter().flatten() {
        tasks.spawn(probe(peer.clone(), path.clone(), epoch));
    }
    tokio::time::sleep(time).await;
    tasks.shutdown().await;
    let mut delays = std::mem::take(&mut *sink.0.lock().unwrap_or_else(PoisonError::into_inner));
    let mut of = |path: Option<String>| {
        let mut delays = path.and_then(|path| delays.remove(&path)).unwrap_or_default();
        delays.sort_by(f64::total_cmp);
        delays
    };
    Ok(Delays { other: of(other), same: of(same) })
}

/// The lane of a target path: the one that a tell to it is counted in.
async fn lane_of(peer: &Peer, path: &str) -> Result<usize, Error> {
    let accepted = || -> Vec<u64> {
        peer.stats().lanes.iter().map(|(_, lane)| lane.accepted_frames).collect()
    };
    let before = accepted();
    let tell = RemoteTellRef { target_path: path, manifest: "", payload: &[], sender_path: None };
    peer.tell_when_ready(tell).await.map_err(|e| e.to_string())?;
    let changed = accepted().iter().zip(&before).position(|(after, before)| after > before);
    Ok(changed.ok_or("no lane counted the tell")?)
}

async fn send_bulk(peer: Peer, path: String) {
    let payload = vec![0x5a; MAX_FRAME - 1024];
    let tell = || RemoteTellRef {
        target_path: &path,
        manifest: "bulk",
        payload: &payload,
        sender_path: None,
    };
    while peer.tell_when_ready(tell()).await.is_ok() {}
}

async fn probe(peer: Peer, path: String, epoch: Instant) {
    let mut tick = interval(PROBE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let mut payload = [0; 64];
        payload[..8].copy_from_slice(&(epoch.elapsed().as_nanos() as u64).to_le_bytes());
        let tell = RemoteTellRef {
            target_path: &path,
            manifest: "small",
            payload: &payload,
            sender_path: None,
        };
        if peer.tell_when_ready(tell).await.is_err() {
            return;
        }
    }
}
