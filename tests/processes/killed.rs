//! kill -9, of the receiver and of the sender in mid-frame.

use std::time::{Duration, Instant};

use cluster_quic::{AssociationError, Event, LostReason};

use crate::child::Process;
use crate::ledger::tell;
use crate::message::{Command, Options};
use crate::setup::{Folder, Node, identity, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_receiver_s_return_is_noticed_by_its_reset_and_it_gets_nothing_of_the_old_one_s() {
    let folder = Folder::new();
    // A process takes seconds to start on a busy machine, and nothing else is to end the association meanwhile.
    let patient = Options { idle_timeout_ms: 60_000, ..Options::default() };
    let mut sender = folder.node(&patient);
    let takes = Options { takes: Some(100), ..Options::default() };
    let first = Process::start(&folder, &takes).await;
    let (to, old) = (first.address.clone(), first.incarnation);
    let peer = sender.transport.peer(&to).unwrap();
    for n in 0..100 {
        peer.tell(tell(n, 100)).unwrap();
    }
    peer.flush().await.unwrap();
    // These are on their way, or over there, and not acknowledged.
    for n in 100..300 {
        peer.tell(tell(n, 100)).unwrap();
    }
    let in_flight = || (peer.stats().tells().queued_frames, peer.stats().tells().in_flight_frames);
    until("200 in flight", || in_flight() == (0, 200)).await;
    first.kill().await;
    let mut second =
        Process::start(&folder, &Options { port: to.port(), ..Options::default() }).await;
    let begin = Instant::now();
    assert_eq!(second.address, to);
    // Any packet is answered by a stateless reset.
    peer.send_gossip("anybody there?").unwrap();
    let mut ended = None;
    let (was, is) = sender
        .event(|event| match event {
            Event::PeerDown { reason, .. } => {
                ended = Some(reason);
                None
            }
            Event::PeerRestarted { old, new, .. } => Some((old.0, new.0)),
            _ => None,
        })
        .await;
    let noticed = begin.elapsed();
    assert_eq!((was, is), (old, second.incarnation));
    assert_eq!(ended, Some(AssociationError::Reset));
    // Less than a second where time is simulated (row 10). Here the processes wait for a processor.
    assert!(noticed < Duration::from_secs(20), "noticed after {noticed:?}");
    for n in 300..400 {
        peer.tell(tell(n, 100)).unwrap();
    }
    peer.flush().await.unwrap();
    let received = second.report().await.received;
    println!(
        "kill -9 of the receiver: noticed in {noticed:?}; the new process received {received:?}"
    );
    assert_eq!((received.tells, received.lowest, received.highest), (100, Some(300), Some(399)));
    let tells = peer.stats().tells();
    assert!(peer.stats().is_balanced(), "{tells:?}");
    assert_eq!((tells.acknowledged_frames, tells.pending_frames()), (200, 0));
    assert_eq!(tells.lost(LostReason::PeerRestarted).frames, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_frame_of_a_killed_sender_reaches_no_sink() {
    const LARGE: usize = 15 << 20;
    let folder = Folder::new();
    let options = Options { idle_timeout_ms: 500, ..Options::default() };
    // It has no sink yet, so it takes in a window of the frame and no more.
    let mut receiver = Node::unstarted(&identity(folder.path()), &options);
    let to = receiver.transport.address().to_string();
    let mut first = Process::start(&folder, &options).await;
    let from = first.address.clone();
    first.tell(Command::Tell { to: to.clone(), numbers: 0..1, bytes: LARGE }).await;
    let window = options.stream_window / 6_500;
    let sent = first.until("a window of the frame is sent", |r| r.sent_packets > window).await;
    let incarnation = first.incarnation;
    first.kill().await;
    receiver.take();
    let reason = receiver
        .event(|event| match event {
            Event::PeerDown { reason, .. } => Some(reason),
            _ => None,
        })
        .await;
    assert!(matches!(reason, AssociationError::TimedOut | AssociationError::Reset), "{reason:?}");
    let again = Options { port: from.port(), ..options };
    let mut second = Process::start(&folder, &again).await;
    assert!(second.incarnation > incarnation);
    second.tell(Command::Tell { to: to.clone(), numbers: 1..101, bytes: 100 }).await;
    second.tell(Command::Flush { to }).await;
    let received = receiver.ledger.received();
    println!(
        "kill -9 of the sender after {} packets of a {LARGE} byte frame: received {received:?}",
        sent.sent_packets
    );
    assert_eq!((received.tells, received.lowest, received.highest), (100, Some(1), Some(100)));
    let stats = receiver.transport.peer_stats(&from).unwrap();
    assert_eq!(
        (stats.tells_received().waiting_bytes, stats.tells_received().refused_frames),
        (0, 0)
    );
}
