//! What the number of tell lanes does: the rate with many targets, and the delay of small tells while
//! one target gets 16 MiB tells, which is what lanes are for.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cluster_quic::{
    Address, ClusterTransport, Config, DevCa, MAX_FRAME, Peer, RemoteMessageSink, RemoteTellRef,
    gossip_inbox,
};
use tokio::time::{MissedTickBehavior, interval};

use crate::counter::{MAX_TARGETS, target_path};
use crate::measure::{self, Case, named, within};
use crate::options::Options;
use crate::report::{Figure, Report, grouped, median, progress};
use crate::{Error, ours};

const PAYLOADS: [usize; 3] = [64, 1024, 64 * 1024];
const LANES: [u8; 5] = [1, 2, 4, 8, 16];
const CASES: [&str; 5] = ["lanes-1", "lanes-2", "lanes-4", "lanes-8", "lanes-16"];

/// What one measurement of delays has, beside its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a small tell is sent.
const PROBE: Duration = Duration::from_millis(2);

fn config(lanes: u8) -> Result<Config, Error> {
    Ok(Config::builder("bench").tell_lanes(lanes).build()?)
}

pub(crate) async fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    let ca = DevCa::new("throughput")?;
    let mut cases = Vec::new();
    for (name, lanes) in CASES.into_iter().zip(LANES) {
        let subject = Arc::new(ours::quic(&ca, config(lanes)?).await?);
        cases.push(Case::new(name, subject).targets(MAX_TARGETS).ours());
    }
    for payload in PAYLOADS {
        measure::interleaved(&cases, payload, options, report).await?;
    }
    drop(cases);
    let rounds = options.rounds.min(3);
    let mut delays = vec![[const { Vec::new() }; 4]; LANES.len()];
    for round in 0..rounds {
        for (lanes, delays) in LANES.into_iter().zip(&mut delays) {
            progress(&format!("{lanes} lanes: delays, round {} of {rounds}", round + 1));
            let time = options.round * 2;
            let measured = delays_beside_bulk(&ca, lanes, time);
            let measured = within(time * 2 + PATIENCE, "delays beside bulk", measured).await??;
            for (all, one) in delays.iter_mut().zip(measured) {
                all.extend(one);
            }
        }
    }
    progress("");
    summarize(&delays, report);
    Ok(())
}

fn summarize(delays: &[[Vec<f64>; 4]], report: &mut Report) {
    let mut table = format!(
        "{MAX_TARGETS} targets: msg/s          |  64 B tells beside 16 MiB ones: delay in ms\n\
         lanes {:>10} {:>9} {:>8} | {:>9} {:>9} {:>12} {:>9}",
        "64B", "1KiB", "64KiB", "p50 other", "p99 other", "p50 the same", "p99"
    );
    let mut figures = Vec::new();
    for ((case, lanes), delays) in CASES.iter().zip(LANES).zip(delays) {
        let rate = |payload| report.rate(&named(case, payload)).map_or("-".into(), grouped);
        let [small, medium, large] = PAYLOADS.map(rate);
        let _ = write!(table, "\n{lanes:>5} {small:>10} {medium:>9} {large:>8} |");
        let metrics = ["p50 other lane", "p99 other lane", "p50 same lane", "p99 same lane"];
        for ((metric, width), values) in metrics.into_iter().zip([9, 9, 12, 9]).zip(delays) {
            if values.is_empty() {
                let _ = write!(table, " {:>width$}", "-");
                continue;
            }
            let value = median(values.clone());
            let _ = write!(table, " {value:>width$.2}");
            figures.push(Figure::new(*case, metric, "ms", value));
        }
    }
    report.add_table("lanes: small tells beside 16 MiB ones", table, figures);
}

/// Notes how old a small tell is, by the target it is for.
#[derive(Default)]
struct DelaySink(Mutex<BTreeMap<String, Vec<Duration>>>, Option<Instant>);

impl RemoteMessageSink for DelaySink {
    fn deliver(&self, _: &Address, tell: RemoteTellRef<'_>) {
        let (Some(epoch), Some(sent), 64) =
            (self.1, tell.payload.first_chunk::<8>(), tell.payload.len())
        else {
            return;
        };
        let sent = Duration::from_nanos(u64::from_le_bytes(*sent));
        let delay = epoch.elapsed().saturating_sub(sent);
        let mut delays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        delays.entry(tell.target_path.into()).or_default().push(delay);
    }
}

/// p50 and p99 in milliseconds of small tells in another lane than the bulk's (none if there is but
/// one), then of such in the same.
async fn delays_beside_bulk(
    ca: &DevCa,
    lanes: u8,
    time: Duration,
) -> Result<[Option<f64>; 4], Error> {
    let identity = ca.identity(&["127.0.0.1"])?;
    let bind = || Ok::<_, Error>(ClusterTransport::bind(config(lanes)?, &identity)?);
    let (from, to) = (bind()?, bind()?);
    let epoch = Instant::now();
    let sink = Arc::new(DelaySink(Mutex::default(), Some(epoch)));
    for node in [&from, &to] {
        node.start(gossip_inbox::<()>(1).0, Arc::clone(&sink))?;
    }
    let peer = from.peer(to.address())?;
    let bulk = target_path(0);
    let (mut same, mut other) = (None, None);
    let bulk_lane = lane_of(&peer, &bulk).await?;
    for path in (1..MAX_TARGETS).map(target_path) {
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
        let mut delays = delays.remove(&path?)?;
        delays.sort();
        let at = |part: usize| delays[(delays.len() - 1) * part / 100].as_secs_f64() * 1e3;
        Some([at(50), at(99)])
    };
    let (other, same) = (of(other), of(same));
    let flat = |pair: Option<[f64; 2]>| pair.map_or([None; 2], |pair| pair.map(Some));
    let ([a, b], [c, d]) = (flat(other), flat(same));
    Ok([a, b, c, d])
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
