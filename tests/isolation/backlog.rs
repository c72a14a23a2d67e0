//! What is queued at the sender, and what has been sent and stands in the network's queue.

use std::sync::Arc;
use std::time::Duration;

use cluster_quic::{MAX_FRAME, Peer};
use tokio::time::Instant;

use crate::delays::{Delays, Probes, SMALL};
use crate::network::Pipe;
use crate::world::{Nowhere, Timed, World, fill, keep_full, narrow, targets, tell, until};

/// Gossip's delays while `queue` has queued tells, over a narrow link; and how many bytes of tells
/// still waited at the end.
async fn beside(queue: impl FnOnce(&Peer)) -> (Delays, u64) {
    let world = World::new();
    let a = world.node(|c| c, Arc::new(Nowhere));
    let mut b = world.node(|c| c, Arc::new(Nowhere));
    world.join(&a, &b, &narrow());
    let peer = a.connect(&b).await;
    queue(&peer);
    let delays = Delays::of(SMALL, &peer, &mut b).await;
    let tells = peer.stats().tells();
    (delays, tells.queued_bytes + tells.in_flight_bytes)
}

#[tokio::test(start_paused = true)]
async fn gossip_takes_as_long_beside_any_number_of_tells() {
    let tells = |n: usize| {
        move |peer: &Peer| {
            let targets = targets(peer);
            for target in targets.iter().cycle().take(n) {
                peer.tell(tell(target, &[0x5a; 64])).unwrap();
            }
        }
    };
    let (delays, _) = beside(tells(1)).await;
    delays.within(12, 12);
    let (delays, left) = beside(tells(100_000)).await;
    assert!(left > 1 << 20, "{left} bytes");
    delays.within(20, 120);
    // As much as the lanes take: 128 MiB.
    let (delays, left) = beside(|peer| fill(peer, &targets(peer), 16 * 1024)).await;
    assert!(left > 120 << 20, "{left} bytes");
    delays.within(20, 120);
}

#[tokio::test(start_paused = true)]
async fn a_node_s_budget_is_no_matter_of_gossip_s() {
    let world = World::new();
    let a = world.node(|c| c.node_budget(17 << 20), Arc::new(Nowhere));
    let mut b = world.node(|c| c, Arc::new(Nowhere));
    let mut c = world.node(|c| c, Arc::new(Nowhere));
    for node in [&b, &c] {
        world.join(&a, node, &narrow());
    }
    let (to_b, to_c) = (a.connect(&b).await, a.connect(&c).await);
    let paths = targets(&to_b);
    // Including the last byte.
    fill(&to_b, &paths, 16 * 1024);
    fill(&to_b, &paths, 0);
    assert!(to_c.tell(tell(&paths[0], &[])).unwrap_err().is_full());
    Delays::of(SMALL, &to_b, &mut b).await.within(20, 120);
    fill(&to_b, &paths, 0);
    Delays::of(SMALL, &to_c, &mut c).await.within(12, 12);
}

/// quinn's send buffer is slow in many small segments, under a lock that gossip needs too.
#[tokio::test(start_paused = true)]
async fn a_writer_whose_lane_is_full_of_small_segments_waits_for_more() {
    let world = World::new();
    let a = world.node(|c| c.tell_lanes(1), Arc::new(Nowhere));
    let b = world.node(|c| c, Arc::new(Nowhere));
    world.join(&a, &b, &narrow());
    let peer = a.connect(&b).await;
    let tells = || peer.stats().tells();
    peer.tell(tell("/user/t", &[])).unwrap();
    until("the writer waits", || tells().queued_frames == 0).await;
    // No time passes meanwhile, so nothing is acknowledged.
    for _ in 0..10_000 {
        peer.tell(tell("/user/t", &[0x5a; 64])).unwrap();
        // The writer's turn.
        tokio::task::yield_now().await;
    }
    let in_flight = tells().in_flight_frames;
    assert!((50..100).contains(&in_flight), "{in_flight} segments of 80 bytes");
    let begin = Instant::now();
    peer.flush().await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

/// Over a link of 40 Mbit/s, on which a tell of 16 MiB takes 3.4 s.
#[tokio::test(start_paused = true)]
async fn tells_of_16_mib_delay_their_own_lane_alone() {
    let world = World::new();
    let a = world.node(|c| c, Arc::new(Nowhere));
    let (sink, mut small) = Timed::new();
    let mut b = world.node(|c| c, sink);
    world.join(&a, &b, &Pipe { rate: Some(5_000_000.0), ..narrow() });
    let peer = a.connect(&b).await;
    let paths = targets(&peer);
    peer.flush().await.unwrap();
    let large = || peer.stats().lanes[0].1;
    let before = large().acknowledged_frames;
    let _tells = keep_full(&peer, &paths[..1], MAX_FRAME - 64);
    let probes = Probes { count: 60, ..SMALL };
    Delays::of_tells(probes, &peer, &paths[1], &mut small).await.within(20, 120);
    Delays::of(probes, &peer, &mut b).await.within(20, 120);
    assert_eq!(large().acknowledged_frames, before, "the first is under way all the time");
    assert!(large().in_flight_bytes > 0);
}
