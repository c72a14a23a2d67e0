//! Fifty peers that flood a node whose sink stands still, under a limit of memory; and a node that floods.

use std::path::PathBuf;

use cluster_quic::{Peer, RemoteTellRef};

use crate::child::Process;
use crate::ledger::tell;
use crate::message::{Command, Options};
use crate::setup::{Folder, Node, config, until};

const PEERS: u64 = 50;
const LANES: u64 = 2;
const WINDOW: u64 = 64 * 1024;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Room for one of the largest frames.
const LARGE: usize = (16 << 20) + 64 * 1024;

fn options() -> Options {
    Options {
        lanes: LANES as u8,
        stream_window: WINDOW,
        lane_budget: 2 << 20,
        large_budget: LARGE,
        takes: Some(0),
        ..Options::default()
    }
}

/// What this flood can make the node hold, by the terms of `Config::memory_limit`: in as many lanes as these
/// peers have, with no large tells, no gossip and nothing to send.
fn of_this_flood() -> u64 {
    let run = 32 * 6_500;
    let lane = (WINDOW * 5 / 2 + 32 * KIB) + (WINDOW + run) + WINDOW * 3 / 2 + 32 * KIB;
    let control = 2 * 32 * KIB;
    4 * 1024 * KIB + 2048 * 6_500 + PEERS * (LANES * lane + control + 96 * KIB)
}

/// Waits until nothing moves any more.
async fn quiet(figure: impl Fn() -> u64) -> u64 {
    let (mut last, mut same) = (figure(), 0);
    while same < 20 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        let now = figure();
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

/// A limit of a process's memory, for as long as it lives.
struct Limit(PathBuf);

impl Limit {
    /// Needs a memory controller (cgroup v1 or v2) that this user may write to.
    fn new(process: u32, bytes: u64) -> std::io::Result<Self> {
        let v1 = PathBuf::from("/sys/fs/cgroup/memory");
        let (root, limit) = match v1.is_dir() {
            true => (v1, "memory.limit_in_bytes"),
            false => (PathBuf::from("/sys/fs/cgroup"), "memory.max"),
        };
        let group = Self(root.join(format!("cluster-quic-test-{process}")));
        std::fs::create_dir(&group.0)?;
        std::fs::write(group.0.join(limit), bytes.to_string())?;
        std::fs::write(group.0.join("cgroup.procs"), process.to_string())?;
        Ok(group)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        // Empty once its process is gone.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// Sends until every lane has refused.
pub(crate) fn flood(peer: &Peer) -> u64 {
    let (mut accepted, mut refused) = (0, 0);
    for n in 0.. {
        let bytes = [200, 2_000, 40_000][n as usize % 3];
        match peer.tell(tell(n, bytes)) {
            Ok(()) => (accepted, refused) = (accepted + 1, 0),
            Err(_) => refused += 1,
        }
        if refused > 64 {
            break;
        }
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_flooding_peers_stay_within_the_documented_memory() {
    let folder = Folder::new();
    let mut node = Process::start(&folder, &options()).await;
    let before = node.report().await.peak;
    let (own, formula) = (of_this_flood(), config(&options()).memory_limit(PEERS as usize));
    assert!(own < formula);
    let limit = Limit::new(node.id(), before + own);
    if let Err(error) = &limit {
        println!("no limit is set, only measured: no memory controller to write to ({error})");
    }
    let flooders: Vec<Node> = (0..PEERS).map(|_| folder.node(&options())).collect();
    let peers: Vec<Peer> =
        flooders.iter().map(|n| n.transport.peer(&node.address).unwrap()).collect();
    for peer in &peers {
        peer.connect().await.unwrap();
    }
    let accepted: u64 = peers.iter().map(flood).sum();
    let offered: u64 = peers.iter().map(|peer| peer.stats().tells().accepted_bytes).sum();
    let full = PEERS * LANES * WINDOW;
    node.until("every queue is full", |report| report.waiting >= full).await;
    // And the windows behind the queues, until nothing moves any more.
    let in_flight = || peers.iter().map(|p| p.stats().tells().in_flight_bytes).sum::<u64>();
    let in_flight = quiet(in_flight).await;
    let flooded = node.report().await;
    let used = flooded.peak - before;
    println!(
        "{PEERS} peers offer {} KiB and have {} KiB in flight; the node holds {} KiB in its queues, \
         its memory grew from {} KiB by {} KiB at most; {} KiB by the terms of the formula for this \
         flood, {} KiB by the formula itself",
        offered / KIB,
        in_flight / KIB,
        flooded.waiting / KIB,
        before / KIB,
        used / KIB,
        own / KIB,
        formula / KIB,
    );
    assert!(offered > 2 * own, "a flood that could not exceed the limit proves nothing");
    assert!(used <= own);
    // It goes on where it stood.
    node.tell(Command::Open).await;
    for peer in &peers {
        peer.flush().await.unwrap();
    }
    let received = node.report().await.received;
    assert_eq!((received.tells, received.duplicates, received.inversions), (accepted, 0, 0));
    until("the ledgers balance", || peers.iter().all(|p| p.stats().is_balanced())).await;
    node.kill().await;
    drop(limit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_tells_in_all_lanes_at_once_share_their_room() {
    const LANES: u8 = 16;
    const BYTES: u64 = 15 * MIB;
    let folder = Folder::new();
    let options = Options { lanes: LANES, stream_window: 256 * KIB, ..options() };
    let mut node = Process::start(&folder, &options).await;
    let before = node.report().await.peak;
    let formula = config(&Options { lane_budget: 64 << 10, ..options.clone() }).memory_limit(1);
    let (lane_budget, peer_budget) = (16 << 20, 512 << 20);
    let flooder = folder.node(&Options { lane_budget, peer_budget, ..options });
    let peer = flooder.transport.peer(&node.address).unwrap();
    // A lane's second one is refused, so there is one in each.
    let payload = tell(0, BYTES as usize).payload;
    let one = |n: &u64| {
        let target_path = &*format!("/user/{n}");
        peer.tell(RemoteTellRef { target_path, payload: &payload, ..Default::default() }).is_ok()
    };
    let accepted = (0..1_000).filter(one).take(usize::from(LANES)).count();
    assert_eq!(accepted, usize::from(LANES));
    node.until("one is there", |report| report.waiting >= BYTES).await;
    let link = || peer.stats().link.map_or(0, |link| link.sent_packets);
    quiet(link).await;
    let flooded = node.report().await;
    let used = flooded.peak - before;
    println!(
        "{LANES} tells of {} MiB at once: {} MiB wait for the sink, memory grew by {} MiB at most; {} MiB \
         by the formula",
        BYTES / MIB,
        flooded.waiting / MIB,
        used / MIB,
        formula / MIB,
    );
    assert!(u64::from(LANES) * BYTES > formula, "this could not exceed it");
    assert!(used <= formula);
    assert!(flooded.waiting < 2 * BYTES);
    // All of them find room, one after the other.
    node.tell(Command::Open).await;
    peer.flush().await.unwrap();
    assert_eq!(node.report().await.received.tells, u64::from(LANES));
}

/// What is to be sent: the queues, and where QUIC has copies of small chunks, once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_queues_to_all_peers_stay_within_the_documented_memory() {
    const PEERS: u64 = 4;
    const BUDGET: u64 = 20 * MIB;
    let folder = Folder::new();
    let options = Options {
        lane_budget: 8 << 20,
        peer_budget: BUDGET as usize,
        stream_window: WINDOW,
        takes: Some(0),
        ..Options::default()
    };
    let mut node = Process::start(&folder, &options).await;
    let before = node.report().await.peak;
    let receivers: Vec<Node> = (0..PEERS).map(|_| folder.node(&options)).collect();
    for receiver in &receivers {
        let to = receiver.transport.address().to_string();
        assert!(node.tell(Command::Flood { to }).await > 0);
    }
    let grown = node.report().await.peak - before;
    // Queues, the socket's buffers, and what an association takes without anything waiting.
    let queues = PEERS * BUDGET;
    let limit = 2 * queues + 2048 * 6_500 + PEERS * (96 * KIB + 6 * 32 * KIB);
    println!("{} MiB in queues: {} MiB of at most {}", queues / MIB, grown / MIB, limit / MIB);
    assert!(grown >= queues * 9 / 10, "{grown}: the queues are not full");
    assert!(grown <= limit, "{grown} of {limit}");
    assert!(limit < config(&options).memory_limit(PEERS as usize));
    receivers.iter().for_each(|receiver| receiver.ledger.open());
}
