//! What idle associations cost: memory, and processor time.
//!
//! All nodes are in this process, each with its own socket on 127.0.0.1: what an association costs is
//! half of what one more between two of them does. In this order:
//!
//! | figure | what |
//! |---|---|
//! | node | nodes that are bound and have no association |
//! | first association | one more node, the hub, associates with all of them. A node's receive buffers are in memory only from its first datagrams on, so this holds a part of a node's cost |
//! | second association | another hub does; the nodes have everything already, so this is an association and nothing else |
//! | bare quinn | as the second association, between quinn's endpoints with the same settings and certificates: what is quinn's and TLS's own |
//!
//! Memory is what the process uses without files mapped into it; also what is freed and kept by the
//! allocator, such as the handshakes' leavings. It has to come before all that uses much memory, since
//! associations would then be made of what others have freed.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster_quic::{
    Address, ClusterTransport, DevCa, Identity, Peer, RemoteMessageSink, RemoteTellRef,
    gossip_inbox,
};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::measure::{SET_UP, within};
use crate::options::Options;
use crate::report::{Figure, Report, progress};
use crate::{Error, bare, ours, process};

/// Associations that are being made at a time.
const AT_ONCE: usize = 16;

/// Files and sockets beside those of the nodes.
const OTHER_FILES: u64 = 64;

/// Takes nothing, for nothing is sent.
struct Nobody;

impl RemoteMessageSink for Nobody {
    fn deliver(&self, _: &Address, _: RemoteTellRef<'_>) {}
}

/// Bytes in use, and processor time per second.
#[derive(Clone, Copy)]
struct Usage {
    memory: f64,
    cpu: f64,
}

fn node(identity: &Identity) -> Result<ClusterTransport, Error> {
    let node = ClusterTransport::bind(ours::config()?, identity)?;
    node.start(gossip_inbox::<()>(1).0, Arc::new(Nobody))?;
    Ok(node)
}

pub(crate) async fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    let wanted = if options.quick { 200 } else { 1000 };
    if !options.wants(&format!("idle-{wanted}")) {
        return Ok(());
    }
    let (Some(_), Some(limit)) = (process::memory(), process::open_files()) else {
        eprintln!("idle: this system does not tell what a process uses");
        return Ok(());
    };
    let count = wanted.min(limit.saturating_sub(OTHER_FILES) as usize);
    if count < wanted {
        eprintln!(
            "idle: only {count} of {wanted}: {limit} files may be open, and each node has one"
        );
    }
    if count == 0 {
        return Err(format!("idle: {limit} files may be open, too few").into());
    }
    let (settle, watch) = match options.quick {
        true => (Duration::from_millis(1500), Duration::from_secs(2)),
        false => (Duration::from_secs(4), Duration::from_secs(12)),
    };
    let ca = DevCa::new("throughput")?;
    let identity = ours::identity(&ca)?;
    // What a first handshake sets up is there for all.
    let warm = [node(&identity)?, node(&identity)?];
    associate(&warm[0], &warm[1..]).await?;
    let hubs = [node(&identity)?, node(&identity)?];
    let before = Usage { cpu: 0.0, ..usage(settle / 2, Duration::ZERO).await? };

    progress(&format!("idle: {count} nodes"));
    let nodes = (0..count).map(|_| node(&identity)).collect::<Result<Vec<_>, _>>()?;
    let mut usages = vec![before, usage(settle / 2, watch / 3).await?];
    let mut peers = Vec::new();
    for (n, hub) in hubs.iter().enumerate() {
        progress(&format!("idle: hub {} associates with {count} nodes", n + 1));
        let begun = Instant::now();
        peers.push(associate(hub, &nodes).await?);
        eprintln!("idle: hub {} has {count} associations after {:.1?}", n + 1, begun.elapsed());
        usages.push(usage(settle, watch).await?);
    }
    let cut = |peer: &&Peer| peer.stats().associations != 1 || peer.stats().link.is_none();
    let cut = peers.iter().flatten().filter(cut).count();
    if cut > 0 {
        return Err(format!("{cut} of {} idle associations did not last", 2 * count).into());
    }
    let quinn = bare_quinn(&ca, count, settle).await?;
    summarize(count, &usages, quinn, report);
    let nodes = nodes.into_iter().chain(hubs).chain(warm).collect();
    shut_down(nodes).await
}

/// Bytes that a connection of bare quinn uses on either side, beyond the first one of its endpoints.
async fn bare_quinn(ca: &DevCa, count: usize, settle: Duration) -> Result<f64, Error> {
    let endpoints = (0..count).map(|_| bare::endpoint(ca)).collect::<Result<Vec<_>, _>>()?;
    let hubs = [bare::endpoint(ca)?, bare::endpoint(ca)?];
    let (mut used, mut connections) = (Vec::new(), Vec::new());
    for (n, hub) in hubs.iter().enumerate() {
        progress(&format!("idle: bare hub {} connects to {count} endpoints", n + 1));
        for endpoint in &endpoints {
            connections.push(bare::between(hub, endpoint).await?);
        }
        used.push(usage(settle, Duration::ZERO).await?.memory);
    }
    Ok((used[1] - used[0]) / (2 * count) as f64)
}

/// After `settle`, over `watch`.
async fn usage(settle: Duration, watch: Duration) -> Result<Usage, Error> {
    sleep(settle).await;
    let (begun, before) = (Instant::now(), process::cpu_time());
    sleep(watch).await;
    let used = process::cpu_time().unwrap_or_default().saturating_sub(before.unwrap_or_default());
    let memory = process::memory().ok_or("no figures of memory")? as f64;
    Ok(Usage { memory, cpu: used.as_secs_f64() / begun.elapsed().as_secs_f64() })
}

/// One association with each.
async fn associate(hub: &ClusterTransport, nodes: &[ClusterTransport]) -> Result<Vec<Peer>, Error> {
    let (mut peers, mut dials) = (Vec::new(), JoinSet::new());
    for node in nodes {
        if dials.len() >= AT_ONCE {
            dials.join_next().await.transpose()?.transpose()?;
        }
        let peer = hub.peer(node.address())?;
        peers.push(peer.clone());
        dials.spawn(async move {
            within(SET_UP, "an association", peer.connect()).await??;
            Ok::<_, Error>(())
        });
    }
    while let Some(dialled) = dials.join_next().await {
        dialled??;
    }
    Ok(peers)
}

async fn shut_down(nodes: Vec<ClusterTransport>) -> Result<(), Error> {
    progress("idle: shutting down");
    let mut tasks = JoinSet::new();
    for node in nodes {
        tasks.spawn(async move { node.shutdown(Duration::from_secs(5)).await });
    }
    within(Duration::from_secs(60), "shutting down", tasks.join_all()).await?;
    progress("");
    Ok(())
}

fn summarize(count: usize, usages: &[Usage], quinn: f64, report: &mut Report) {
    let case = format!("idle-{count}");
    let mut table = format!(
        "idle: {count} nodes in this process, an association's cost per side\n{:<20} {:>10} {:>14} {:>16}",
        "each", "kB", "CPU us/s", "CPU of all, ms/s"
    );
    let rows = [
        ("node", 1, ["node memory", "node CPU"]),
        ("first association", 2, ["first association memory", "first association CPU"]),
        ("second association", 2, ["association memory", "association CPU"]),
    ];
    let mut figures = Vec::new();
    for (pair, (name, sides, metrics)) in usages.windows(2).zip(rows) {
        let each = |of: fn(&Usage) -> f64| (of(&pair[1]) - of(&pair[0])) / (count * sides) as f64;
        let (kilobytes, micros) = (each(|usage| usage.memory) / 1e3, each(|usage| usage.cpu) * 1e6);
        let all = pair[1].cpu * 1e3;
        let _ = write!(table, "\n{name:<20} {kilobytes:>10.1} {micros:>14.1} {all:>16.1}");
        for (metric, unit, value) in [(metrics[0], "kB", kilobytes), (metrics[1], "us/s", micros)] {
            figures.push(Figure::new(&case, metric, unit, value));
        }
    }
    let _ = write!(table, "\n{:<20} {:>10.1}", "bare quinn", quinn / 1e3);
    figures.push(Figure::new(&case, "bare quinn's memory", "kB", quinn / 1e3));
    if let (Some(before), Some(after)) = (usages.first(), usages.last()) {
        let all = (after.memory - before.memory) / 1e6;
        let _ = write!(table, "\nall of it: {all:.1} MB");
        let (metric, unit) = ("memory of all", "kB");
        figures.push(Figure::new(case, metric, unit, all * 1e3));
    }
    report.add_table("idle: what nodes and associations cost", table, figures);
}
