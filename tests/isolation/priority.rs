//! The order in which a connection sends what its lanes have written.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::delays::{Delays, Probes, SMALL};
use crate::network::Pipe;
use crate::world::{Nowhere, Probe, World, keep_full, narrow, targets, tell};

/// Ten packets of gossip: in turn with the tells of 16 lanes, each would wait for 16 others, which is
/// 20 ms.
#[tokio::test(start_paused = true)]
async fn gossip_goes_before_the_tells_of_all_lanes() {
    let world = World::new();
    let a = world.node(|c| c.tell_lanes(16), Arc::new(Nowhere));
    let mut b = world.node(|c| c.tell_lanes(16), Arc::new(Nowhere));
    world.join(&a, &b, &narrow());
    let peer = a.connect(&b).await;
    let _tells = keep_full(&peer, &targets(&peer), 16 * 1024);
    let probes = Probes { size: 14_000, every: Duration::from_millis(50), count: 40 };
    Delays::of(probes, &peer, &mut b).await.within(40, 120);
}

/// Without fairness among streams, quinn goes on with the stream that it is in, whatever its priority,
/// for as long as that has something.
#[tokio::test(start_paused = true)]
async fn gossip_goes_before_the_rest_of_a_tell() {
    let world = World::new();
    let a = world.node(|c| c, Arc::new(Nowhere));
    let mut b = world.node(|c| c, Arc::new(Nowhere));
    world.join(&a, &b, &narrow());
    let peer = a.connect(&b).await;
    let _tells = keep_full(&peer, &targets(&peer)[..1], 1 << 20);
    Delays::of(SMALL, &peer, &mut b).await.within(20, 120);
}

/// The gossip lane is opened when all tell lanes are full of what was written before: at 1 Mbit/s a
/// packet takes 12 ms, a round of 16 lanes 190 ms.
#[tokio::test(start_paused = true)]
async fn the_first_gossip_goes_before_what_was_written_earlier() {
    let world = World::new();
    let a = world.node(|c| c.tell_lanes(16), Arc::new(Nowhere));
    let mut b = world.node(|c| c.tell_lanes(16), Arc::new(Nowhere));
    world.join(&a, &b, &Pipe { rate: Some(125_000.0), ..narrow() });
    let peer = a.connect(&b).await;
    let _tells = keep_full(&peer, &targets(&peer), 16 * 1024);
    // Past the connection's startup.
    sleep(Duration::from_secs(10)).await;
    assert_eq!(peer.stats().gossip.accepted, 0);
    let first = Probes { size: 200, every: Duration::from_millis(20), count: 1 };
    Delays::of(first, &peer, &mut b).await.within(70, 70);
}

/// Acknowledgements of tells that come from the peer go before gossip to it.
#[tokio::test(start_paused = true)]
async fn acknowledgements_go_before_gossip() {
    let world = World::new();
    let a = world.node(|c| c, Arc::new(Nowhere));
    let b = world.node(|c| c.gossip_budget(8 << 20), Arc::new(Nowhere));
    world.join(&a, &b, &narrow());
    let (ab, ba) = (a.connect(&b).await, b.connect(&a).await);
    // Three seconds of gossip.
    for n in 0..400 {
        ba.send_gossip(&Probe::new(n, 10_000)).unwrap();
    }
    for _ in 0..20 {
        let begin = Instant::now();
        ab.tell(tell("/user/t", &[])).unwrap();
        ab.flush().await.unwrap();
        let took = begin.elapsed();
        assert!(took < Duration::from_millis(100), "acknowledged after {took:?}");
    }
    assert!(ba.stats().gossip.queued > 0 || a.gossip.len() < 400, "gossip is still under way");
}
