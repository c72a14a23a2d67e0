//! A process that stands still for longer than the idle timeout (SIGSTOP: a paused virtual machine, a laptop
//! that sleeps) and goes on where it was.

use cluster_quic::{AssociationError, Event};
use rustix::process::Signal;

use crate::child::Process;
use crate::ledger::tell;
use crate::message::{Command, Options, Received};
use crate::setup::{Folder, Node, until};

fn options() -> Options {
    Options { idle_timeout_ms: 500, ..Options::default() }
}

async fn timed_out(node: &mut Node) {
    let reason = node
        .event(|event| match event {
            Event::PeerDown { reason, .. } => Some(reason),
            _ => None,
        })
        .await;
    assert_eq!(reason, AssociationError::TimedOut);
}

/// Everything once and in order.
fn whole(received: &Received, tells: u64) {
    let all = Received { tells, lowest: Some(0), highest: Some(tells - 1), ..Received::default() };
    assert_eq!(*received, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_stood_still_goes_on_with_nothing_doubled() {
    let folder = Folder::new();
    let mut sender = folder.node(&options());
    let mut receiver = Process::start(&folder, &Options { takes: Some(500), ..options() }).await;
    let peer = sender.transport.peer(&receiver.address).unwrap();
    for n in 0..1_000 {
        peer.tell(tell(n, 1_000)).unwrap();
    }
    receiver.until("the sink has its 500", |report| report.received.tells == 500).await;
    receiver.signal(Signal::STOP);
    for n in 1_000..2_000 {
        peer.tell(tell(n, 1_000)).unwrap();
    }
    timed_out(&mut sender).await;
    receiver.signal(Signal::CONT);
    receiver.tell(Command::Open).await;
    peer.flush().await.unwrap();
    let received = receiver.report().await.received;
    let (stats, tells) = (peer.stats(), peer.stats().tells());
    println!(
        "SIGSTOP of the receiver: {received:?}, {} associations, {} frames sent again",
        stats.associations, tells.resent_frames
    );
    whole(&received, 2_000);
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!((tells.acknowledged_frames, tells.lost_in_all().frames), (2_000, 0));
    assert_eq!(stats.incarnation.map(|life| life.0), Some(receiver.incarnation));
    assert!(stats.associations >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_stood_still_in_mid_stream_goes_on_with_nothing_doubled() {
    let folder = Folder::new();
    let mut receiver = folder.node(&Options { takes: Some(500), ..options() });
    let to = receiver.transport.address().to_string();
    let mut sender = Process::start(&folder, &options()).await;
    sender.tell(Command::Tell { to: to.clone(), numbers: 0..10_000, bytes: 1_000 }).await;
    until("the sink has its 500", || receiver.ledger.received().tells == 500).await;
    sender.signal(Signal::STOP);
    timed_out(&mut receiver).await;
    // What the stale connection had brought goes on; the rest is still over there.
    receiver.ledger.open();
    let stats = || receiver.transport.peer_stats(&sender.address).unwrap();
    until("the sink has what has come", || stats().tells_received().waiting_bytes == 0).await;
    let before = receiver.ledger.received().tells;
    assert!(before < 10_000, "all of it came before");
    sender.signal(Signal::CONT);
    sender.tell(Command::Flush { to }).await;
    let received = receiver.ledger.received();
    println!("SIGSTOP of the sender: {before} tells had come; {received:?}");
    whole(&received, 10_000);
}
