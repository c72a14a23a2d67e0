//! A node that ends while something is pending, and shutdowns that come twice or not to their end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster_quic::{
    Address, AssociationError, Event, LostReason, Peer, RecordingSink, RemoteTell, SendError,
    ShutdownReport, gossip_inbox,
};

use crate::harness::{GateSink, Net, Node, tell, until};

const MS: fn(u64) -> Duration = Duration::from_millis;

/// Per peer the tells that came back, and how many of these were sent.
type Letters = Arc<Mutex<Vec<(Address, bool)>>>;

/// Whether the node was ever told where received messages go, or not.
pub(crate) async fn dropping_the_last_handle_reports_what_is_pending(net: impl Net) {
    for started in [true, false] {
        let a = net.node(&format!("a-{started}"), |c| c.tell_lanes(1));
        let mut events = a.events();
        if started {
            a.start(gossip_inbox::<String>(1).0, RecordingSink::new()).unwrap();
        }
        let letters = Letters::default();
        let keep = Arc::clone(&letters);
        a.dead_letters(move |letter| {
            assert_eq!(letter.reason, LostReason::ShutDown);
            keep.lock().unwrap().push((letter.to.clone(), letter.sent));
        })
        .unwrap();
        // All of it in flight; a window of it, and the rest queued; and dialling for ever.
        let b = net.node(&format!("b-{started}"), |c| c);
        let c = net.node(&format!("c-{started}"), |c| c.stream_window(64 * 1024));
        let mut goodbyes = [b.events(), c.events()];
        let peers = [b.address(), c.address(), &net.nobody()].map(|to| a.peer(to).unwrap());
        let counts = [20, 3_000, 100];
        for (peer, count) in peers.iter().zip(counts) {
            for n in 0..count {
                let payload = vec![0; if count > 100 { 8 * 1024 } else { 8 }];
                peer.tell(RemoteTell { payload, ..tell(n) }).unwrap();
            }
        }
        let in_flight = |peer: &Peer| peer.stats().tells().in_flight_frames;
        until(|| in_flight(&peers[0]) == 20 && in_flight(&peers[1]) > 0).await;
        let at_least = in_flight(&peers[1]);
        drop(a);

        let mut lost: Vec<(Address, u64)> = Vec::new();
        while let Some(event) = events.recv().await {
            if let Event::TellsLost { peer, frames, reason, .. } = event {
                assert_eq!(reason, LostReason::ShutDown);
                lost.push((peer, frames));
            }
        }
        let all: u64 = counts.iter().sum();
        until(|| letters.lock().unwrap().len() as u64 >= all).await;
        let letters = letters.lock().unwrap().clone();
        assert_eq!(letters.len() as u64, all);
        for (peer, count) in peers.iter().zip(counts) {
            let told = lost.iter().filter(|(of, _)| of == peer.address()).map(|(_, n)| n);
            assert_eq!(told.sum::<u64>(), count, "{}", peer.address());
            let letters = letters.iter().filter(|(to, _)| to == peer.address());
            assert_eq!(letters.count() as u64, count);
            let tells = peer.stats().tells();
            assert_eq!(
                (tells.lost(LostReason::ShutDown).frames, tells.pending_frames()),
                (count, 0)
            );
            assert!(peer.stats().is_balanced());
        }
        let sent = peers.each_ref().map(|peer| {
            letters.iter().filter(|(to, sent)| to == peer.address() && *sent).count() as u64
        });
        assert_eq!((sent[0], sent[2]), (20, 0));
        assert!((at_least..3_000).contains(&sent[1]), "{sent:?}, at least {at_least}");
        for events in &mut goodbyes {
            let down = async {
                loop {
                    if let Event::PeerDown { reason, .. } = events.recv().await.unwrap() {
                        return reason;
                    }
                }
            };
            let reason = tokio::time::timeout(MS(20_000), down).await.expect("it hears of it");
            assert_eq!(reason, AssociationError::Goodbye);
        }
    }
}

/// 100 tells to a sink that blocks in the 41st.
async fn blocked(net: &impl Net) -> (Node, Arc<GateSink>, Peer) {
    let a = Node::start(net.node("a", |c| c.tell_lanes(1)));
    let b = net.node("b", |c| c);
    let (sink, mut calls) = GateSink::new();
    b.start(gossip_inbox::<String>(1).0, sink.clone()).unwrap();
    let peer = a.transport.peer(b.address()).unwrap();
    for n in 0..100 {
        let mut tell = tell(n);
        if n == 40 {
            tell.target_path = "/user/blocked".into();
        }
        peer.tell(tell).unwrap();
    }
    calls.recv().await.unwrap();
    until(|| peer.stats().tells().acknowledged_frames == 40).await;
    // It lives as long as its runtime.
    std::mem::forget(b);
    (a, sink, peer)
}

#[track_caller]
fn check(report: &ShutdownReport, peer: &Peer) {
    assert_eq!(report.acknowledged, 40, "{report:?}");
    let lost: Vec<_> = report.lost.iter().map(|(to, lost)| (to, lost.frames)).collect();
    assert_eq!(lost, [(peer.address(), 60)]);
    assert!(report.took < Duration::from_secs(20), "{report:?}");
}

pub(crate) async fn a_drain_past_its_deadline_reports_the_exact_loss(net: impl Net) {
    let (a, sink, peer) = blocked(&net).await;
    let begin = std::time::Instant::now();
    let report = a.transport.shutdown(MS(600)).await;
    let (took, refused) = (begin.elapsed(), peer.tell(tell(0)));
    sink.open();
    check(&report, &peer);
    assert!(took < Duration::from_secs(5), "{report:?}");
    assert!(matches!(refused, Err(SendError::ShuttingDown(_))));
}

pub(crate) async fn two_shutdowns_at_once_end_at_the_earlier_deadline(net: impl Net) {
    let (a, sink, peer) = blocked(&net).await;
    let (long, short) =
        tokio::join!(a.transport.shutdown(MS(50_000)), a.transport.shutdown(MS(100)));
    // First: a runtime ends only when no sink blocks.
    sink.open();
    check(&long, &peer);
    check(&short, &peer);
}

pub(crate) async fn a_shutdown_that_was_given_up_can_be_ended(net: impl Net) {
    let (a, sink, peer) = blocked(&net).await;
    let given_up = tokio::time::timeout(MS(100), a.transport.shutdown(MS(50_000))).await;
    // It drains on.
    let (refused, pending) = (peer.tell(tell(0)), peer.stats().tells().pending_frames());
    let report = a.transport.shutdown(MS(100)).await;
    sink.open();
    assert!(given_up.is_err(), "the sink blocks");
    assert!(matches!(refused, Err(SendError::ShuttingDown(_))));
    assert_eq!(pending, 60);
    check(&report, &peer);
    let mut events = a.events;
    while events.recv().await.is_some() {}
}
