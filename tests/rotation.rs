//! Certificates, keys and CA bundles are replaced while tells flow both ways: nothing is lost, doubled or
//! out of order, no association ends, and who is left with the old CA is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cluster_quic::{
    Address, AssociationError, BindError, ClusterTransport, Config, DevCa, Event, Events, Identity,
    Peer, RemoteMessageSink, RemoteTellRef, gossip_inbox,
};
use tokio::time::{sleep, timeout};

/// A certificate of `ca`, and trust in all of `trusted`.
fn identity(ca: &DevCa, trusted: &[&DevCa]) -> Identity {
    let issued = ca.issue(&["127.0.0.1"]).unwrap();
    let bundle: String = trusted.iter().map(|ca| ca.certificate()).collect();
    Identity::from_pem(issued.chain.as_bytes(), issued.key.as_bytes(), bundle.as_bytes()).unwrap()
}

/// Takes tells that are numbered from 0, and nothing else.
#[derive(Default)]
struct InOrder {
    next: AtomicU64,
    wrong: AtomicU64,
}

impl RemoteMessageSink for InOrder {
    fn deliver(&self, _: &Address, tell: RemoteTellRef<'_>) {
        let number = u64::from_le_bytes(tell.payload.try_into().unwrap());
        let expected = self.next.fetch_add(1, Ordering::Relaxed);
        self.wrong.fetch_add(u64::from(number != expected), Ordering::Relaxed);
    }
}

struct Node {
    transport: ClusterTransport,
    sink: Arc<InOrder>,
    events: Events,
}

impl Node {
    fn start(identity: &Identity) -> Self {
        let config =
            Config::builder("test").backoff_min(Duration::from_millis(10)).build().unwrap();
        let transport = ClusterTransport::bind(config, identity).unwrap();
        let (sink, events) = (Arc::new(InOrder::default()), transport.events());
        transport.start(gossip_inbox::<()>(1).0, Arc::clone(&sink)).unwrap();
        Self { transport, sink, events }
    }

    fn peer(&self, other: &Self) -> Peer {
        self.transport.peer(other.transport.address()).unwrap()
    }
}

/// Tells until it is over; how many.
async fn tell(peer: Peer, over: Arc<AtomicBool>) -> u64 {
    let mut number = 0_u64;
    while !over.load(Ordering::Relaxed) {
        let payload = &number.to_le_bytes();
        let tell = RemoteTellRef { target_path: "/one", manifest: "n", payload, sender_path: None };
        peer.tell_when_ready(tell).await.unwrap();
        number += 1;
        if number.is_multiple_of(1000) {
            tokio::task::yield_now().await;
        }
    }
    number
}

/// Waits until the pair has changed over to another connection `times` more.
async fn changed_over(peers: [&Peer; 2], before: [u64; 2], times: u64) {
    let done = |n: usize| peers[n].stats().associations >= before[n] + times;
    timeout(Duration::from_secs(20), async {
        while !(done(0) && done(1)) {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("a renewal takes a second");
}

#[tokio::test]
async fn certificates_are_replaced_under_load() {
    let (old, new) = (DevCa::new("old").unwrap(), DevCa::new("new").unwrap());
    let mut a = Node::start(&identity(&old, &[&old]));
    let mut b = Node::start(&identity(&old, &[&old]));
    let (ab, ba) = (a.peer(&b), b.peer(&a));
    ab.connect().await.unwrap();
    ba.connect().await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let sending = [&ab, &ba].map(|peer| tokio::spawn(tell(peer.clone(), Arc::clone(&over))));

    // Trust in both, then certificates of the new one, then trust in the new one alone; both nodes at once,
    // and one after the other.
    let both = [&old, &new];
    let steps = [
        [Some(identity(&old, &both)), Some(identity(&old, &both))],
        [Some(identity(&new, &both)), None],
        [None, Some(identity(&new, &both))],
        [Some(identity(&new, &[&new])), Some(identity(&new, &[&new]))],
    ];
    for step in &steps {
        let before = [&ab, &ba].map(|peer| peer.stats().associations);
        for (node, identity) in [&a, &b].into_iter().zip(step) {
            if let Some(identity) = identity {
                node.transport.renew(identity).unwrap();
            }
        }
        changed_over([&ab, &ba], before, 1).await;
    }
    over.store(true, Ordering::Relaxed);
    let [there, back] = sending;
    let sent = [there.await.unwrap(), back.await.unwrap()];
    ab.flush().await.unwrap();
    ba.flush().await.unwrap();
    for (peer, sink, sent) in [(&ab, &b.sink, sent[0]), (&ba, &a.sink, sent[1])] {
        let tells = peer.stats().tells();
        assert!(peer.stats().is_balanced(), "{tells:?}");
        assert_eq!((tells.acknowledged_frames, tells.lost_in_all().frames), (sent, 0));
        assert_eq!(sink.next.load(Ordering::Relaxed), sent, "each once");
        assert_eq!(sink.wrong.load(Ordering::Relaxed), 0, "in order");
    }
    println!("{} and {} tells, {} associations", sent[0], sent[1], ab.stats().associations);

    // Who was not told keeps the old CA, and is out.
    let late = Node::start(&identity(&old, &both));
    late.peer(&a).send_gossip(&()).unwrap();
    let mut events = late.events;
    let refused = timeout(Duration::from_secs(5), events.recv()).await.unwrap();
    assert!(
        matches!(refused, Some(Event::DialFailed { error: AssociationError::Certificate(_), .. })),
        "{refused:?}"
    );

    // No association has ended in all of this.
    for node in [&mut a, &mut b] {
        node.transport.shutdown(Duration::from_secs(5)).await;
        while let Some(event) = node.events.recv().await {
            match event {
                Event::PeerDown { reason, .. } => assert!(
                    matches!(reason, AssociationError::ShuttingDown | AssociationError::Goodbye),
                    "{reason}"
                ),
                Event::PeerUp { .. }
                | Event::IncomingRefused { .. } // that of `late`
                | Event::IdentityRenewed { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn an_identity_that_cannot_be_used_changes_nothing() {
    let ca = DevCa::new("rotation").unwrap();
    let (a, b) = (Node::start(&identity(&ca, &[&ca])), Node::start(&identity(&ca, &[&ca])));
    let peer = a.peer(&b);
    peer.connect().await.unwrap();
    let error = a.transport.renew(&ca.identity(&["elsewhere.example"]).unwrap()).unwrap_err();
    assert!(matches!(error, BindError::OwnName { .. }), "{error}");
    let number = 0_u64.to_le_bytes();
    peer.tell(RemoteTellRef {
        target_path: "/one",
        manifest: "n",
        payload: &number,
        sender_path: None,
    })
    .unwrap();
    peer.flush().await.unwrap();
    assert_eq!(peer.stats().associations, 1);
}
