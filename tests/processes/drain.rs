//! A shutdown with 10 000 tells on their way: to a healthy process, to a slow one, to a dead one.

use std::time::Duration;

use cluster_quic::{ClusterTransport, ShutdownReport};

use crate::child::Process;
use crate::ledger::tell;
use crate::message::Options;
use crate::setup::{Folder, LIMIT, until};

const TELLS: u64 = 10_000;

/// A goodbye, closed sockets: what may come on top of a deadline, on a busy machine. How little it is
/// is shown where time is simulated (row 14).
const GRACE: Duration = Duration::from_secs(10);

fn send(node: &ClusterTransport, to: &Process) {
    let peer = node.peer(&to.address).unwrap();
    for n in 0..TELLS {
        peer.tell(tell(n, 100)).unwrap();
    }
}

fn lost(report: &ShutdownReport) -> u64 {
    report.lost.iter().map(|(_, lost)| lost.frames).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_to_a_healthy_process_is_clean() {
    let folder = Folder::new();
    let sender = folder.node(&Options::default());
    let mut receiver = Process::start(&folder, &Options::default()).await;
    send(&sender.transport, &receiver);
    let report = sender.transport.shutdown(LIMIT).await;
    let received = receiver.report().await.received;
    println!("drained to a healthy peer: {report:?}; it received {received:?}");
    assert!(report.is_clean());
    assert_eq!(report.acknowledged, TELLS);
    assert_eq!((received.tells, received.duplicates, received.inversions), (TELLS, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_to_a_slow_process_ends_at_the_deadline_and_says_what_is_missing() {
    const DEADLINE: Duration = Duration::from_millis(500);
    let folder = Folder::new();
    let sender = folder.node(&Options::default());
    // Four lanes: ten seconds for all of it.
    let slow = Options { pause_us: 4_000, ..Options::default() };
    let mut receiver = Process::start(&folder, &slow).await;
    send(&sender.transport, &receiver);
    let stats = || sender.transport.peer_stats(&receiver.address).unwrap().tells();
    until("some are acknowledged", || stats().acknowledged_frames > 0).await;
    let report = sender.transport.shutdown(DEADLINE).await;
    let at_the_end = receiver.report().await.received;
    println!("drained to a slow peer: {report:?}; it had received {at_the_end:?}");
    assert!(!report.is_clean());
    assert_eq!(report.acknowledged + lost(&report), TELLS);
    assert!(report.acknowledged > 0, "nothing of it arrived");
    assert!(report.took < DEADLINE + GRACE, "{:?}", report.took);
    // What is said to be delivered was; what came and was not acknowledged any more is said to be lost.
    assert!(at_the_end.tells >= report.acknowledged);
    assert_eq!((at_the_end.duplicates, at_the_end.inversions), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_to_a_dead_process_says_exactly_what_it_had_not_handled() {
    const DEADLINE: Duration = Duration::from_millis(500);
    let folder = Folder::new();
    let sender = folder.node(&Options::default());
    let takes = Options { takes: Some(1_000), ..Options::default() };
    let mut receiver = Process::start(&folder, &takes).await;
    send(&sender.transport, &receiver);
    let stats = || sender.transport.peer_stats(&receiver.address).unwrap().tells();
    until("1 000 acknowledged", || stats().acknowledged_frames == 1_000).await;
    let received = receiver.report().await.received;
    receiver.kill().await;
    let report = sender.transport.shutdown(DEADLINE).await;
    println!("drained to a dead peer: {report:?}; it had received {received:?}");
    assert_eq!((report.acknowledged, lost(&report)), (received.tells, TELLS - received.tells));
    assert!(!report.is_clean());
    assert!(report.took < DEADLINE + GRACE, "{:?}", report.took);
}
