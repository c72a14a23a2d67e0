//! A receiver whose sinks block. Time is real here: a blocked thread holds the simulated clock.

use std::sync::Arc;

use cluster_quic::{Peer, RemoteTellRef};

use crate::gate::Gate;
use crate::world::{Node, Nowhere, Probe, World, fill, targets, tell, until};

const WINDOW: u64 = 64 * 1024;

fn block(target_path: &str) -> RemoteTellRef<'_> {
    RemoteTellRef { target_path, manifest: "block", payload: &[], sender_path: None }
}

/// Waits until the peer takes no more of the lane: its queue is full, and so is the window before it.
async fn stalled(peer: &Peer, lane: usize) {
    let in_flight = || peer.stats().lanes[lane].1.in_flight_bytes;
    until("a stalled lane", || in_flight() >= 2 * WINDOW).await;
}

fn pair(world: &World, sink: Arc<Gate>) -> (Node, Node) {
    let a = world.node(|c| c.tell_lanes(16).lane_budget(1 << 20), Arc::new(Nowhere));
    let b = world.node(|c| c.tell_lanes(16).stream_window(WINDOW), sink);
    (a, b)
}

/// On a runtime of a single thread, which a sink that runs on it would hold.
#[tokio::test]
async fn sinks_that_block_in_every_lane_delay_no_gossip() {
    let world = World::new();
    let (sink, mut hold) = Gate::new(None);
    let (a, mut b) = pair(&world, sink);
    let peer = a.connect(&b).await;
    let targets = targets(&peer);
    for target in &targets {
        peer.tell(block(target)).unwrap();
    }
    hold.blocks(targets.len()).await;
    fill(&peer, &targets, 1000);
    for lane in 0..targets.len() {
        stalled(&peer, lane).await;
    }
    peer.send_gossip(&Probe::new(1, 200)).unwrap();
    assert_eq!(b.gossip("while every sink blocks").await, 1);
    hold.still_blocks();
}

/// One lane is full as far as its bytes can go; the others, and gossip, go on.
#[tokio::test]
async fn a_lane_that_stands_still_delays_no_other() {
    let world = World::new();
    let (sink, mut hold) = Gate::new(None);
    let (a, mut b) = pair(&world, sink);
    let peer = a.connect(&b).await;
    let targets = targets(&peer);
    peer.tell(block(&targets[0])).unwrap();
    hold.blocks(1).await;
    fill(&peer, &targets[..1], 1000);
    stalled(&peer, 0).await;
    peer.send_gossip(&Probe::new(1, 200)).unwrap();
    assert_eq!(b.gossip("while a lane stands still").await, 1);
    for (lane, target) in targets.iter().enumerate().skip(1) {
        let acknowledged = || peer.stats().lanes[lane].1.pending_frames() == 0;
        // More than the window, so that it has to be granted again.
        for _ in 0..3 {
            let payload = vec![0x5a; WINDOW as usize];
            peer.tell(tell(target, &payload)).unwrap();
        }
        until("another lane's tells are acknowledged", acknowledged).await;
    }
    hold.still_blocks();
}

/// Sinks may hold all blocking threads that the runtime has.
#[test]
fn gossip_needs_no_blocking_thread() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let world = World::new();
        let (sink, mut hold) = Gate::new(None);
        let (a, mut b) = pair(&world, sink);
        let peer = a.connect(&b).await;
        let targets = targets(&peer);
        peer.tell(block(&targets[0])).unwrap();
        hold.blocks(1).await;
        peer.send_gossip(&Probe::new(1, 200)).unwrap();
        assert_eq!(b.gossip("while the only blocking thread is held").await, 1);
        hold.still_blocks();
    });
}
