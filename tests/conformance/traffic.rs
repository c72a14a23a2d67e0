//! Gossip and tells, in order, over one association.

use std::time::Duration;

use cluster_quic::{MAX_FRAME, RecordingSink, RemoteTellRef, gossip_inbox};
use serde::{Deserialize, Serialize};

use crate::harness::{Net, Node, tell};

pub(crate) async fn both_directions_share_one_association(net: impl Net) {
    let mut a = Node::start(net.node("a", |c| c));
    let mut b = Node::start(net.node("b", |c| c));
    a.transport.send_gossip(b.address(), &"from a".to_string()).unwrap();
    let heard = b.gossip.recv().await.unwrap();
    assert_eq!((&heard.from, &*heard.message), (a.address(), "from a"));
    b.transport.send_gossip(a.address(), &"from b".to_string()).unwrap();
    assert_eq!(a.gossip.recv().await.unwrap().message, "from b");
    for n in 0..100 {
        a.transport.tell(b.address(), tell(n)).unwrap();
        b.transport.tell(a.address(), tell(n)).unwrap();
    }
    a.transport.flush(b.address()).await.unwrap();
    b.transport.flush(a.address()).await.unwrap();
    for (here, there) in [(&a, &b), (&b, &a)] {
        here.check_received(there.address(), 100);
        here.check_ledger(there.address(), 100);
        let stats = here.stats(there.address());
        assert_eq!(stats.associations, 1);
        assert_eq!(stats.incarnation, Some(there.transport.incarnation()));
        assert_eq!((stats.gossip.sent, stats.gossip.dropped), (1, 0));
    }
    let as_sent = (b.address().clone(), tell(3));
    assert!(a.sink.records().contains(&as_sent), "it arrives as it was sent");
}

pub(crate) async fn order_is_kept_per_target(net: impl Net) {
    let a = Node::start(net.node("a", |c| c.tell_lanes(8)));
    let b = Node::start(net.node("b", |c| c));
    let peer = a.peer(&b);
    for n in 0..20_000 {
        peer.tell_when_ready(&tell(n)).await.unwrap();
    }
    peer.flush().await.unwrap();
    b.check_received(a.address(), 20_000);
    a.check_ledger(b.address(), 20_000);
    let lanes = a.stats(b.address()).lanes;
    let busy = lanes.iter().filter(|(_, lane)| lane.accepted_frames > 0).count();
    assert!(busy > 1, "16 targets spread over {busy} of 8 lanes");
}

pub(crate) async fn a_frame_of_the_largest_size_passes(net: impl Net) {
    let a = Node::start(net.node("a", |c| c));
    let b = Node::start(net.node("b", |c| c));
    let payload = vec![0x5a; MAX_FRAME - 64];
    let large = RemoteTellRef {
        target_path: "/user/large",
        manifest: "bytes",
        payload: &payload,
        sender_path: None,
    };
    a.transport.tell(b.address(), large).unwrap();
    a.transport.tell(b.address(), &tell(0)).unwrap();
    a.transport.flush(b.address()).await.unwrap();
    let records = b.sink.records();
    assert!(records.iter().any(|(_, tell)| tell.payload == payload));
    assert_eq!(records.len(), 2);
}

pub(crate) async fn simultaneous_dials_lose_nothing(net: impl Net) {
    for round in 0..10 {
        let a = Node::start(net.node(&format!("a{round}"), |c| c));
        let b = Node::start(net.node(&format!("b{round}"), |c| c));
        for n in 0..50 {
            a.transport.tell(b.address(), tell(n)).unwrap();
            b.transport.tell(a.address(), tell(n)).unwrap();
        }
        let (one, two) =
            tokio::join!(a.transport.flush(b.address()), b.transport.flush(a.address()));
        one.and(two).unwrap();
        b.check_received(a.address(), 50);
        a.check_received(b.address(), 50);
        for (here, there) in [(&a, &b), (&b, &a)] {
            here.check_ledger(there.address(), 50);
            assert_eq!(here.stats(there.address()).last_error, None, "no failure is reported");
        }
    }
}

pub(crate) async fn what_comes_before_start_waits(net: impl Net) {
    let a = Node::start(net.node("a", |c| c));
    let late = net.node("b", |c| c);
    let peer = a.transport.peer(late.address()).unwrap();
    for n in 0..100 {
        peer.tell(tell(n)).unwrap();
    }
    peer.send_gossip(&"early").unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(200), peer.flush()).await;
    assert!(waiting.is_err(), "nothing is acknowledged without a sink");
    let mut b = Node::start(late);
    peer.flush().await.unwrap();
    b.check_received(a.address(), 100);
    assert_eq!(b.gossip.recv().await.unwrap().message, "early");
}

pub(crate) async fn any_serde_gossip_passes(net: impl Net) {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Pdu {
        Ping { seq: u64, to: Option<String> },
        State(Vec<(String, u32)>),
    }
    let a = Node::start(net.node("a", |c| c));
    let b = net.node("b", |c| c);
    let (inbox, mut gossip) = gossip_inbox::<Pdu>(8);
    b.start(inbox, RecordingSink::new()).unwrap();
    let sent = [
        Pdu::Ping { seq: u64::MAX, to: None },
        Pdu::State((0..1000).map(|n| (format!("node-{n}"), n)).collect()),
    ];
    for pdu in &sent {
        a.transport.send_gossip(b.address(), pdu).unwrap();
    }
    for pdu in sent {
        assert_eq!(gossip.recv().await.unwrap().message, pdu);
    }
}

pub(crate) async fn connecting_waits_for_the_association(net: impl Net) {
    let a = Node::start(net.node("a", |c| c));
    let b = Node::start(net.node("b", |c| c));
    a.peer(&b).connect().await.unwrap();
    let stats = a.stats(b.address());
    assert_eq!((stats.state, stats.associations), (cluster_quic::PeerState::Connected, 1));
    assert_eq!(stats.tells().accepted_frames, 0);
    a.peer(&b).connect().await.unwrap();
    let nobody = a.transport.peer(&net.nobody()).unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(2_500), nobody.connect()).await;
    assert!(waiting.is_err());
    assert!(nobody.stats().last_error.is_some(), "and says why");
    let (ended, _) = tokio::join!(nobody.connect(), a.transport.shutdown(Duration::from_secs(1)));
    assert_eq!(ended, Err(cluster_quic::PeerError::ShuttingDown));
}

pub(crate) async fn flush_without_tells_is_done_at_once(net: impl Net) {
    let a = Node::start(net.node("a", |c| c));
    a.transport.flush(&net.nobody()).await.unwrap();
}
