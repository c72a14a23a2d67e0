//! One peer's backlog, or silence, against the others.

use std::sync::Arc;
use std::time::Duration;

use cluster_quic::RemoteTellRef;
use tokio::time::{Instant, timeout};

use crate::gate::Gate;
use crate::network::Pipe;
use crate::world::{NEVER, Nowhere, Probe, World, fill, targets, tell, until};

/// `a` floods `b`, whose sink blocks for `a`'s tells; `c` talks to both.
#[tokio::test]
async fn a_peer_that_takes_nothing_delays_no_other() {
    let world = World::new();
    let mut a = world.node(|c| c.lane_budget(1 << 20), Arc::new(Nowhere));
    let (sink, mut hold) = Gate::new(Some(a.address().clone()));
    let mut b = world.node(|c| c.stream_window(64 * 1024), sink);
    let mut c = world.node(|c| c, Arc::new(Nowhere));
    let (ab, ac) = (a.connect(&b).await, a.connect(&c).await);
    let (cb, ca) = (c.connect(&b).await, c.connect(&a).await);
    let targets = targets(&ab);
    for target in &targets {
        let block = RemoteTellRef { manifest: "block", ..tell(target, &[]) };
        ab.tell(block).unwrap();
        hold.blocks(1).await;
    }
    fill(&ab, &targets, 1000);
    until("it takes nothing more", || {
        ab.stats().lanes.iter().all(|(_, lane)| lane.in_flight_bytes >= 2 * 64 * 1024)
    })
    .await;
    for (peer, what) in [(&ac, "a to c"), (&cb, "c to b"), (&ca, "c to a")] {
        for target in &targets {
            // Past every window.
            for _ in 0..3 {
                peer.tell(tell(target, &[0x5a; 40_000])).unwrap();
            }
        }
        timeout(NEVER, peer.flush()).await.unwrap_or_else(|_| panic!("no tells {what}")).unwrap();
    }
    for (number, peer) in [&ab, &ac, &cb, &ca].into_iter().enumerate() {
        peer.send_gossip(&Probe::new(number, 200)).unwrap();
    }
    let mut heard = [b.gossip("from a").await, b.gossip("from c").await];
    heard.sort();
    assert_eq!(heard, [0, 2]);
    assert_eq!(c.gossip("from a").await, 1);
    assert_eq!(a.gossip("from c").await, 3);
    hold.still_blocks();
}

/// Ten nodes have begun to connect and hear nothing of the answers; an eleventh connects at once.
#[tokio::test(start_paused = true)]
async fn handshakes_that_stand_still_delay_nobody_s() {
    let world = World::new();
    let mut a = world.node(|c| c, Arc::new(Nowhere));
    let silent: Vec<_> = (0..10).map(|_| world.node(|c| c, Arc::new(Nowhere))).collect();
    let mut arrived = Vec::new();
    for node in &silent {
        let [to, from] = world.join(node, &a, &Pipe::default());
        world.network.change(from, |pipe| pipe.cut = true);
        node.peer(&a).tell(tell("/user/t", &[])).unwrap();
        arrived.push(to);
    }
    let all = || arrived.iter().all(|pipe| world.network.counts(*pipe).packets > 0);
    until("all have begun", all).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let b = world.node(|c| c, Arc::new(Nowhere));
    let begin = Instant::now();
    let peer = b.connect(&a).await;
    peer.send_gossip(&Probe::new(1, 200)).unwrap();
    assert_eq!(a.gossip("from a node that connects").await, 1);
    assert!(begin.elapsed() < Duration::from_millis(100), "{:?}", begin.elapsed());
}
