//! Cuts, restarts, strangers, and the end of a node.

use std::time::Duration;

use cluster_quic::{
    Address, AssociationError, Event, FlushError, LaneStats, LostReason, PairStats, Peer,
    PeerState, RecordingSink, RemoteMessageSink, RemoteTellRef, SendError, gossip_inbox,
};

use crate::harness::{Net, Node, number, tell, until};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn stands(peer: &Peer, after: u64) -> bool {
    let stats = peer.stats();
    stats.associations > after && stats.state == PeerState::Connected
}

pub(crate) async fn tells_survive_any_number_of_cuts(net: impl Net) {
    let a = Node::start(net.node("a", |c| c));
    let b = Node::start(net.node("b", |c| c));
    let (ab, ba) = (a.peer(&b), b.peer(&a));
    let mut cuts = (0, 0);
    for n in 0..10_000 {
        ab.tell_when_ready(tell(n)).await.unwrap();
        ba.tell_when_ready(tell(n)).await.unwrap();
        if n % 50 == 0 {
            tokio::task::yield_now().await;
        }
        if n % 1000 == 500 {
            // Once the next association stands, so that there is something to cut, by either side.
            until(|| stands(&ab, cuts.0) && stands(&ba, cuts.1)).await;
            cuts = (ab.stats().associations, ba.stats().associations);
            if n % 2000 == 500 { ab.disconnect() } else { ba.disconnect() }
        }
    }
    let (one, two) = tokio::join!(ab.flush(), ba.flush());
    one.and(two).unwrap();
    a.check_received(b.address(), 10_000);
    b.check_received(a.address(), 10_000);
    a.check_ledger(b.address(), 10_000);
    b.check_ledger(a.address(), 10_000);
    assert!(a.stats(b.address()).associations > 10);
}

pub(crate) async fn a_restarted_peer_gets_only_what_was_never_sent(net: impl Net) {
    let mut a = Node::start(net.node("a", |c| c));
    // No sink: what is sent stays unacknowledged.
    let old = net.node("b", |c| c.stream_window(64 * 1024));
    let address = old.address().clone();
    let peer = a.transport.peer(&address).unwrap();
    for n in 0..2_000 {
        peer.tell(tell(n)).unwrap();
    }
    until(|| peer.stats().tells().in_flight_frames > 0).await;
    let first_life = old.incarnation();
    old.shutdown(Duration::ZERO).await;
    drop(old);
    until(|| peer.stats().state != PeerState::Connected).await;
    let sent = peer.stats().tells().in_flight_frames;
    let b = Node::start(net.reborn(&address, |c| c));
    assert!(b.transport.incarnation() > first_life);
    for n in 2_000..2_100 {
        peer.tell(tell(n)).unwrap();
    }
    let lost = a
        .event(|event| match event {
            Event::TellsLost { frames, reason, .. } => {
                assert_eq!(reason, LostReason::PeerRestarted);
                Some(frames)
            }
            Event::PeerRestarted { old, new, .. } => {
                assert_eq!((old, new), (first_life, b.transport.incarnation()));
                None
            }
            _ => None,
        })
        .await;
    assert!(lost > 0);
    let _ = peer.flush().await;
    let tells = peer.stats().tells();
    assert_eq!(tells.lost(LostReason::PeerRestarted).frames, sent);
    assert_eq!(tells.acknowledged_frames, 2_100 - sent);
    assert_eq!(
        b.sink.len() as u64,
        2_100 - sent,
        "the new life gets what the old one was never sent"
    );
    let stats = peer.stats();
    assert!(stats.is_balanced(), "{stats:?}");
    let sum = |of: fn(&PairStats) -> LaneStats| {
        stats.pairs.iter().map(|(_, pairs)| of(pairs).accepted_frames).sum::<u64>()
    };
    assert_eq!(
        (sum(|pairs| pairs.former), sum(|pairs| pairs.current)),
        (sent, 2_100 - sent),
        "each life's pair has what it was sent"
    );
}

pub(crate) async fn another_cluster_is_refused_on_both_sides(net: impl Net) {
    let mut a =
        Node::start(net.node("a", |c| c.cluster("one").backoff_max(Duration::from_secs(10))));
    let mut b = Node::start(net.node("b", |c| c.cluster("two")));
    a.transport.tell(b.address(), tell(0)).unwrap();
    let (error, retry_in) = a
        .event(|event| match event {
            Event::DialFailed { error, retry_in, .. } => Some((error, retry_in)),
            _ => None,
        })
        .await;
    assert!(matches!(error, AssociationError::Cluster(_)), "{error}");
    assert!(retry_in >= Duration::from_secs(5), "no storm: {retry_in:?}");
    let refused = b
        .event(|event| match event {
            Event::IncomingRefused { error, .. } => Some(error),
            _ => None,
        })
        .await;
    assert!(matches!(refused, AssociationError::Cluster(_)), "{refused}");
    assert!(b.sink.is_empty());
}

pub(crate) async fn an_unreachable_peer_s_tells_expire(net: impl Net) {
    let a = Node::start(net.node("a", |c| c.retention(MS(1_500)).dial_timeout(MS(100))));
    let to = net.nobody();
    for n in 0..100 {
        a.transport.tell(&to, tell(n)).unwrap();
    }
    assert_eq!(a.transport.flush(&to).await, Err(FlushError::Lost { frames: 100 }));
    let stats = a.stats(&to);
    assert_eq!(stats.tells().lost(LostReason::Expired).frames, 100);
    assert!(stats.is_balanced());
    assert!(matches!(stats.last_error, Some(AssociationError::NoAnswer(_))), "{stats:?}");
}

pub(crate) async fn an_idle_association_is_released_and_comes_back(net: impl Net) {
    let mut a = Node::start(net.node("a", |c| c.idle_release(Some(MS(400)))));
    let mut b = Node::start(net.node("b", |c| c));
    a.transport.tell(b.address(), tell(0)).unwrap();
    for node in [&mut a, &mut b] {
        let reason = node.down().await;
        assert_eq!(reason, AssociationError::Idle);
    }
    // Its sequence numbers go on where they were.
    b.transport.tell(a.address(), tell(0)).unwrap();
    a.transport.tell(b.address(), tell(1)).unwrap();
    b.transport.flush(a.address()).await.unwrap();
    a.transport.flush(b.address()).await.unwrap();
    b.check_received(a.address(), 2);
    a.check_ledger(b.address(), 2);
    assert_eq!(a.stats(b.address()).tells().resent_frames, 0);
}

pub(crate) async fn a_drain_delivers_everything(net: impl Net) {
    let mut a = Node::start(net.node("a", |c| c));
    let mut b = Node::start(net.node("b", |c| c));
    for n in 0..10_000 {
        a.transport.tell(b.address(), tell(n)).unwrap();
    }
    a.transport.send_gossip(b.address(), &"leaving").unwrap();
    let report = a.transport.shutdown(Duration::from_secs(20)).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.acknowledged, 10_000);
    b.check_received(a.address(), 10_000);
    assert_eq!(b.gossip.recv().await.unwrap().message, "leaving");
    let reason = b.down().await;
    assert_eq!(reason, AssociationError::Goodbye, "a clean end is no failure");
    assert!(a.transport.shutdown(Duration::ZERO).await.is_clean(), "a second call tells the same");
    a.event(|event| matches!(event, Event::PeerUp { .. }).then_some(())).await;
}

pub(crate) async fn both_sides_drain(net: impl Net) {
    let a = Node::start(net.node("a", |c| c));
    let b = Node::start(net.node("b", |c| c));
    for n in 0..1_000 {
        a.transport.tell(b.address(), tell(n)).unwrap();
        b.transport.tell(a.address(), tell(n)).unwrap();
    }
    let limit = Duration::from_secs(5);
    let (one, two) = tokio::join!(a.transport.shutdown(limit), b.transport.shutdown(limit));
    for (report, receiver) in [(one, &b), (two, &a)] {
        let lost: u64 = report.lost.iter().map(|(_, lost)| lost.frames).sum();
        assert_eq!(report.acknowledged + lost, 1_000);
        assert!(receiver.sink.len() as u64 >= report.acknowledged);
    }
}

pub(crate) async fn dropping_the_last_handle_says_goodbye(net: impl Net) {
    let a = Node::start(net.node("a", |c| c));
    let mut b = Node::start(net.node("b", |c| c));
    a.transport.tell(b.address(), tell(0)).unwrap();
    a.transport.flush(b.address()).await.unwrap();
    drop(a);
    let reason = b.down().await;
    assert_eq!(reason, AssociationError::Goodbye);
}

pub(crate) async fn a_panicking_sink_is_reported(net: impl Net) {
    struct Panics(RecordingSink);
    impl RemoteMessageSink for Panics {
        fn deliver(&self, from: &Address, tell: RemoteTellRef<'_>) {
            assert_ne!(number(tell.payload), 5, "the sink's own bug, on purpose");
            self.0.deliver(from, tell);
        }
    }
    let a = Node::start(net.node("a", |c| c));
    let b = net.node("b", |c| c);
    let mut events = b.events();
    let sink = std::sync::Arc::new(Panics(RecordingSink::default()));
    let (inbox, _gossip) = gossip_inbox::<String>(1);
    b.start(inbox, sink.clone()).unwrap();
    for n in 0..10 {
        a.transport.tell(b.address(), tell(n)).unwrap();
    }
    a.transport.flush(b.address()).await.unwrap();
    assert_eq!(sink.0.len(), 9);
    loop {
        if let Event::SinkPanicked { peer, .. } = events.recv().await.unwrap() {
            assert_eq!(peer, *a.address());
            break;
        }
    }
    assert_eq!(a.stats(b.address()).associations, 1);
}

pub(crate) async fn a_node_that_shuts_down_under_load_acknowledges_what_it_took(net: impl Net) {
    let mut a = Node::start(net.node("a", |c| c));
    let b = Node::start(net.node("b", |c| c));
    let peer = a.peer(&b);
    peer.tell(tell(0)).unwrap();
    peer.flush().await.unwrap();
    for n in 1..20_000 {
        peer.tell(tell(n)).unwrap();
    }
    until(|| b.sink.len() > 100).await;
    b.transport.shutdown(Duration::from_secs(5)).await;
    let reason = a.down().await;
    assert_eq!(reason, AssociationError::Goodbye, "a clean end is no breach");
    let tells = peer.stats().tells();
    assert_eq!(tells.acknowledged_frames, b.sink.len() as u64, "delivered is acknowledged");
    assert!(peer.stats().is_balanced(), "{tells:?}");
}

pub(crate) async fn a_report_counts_every_loss_of_the_drain(net: impl Net) {
    let a = Node::start(net.node("a", |c| c.retention(MS(500)).dial_timeout(MS(100))));
    let to = net.nobody();
    for n in 0..10 {
        a.transport.tell(&to, tell(n)).unwrap();
    }
    // They expire long before the deadline.
    let report = a.transport.shutdown(Duration::from_secs(10)).await;
    assert!(!report.is_clean());
    assert_eq!(report.lost.iter().map(|(_, lost)| lost.frames).sum::<u64>(), 10);
    assert_eq!(report.acknowledged, 0);
}

pub(crate) async fn after_a_shutdown_the_address_is_free_and_events_end(net: impl Net) {
    let a = Node::start(net.node("a", |c| c));
    let b = Node::start(net.node("b", |c| c));
    // Handles that outlive the node.
    let (ab, ba) = (a.peer(&b), b.peer(&a));
    ab.tell(tell(0)).unwrap();
    ba.tell(tell(0)).unwrap();
    let (one, two) = tokio::join!(ab.flush(), ba.flush());
    one.and(two).unwrap();
    let address = b.address().clone();
    let Node { transport, mut events, .. } = b;
    let report = transport.shutdown(Duration::from_secs(30)).await;
    // Not for the deadline; how soon is measured where time is simulated.
    assert!(report.took < MS(10_000), "nothing is left to wait for: {report:?}");
    while events.recv().await.is_some() {}
    assert!(transport.events().recv().await.is_none());
    let again = net.reborn(&address, |c| c);
    assert_eq!(again.address(), &address);
    assert!(matches!(ba.tell(tell(1)), Err(SendError::ShuttingDown(_))));
}

pub(crate) async fn the_last_gossip_is_sent_before_goodbye(net: impl Net) {
    let mut b = Node::start(net.node("b", |c| c));
    for round in 0..20 {
        let a = Node::start(net.node(&format!("a{round}"), |c| c));
        a.transport.tell(b.address(), tell(0)).unwrap();
        a.transport.flush(b.address()).await.unwrap();
        a.transport.send_gossip(b.address(), &"leaving").unwrap();
        a.transport.shutdown(Duration::from_secs(5)).await;
        let gossip = tokio::time::timeout(Duration::from_secs(5), b.gossip.recv()).await;
        assert_eq!(gossip.expect("it was sent").unwrap().from, *a.address());
    }
}

pub(crate) async fn peers_that_are_not_needed_are_forgotten(net: impl Net) {
    let adapt = |c: cluster_quic::ConfigBuilder| c.max_peers(2).retention(MS(1_000));
    let mut b = Node::start(net.node("b", adapt));
    for round in 0..3 {
        // Strangers come and go, up to the limit.
        for n in 0..2 {
            let stranger = Node::start(net.node(&format!("stranger-{round}-{n}"), |c| c));
            stranger.transport.tell(b.address(), tell(0)).unwrap();
            stranger.transport.flush(b.address()).await.unwrap();
            stranger.transport.shutdown(Duration::from_secs(1)).await;
            b.down().await;
        }
        until(|| b.transport.peers().is_empty()).await;
    }
    // And one that is remembered by the other side is met again as if it was new.
    let a = Node::start(net.node("a", |c| c.idle_release(Some(MS(300)))));
    a.transport.tell(b.address(), tell(0)).unwrap();
    a.transport.flush(b.address()).await.unwrap();
    b.down().await;
    until(|| b.transport.peers().is_empty()).await;
    a.transport.tell(b.address(), tell(1)).unwrap();
    a.transport.flush(b.address()).await.unwrap();
    b.check_received(a.address(), 2);
    a.check_ledger(b.address(), 2);
}
