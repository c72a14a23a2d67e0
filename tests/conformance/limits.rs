//! Full lanes, blocked sinks, and calls that cannot be served.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use cluster_quic::{
    Address, AssociationError, ClusterTransport, ConfigBuilder, Event, Lane, MAX_FRAME, PeerError,
    RecordingSink, RemoteMessageSink, RemoteTell, RemoteTellRef, SendError, gossip_inbox,
};

use crate::harness::{GateSink, Net, Node, tell, until};

fn blocked(n: u64) -> RemoteTell {
    RemoteTell { target_path: "/user/blocked".into(), ..tell(n) }
}

/// A node whose sink blocks.
fn gated(
    transport: &ClusterTransport,
) -> (
    std::sync::Arc<GateSink>,
    tokio::sync::mpsc::UnboundedReceiver<()>,
    tokio::sync::mpsc::Receiver<cluster_quic::Gossip<String>>,
) {
    let (sink, calls) = GateSink::new();
    let (inbox, gossip) = gossip_inbox(64);
    transport.start(inbox, sink.clone()).unwrap();
    (sink, calls, gossip)
}

pub(crate) async fn a_full_lane_hands_the_tell_back(net: impl Net) {
    let a = Node::start(net.node("a", |c| c.lane_budget(256 * 1024)));
    let b = net.node("b", |c| c.stream_window(64 * 1024));
    let (sink, mut calls, mut gossip) = gated(&b);
    let peer = a.transport.peer(b.address()).unwrap();
    peer.tell(blocked(0)).unwrap();
    calls.recv().await.unwrap();
    let mut n = 1;
    let refused = loop {
        match peer.tell(blocked(n)) {
            Ok(()) => n += 1,
            Err(error) => break error,
        }
    };
    assert!(refused.is_full());
    assert_eq!(refused.into_inner(), blocked(n), "it comes back as it was given");
    let held = a.stats(b.address()).tells();
    assert!(held.queued_bytes + held.in_flight_bytes <= 256 * 1024, "{held:?}");
    assert!(held.refused_full > 0);
    // Gossip does not wait for any of it.
    peer.send_gossip(&"through").unwrap();
    assert_eq!(gossip.recv().await.unwrap().message, "through");
    // Who waits gets its turn once there is room.
    let waiting = peer.tell_when_ready(blocked(n));
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut waiting).await;
    assert!(early.is_err(), "the lane is full");
    sink.open();
    waiting.await.unwrap();
    peer.flush().await.unwrap();
    assert_eq!(sink.recorded.len() as u64, n + 1);
    a.check_ledger(b.address(), n + 1);
    assert_eq!(a.transport.held_bytes(), 0, "what is acknowledged holds no memory");
}

/// One task that always has another tell does not keep others from a full lane.
pub(crate) async fn who_waits_for_room_is_not_overtaken(net: impl Net) {
    let a = Node::start(net.node("a", |c| c.lane_budget(64 * 1024)));
    let b = net.node("b", |c| c.stream_window(64 * 1024));
    let (sink, mut calls, _gossip) = gated(&b);
    let peer = a.transport.peer(b.address()).unwrap();
    peer.tell(blocked(0)).unwrap();
    calls.recv().await.unwrap();
    while peer.tell(blocked(1)).is_ok() {}
    let greedy = Arc::new(AtomicU64::new(0));
    let (sender, count) = (peer.clone(), Arc::clone(&greedy));
    let hog = tokio::spawn(async move {
        while sender.tell_when_ready(blocked(2)).await.is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    // The hog's first call waits before ours does.
    tokio::task::yield_now().await;
    let ours = tokio::spawn(async move {
        peer.tell_when_ready(blocked(3)).await.unwrap();
        greedy.load(Ordering::Relaxed)
    });
    tokio::task::yield_now().await;
    sink.open();
    let overtaken = ours.await.unwrap();
    hog.abort();
    assert!(overtaken <= 1, "by {overtaken} tells");
}

/// Counts calls, apart for those on the test's own thread, which is the runtime's only worker.
struct PromptSink {
    worker: ThreadId,
    on_worker: AtomicU64,
    elsewhere: AtomicU64,
}

impl RemoteMessageSink for PromptSink {
    fn deliver(&self, _: &Address, tell: RemoteTellRef<'_>) {
        let here = std::thread::current().id() == self.worker;
        let count = if here { &self.on_worker } else { &self.elsewhere };
        count.fetch_add(1, Ordering::Relaxed);
        if tell.target_path == "/user/blocked" {
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn may_block(&self) -> bool {
        false
    }
}

/// A sink that says it does not block is called without another thread, until it blocks.
pub(crate) async fn a_prompt_sink_is_believed_until_it_blocks(net: impl Net) {
    // A thread that loses its core for 20 ms in a call looks like one that blocks: another node then.
    for attempt in 0..20 {
        let name = |name: &str| format!("{name}{attempt}");
        let a = Node::start(net.node(&name("a"), |c| c));
        let b = net.node(&name("b"), |c| c);
        let sink = Arc::new(PromptSink {
            worker: std::thread::current().id(),
            on_worker: AtomicU64::new(0),
            elsewhere: AtomicU64::new(0),
        });
        b.start(gossip_inbox::<String>(1).0, sink.clone()).unwrap();
        let peer = a.transport.peer(b.address()).unwrap();
        let calls = || [&sink.on_worker, &sink.elsewhere].map(|n| n.load(Ordering::Relaxed));
        for n in 0..16 {
            peer.tell(tell(n)).unwrap();
            peer.flush().await.unwrap();
        }
        peer.tell(blocked(16)).unwrap();
        peer.flush().await.unwrap();
        if calls() != [17, 0] {
            continue;
        }
        for n in 17..20 {
            peer.tell(tell(n)).unwrap();
            peer.flush().await.unwrap();
        }
        assert_eq!(calls(), [17, 3]);
        return;
    }
    panic!("it is not believed");
}

pub(crate) async fn a_blocked_sink_delays_its_lane_alone(net: impl Net) {
    let a = Node::start(net.node("a", |c| c));
    let b = net.node("b", |c| c);
    let (sink, mut calls, mut gossip) = gated(&b);
    let peer = a.transport.peer(b.address()).unwrap();
    peer.tell(blocked(0)).unwrap();
    calls.recv().await.unwrap();
    // Targets of the other lanes, and gossip, all pass while the sink blocks.
    let lanes = |stats: cluster_quic::PeerStats| {
        stats.lanes.iter().filter(|(_, lane)| lane.acknowledged_frames > 0).count()
    };
    for n in 0..64 {
        peer.tell(tell(n)).unwrap();
    }
    peer.send_gossip(&"through").unwrap();
    assert_eq!(gossip.recv().await.unwrap().message, "through");
    until(|| lanes(peer.stats()) >= 3).await;
    sink.open();
    peer.flush().await.unwrap();
    assert_eq!(sink.recorded.len(), 65);
}

/// What happens to lanes that stand still.
async fn stuck(a: &mut Node) -> (Lane, Option<(Duration, u64)>) {
    a.event(|event| match event {
        Event::LaneStuck { lane, stuck_for, pending, .. } => {
            Some((lane, Some((stuck_for, pending))))
        }
        Event::LaneUnstuck { lane, .. } => Some((lane, None)),
        _ => None,
    })
    .await
}

/// Once when it is stuck, and once when it is not any more; the other lanes flow all the while.
pub(crate) async fn a_lane_that_stands_still_is_reported_once(net: impl Net) {
    const AFTER: Duration = Duration::from_secs(1);
    let adapt = |c: ConfigBuilder| c.lane_stuck_after(AFTER).keep_alive(AFTER / 10);
    let mut a = Node::start(net.node("a", adapt));
    let b = net.node("b", adapt);
    let (sink, mut calls, _gossip) = gated(&b);
    let peer = a.transport.peer(b.address()).unwrap();
    peer.tell(blocked(0)).unwrap();
    calls.recv().await.unwrap();
    for n in 1..4 {
        peer.tell(blocked(n)).unwrap();
    }
    let (lane, found) = stuck(&mut a).await;
    let (stuck_for, pending) = found.expect("stuck comes first");
    assert!(stuck_for >= AFTER, "{stuck_for:?}");
    assert_eq!(pending, 4);
    let stats = |a: &Node| {
        let stats = a.stats(b.address());
        let (_, stats) = *stats.lanes.iter().find(|(of, _)| *of == lane).unwrap();
        (stats.stuck_for.is_some(), stats.stuck_episodes)
    };
    assert_eq!(stats(&a), (true, 1));
    assert!(a.stats(b.address()).is_balanced());
    assert!(a.stats(b.address()).tells().stuck_for.is_some_and(|stuck| stuck >= stuck_for));
    // For as long again, and more: nothing is said of it twice, nor of lanes that flow.
    let again = tokio::time::timeout(AFTER * 2, async {
        tokio::join!(stuck(&mut a), async {
            for n in 0.. {
                peer.tell(tell(n)).unwrap();
                tokio::time::sleep(AFTER / 100).await;
            }
        })
    });
    assert!(again.await.is_err(), "reported again");
    assert_eq!(stats(&a), (true, 1));
    sink.open();
    assert_eq!(stuck(&mut a).await, (lane, None));
    peer.flush().await.unwrap();
    assert_eq!(stats(&a), (false, 1));
    assert!(a.stats(b.address()).is_balanced());
}

/// Whom nobody has told where tells go does not handle them, and is alive.
pub(crate) async fn a_peer_that_was_not_started_is_stuck(net: impl Net) {
    let mut a = Node::start(net.node("a", |c| c));
    let b = net.node("b", |c| c);
    a.transport.tell(b.address(), tell(0)).unwrap();
    let (lane, found) = stuck(&mut a).await;
    assert!(matches!(found, Some((_, 1))), "{found:?}");
    // The end of the association ends it too.
    b.shutdown(Duration::from_millis(10)).await;
    assert_eq!(stuck(&mut a).await, (lane, None));
    assert_eq!(a.stats(b.address()).tells().stuck_for, None);
}

pub(crate) async fn bad_calls_are_typed_errors(net: impl Net) {
    let a = Node::start(net.node("a", |c| c.max_peers(1)));
    let own = a.address().clone();
    assert_eq!(a.transport.peer(&own).unwrap_err(), PeerError::Own(own.clone()));
    let error = a.transport.tell(&own, tell(7)).unwrap_err();
    assert!(matches!(error, SendError::Peer { source: PeerError::Own(_), .. }));
    assert_eq!(error.into_inner(), tell(7));
    let to = net.nobody();
    let large = RemoteTell { payload: vec![0; MAX_FRAME], ..tell(0) };
    match a.transport.tell(&to, large) {
        Err(SendError::TooLarge { message, len, .. }) => {
            assert_eq!(message.payload.len(), MAX_FRAME);
            assert!(len > MAX_FRAME);
        }
        other => panic!("{other:?}"),
    }
    let large = "x".repeat(MAX_FRAME);
    assert!(matches!(a.transport.send_gossip(&to, &large), Err(SendError::TooLarge { .. })));
    let other = net.nobody();
    if other != to {
        let error = a.transport.peer(&other).unwrap_err();
        assert_eq!(error, PeerError::TooMany { limit: 1 });
    }
    let (inbox, _gossip) = gossip_inbox::<String>(1);
    assert!(a.transport.start(inbox, RecordingSink::new()).is_err(), "started twice");
    a.transport.shutdown(Duration::from_secs(1)).await;
    assert!(matches!(a.transport.tell(&to, tell(1)), Err(SendError::ShuttingDown(_))));
    assert!(matches!(a.transport.tell(&net.nobody(), tell(1)), Err(SendError::ShuttingDown(_))));
    assert!(matches!(a.transport.send_gossip(&to, &1_u8), Err(SendError::ShuttingDown(()))));
}

pub(crate) async fn unwanted_gossip_of_another_type_costs_the_association(net: impl Net) {
    let mut a = Node::start(net.node("a", |c| c));
    let mut b = Node::start(net.node("b", |c| c));
    a.transport.tell(b.address(), tell(0)).unwrap();
    // b's gossip is of strings; these bytes are none.
    a.transport.send_gossip(b.address(), &[0xff_u8, 0xff, 0xff]).unwrap();
    let from = b
        .event(|event| match event {
            Event::FrameRefused { peer, .. } => Some(peer),
            _ => None,
        })
        .await;
    assert_eq!(from, *a.address());
    let reason = a.down().await;
    assert!(matches!(reason, AssociationError::Protocol(_)), "{reason}");
    // And everything else goes on, over the next one.
    a.transport.tell(b.address(), tell(1)).unwrap();
    a.transport.flush(b.address()).await.unwrap();
    b.check_received(a.address(), 2);
}

pub(crate) async fn gossip_to_nobody_keeps_the_latest(net: impl Net) {
    let a = Node::start(net.node("a", |c| c.gossip_budget(1024)));
    let to = net.nobody();
    for n in 0..1000 {
        a.transport.send_gossip(&to, &format!("gossip {n}")).unwrap();
    }
    let gossip = a.stats(&to).gossip;
    assert!(gossip.queued_bytes <= 1024 && gossip.queued > 10, "{gossip:?}");
    assert_eq!(gossip.accepted, gossip.sent + gossip.dropped + gossip.queued);
}
