//! Quarantine, and what becomes of lost tells.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster_quic::{AssociationError, DeadLetter, Event, LostReason, RemoteTell, SendError};

use crate::harness::{Net, Node, number, tell, until};

const MS: fn(u64) -> Duration = Duration::from_millis;

pub(crate) async fn a_quarantined_peer_is_refused_until_it_restarts(net: impl Net) {
    let mut a = Node::start(net.node("a", |c| c));
    let mut b = Node::start(net.node("b", |c| c));
    let (address, life) = (b.address().clone(), b.transport.incarnation());
    let peer = a.peer(&b);
    assert_eq!(peer.quarantine(), None, "nothing is known of it yet");
    let letters = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&letters);
    a.transport
        .dead_letters(move |letter| {
            keep.lock().unwrap().push((number(letter.tell.payload), letter.reason));
        })
        .unwrap();
    for n in 0..100 {
        peer.tell(tell(n)).unwrap();
    }
    peer.flush().await.unwrap();
    peer.tell(tell(100)).unwrap();
    assert_eq!(peer.quarantine(), Some(life));
    let quarantined = |event| match event {
        Event::PeerQuarantined { incarnation, .. } => Some(incarnation),
        _ => None,
    };
    assert_eq!(a.event(quarantined).await, life);
    assert_eq!(b.down().await, AssociationError::Quarantined, "it is told why");
    assert_eq!(peer.stats().quarantined, Some(life));
    match peer.tell(tell(101)) {
        Err(SendError::Quarantined(back)) => assert_eq!(back, tell(101)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(peer.tell_when_ready(tell(101)).await, Err(SendError::Quarantined(_))));
    // Its own dials are refused, and do not come fast.
    b.transport.tell(a.address(), tell(0)).unwrap();
    let refused = a
        .event(|event| match event {
            Event::IncomingRefused { error, .. } => Some(error),
            _ => None,
        })
        .await;
    assert_eq!(refused, AssociationError::Quarantined);
    assert!(a.sink.is_empty());
    // What was not acknowledged is accounted for, and given back.
    let tells = peer.stats().tells();
    assert!(peer.stats().is_balanced() && tells.pending_frames() == 0, "{tells:?}");
    let lost = tells.lost(LostReason::Quarantined).frames;
    assert_eq!(tells.acknowledged_frames + lost, 101);
    until(|| letters.lock().unwrap().len() as u64 == lost).await;
    assert!(letters.lock().unwrap().iter().all(|(_, why)| *why == LostReason::Quarantined));

    // As another incarnation it is welcome.
    b.transport.shutdown(Duration::ZERO).await;
    let b = Node::start(net.reborn(&address, |c| c));
    peer.send_gossip(&"are you there?").unwrap();
    until(|| peer.stats().quarantined.is_none()).await;
    peer.tell(tell(102)).unwrap();
    peer.flush().await.unwrap();
    b.check_received(a.address(), 1);
}

pub(crate) async fn what_is_lost_in_a_drain_is_given_back(net: impl Net) {
    let a = Node::start(net.node("a", |c| c.dial_timeout(MS(100))));
    let letters = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&letters);
    let hook = move |letter: DeadLetter<'_>| {
        assert_eq!((letter.reason, letter.sent), (LostReason::ShutDown, false));
        keep.lock().unwrap().push(letter.tell.to_owned());
    };
    a.transport.dead_letters(hook).unwrap();
    assert!(a.transport.dead_letters(|_| {}).is_err(), "set once");
    let to = net.nobody();
    let tells: Vec<_> =
        (0..10).map(|n| RemoteTell { target_path: "/one".into(), ..tell(n) }).collect();
    for tell in &tells {
        a.transport.tell(&to, tell).unwrap();
    }
    let report = a.transport.shutdown(MS(200)).await;
    assert_eq!(report.lost.iter().map(|(_, lost)| lost.frames).sum::<u64>(), 10);
    assert_eq!(*letters.lock().unwrap(), tells, "before the shutdown returns");
}
