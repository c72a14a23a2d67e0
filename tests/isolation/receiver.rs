//! A receiver whose sinks block. Time is real here, but for one test: a blocked thread holds the simulated clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cluster_quic::{
    Address, ConfigBuilder, Event, Peer, RemoteMessageSink, RemoteTellRef, Runtime,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep_until, timeout};

use crate::gate::Gate;
use crate::world::{NEVER, Node, Nowhere, Probe, World, fill, targets, tell, until};

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

/// Time goes on though threads are blocked, which holds the simulated clock: until this is dropped.
fn keep_time_going() -> JoinSet<()> {
    let mut clock = JoinSet::new();
    clock.spawn(async {
        loop {
            // Everybody who has something to do is asked once in a step.
            advance(Duration::from_millis(10)).await;
        }
    });
    clock
}

/// A peer that takes no notice of tells is given up after 30 s. One whose sinks block for 70 s is none.
#[tokio::test(start_paused = true)]
async fn sinks_that_block_for_longer_than_a_silence_cost_nothing() {
    const BUDGET: u64 = 256 * 1024;
    let world = World::new();
    let (sink, mut hold) = Gate::new(None);
    let a = world.node(|c| c.tell_lanes(4).lane_budget(BUDGET as usize), Arc::new(Nowhere));
    let mut b = world.node(|c| c.tell_lanes(4).stream_window(WINDOW), sink);
    let (mut events, mut b_events) = (a.transport.events(), b.transport.events());
    let peer = a.connect(&b).await;
    let targets = targets(&peer);
    for target in &targets {
        peer.tell(block(target)).unwrap();
    }
    hold.blocks(targets.len()).await;
    let clock = keep_time_going();
    fill(&peer, &targets, 1000);
    for lane in 0..targets.len() {
        stalled(&peer, lane).await;
    }
    let accepted = peer.stats().tells().accepted_frames;
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    for second in 1..=70 {
        sleep_until(begin + Duration::from_secs(second)).await;
        let sent = Instant::now();
        peer.send_gossip(&Probe::new(second as usize, 200)).unwrap();
        assert_eq!(b.gossip("while every sink blocks").await, second as usize);
        slowest = slowest.max(sent.elapsed());
        // As full as a lane can be, on both sides, and no fuller.
        fill(&peer, &targets, 1000);
        for (lane, figures) in peer.stats().lanes {
            let held = figures.queued_bytes + figures.in_flight_bytes;
            assert!((BUDGET - 2048..=BUDGET).contains(&held), "{lane}: {held} bytes");
        }
        let received = b.transport.peer_stats(a.address()).unwrap().received;
        for (lane, figures) in &received {
            let held = figures.waiting_bytes;
            assert!((WINDOW..=2 * WINDOW).contains(&held), "{lane}: {held} bytes over there");
        }
        assert_eq!(received.len(), targets.len());
    }
    hold.still_blocks();
    assert_eq!(peer.stats().tells().accepted_frames, accepted, "no room for another");
    println!("row 15: sinks blocked for 70 s: gossip took {slowest:?} at most");
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    drop(hold);
    timeout(Duration::from_secs(60), peer.flush()).await.expect("acknowledgements").unwrap();
    drop(clock);
    let stats = peer.stats();
    let tells = stats.tells();
    assert_eq!((tells.acknowledged_frames, tells.lost_in_all().frames), (accepted, 0));
    assert_eq!(stats.associations, 1);
    for events in [&mut events, &mut b_events] {
        while let Ok(event) = timeout(Duration::ZERO, events.recv()).await {
            let over = matches!(event, Some(Event::PeerDown { .. } | Event::TellsLost { .. }));
            assert!(!over, "{event:?}");
        }
    }
}

/// Says that it never blocks, and does: in its first call, and in another.
struct Liar {
    first: Arc<Gate>,
    later: Arc<Gate>,
    calls: AtomicUsize,
}

impl RemoteMessageSink for Liar {
    fn deliver(&self, from: &Address, tell: RemoteTellRef<'_>) {
        if tell.manifest == "block" {
            match self.calls.fetch_add(1, Ordering::Relaxed) {
                0 => self.first.deliver(from, tell),
                _ => self.later.deliver(from, tell),
            }
        }
    }

    fn may_block(&self) -> bool {
        false
    }
}

/// Its worker of the runtime is held once, and gossip with it; after that it is called on other threads.
#[tokio::test]
async fn a_sink_that_blocks_against_its_word_delays_gossip_once() {
    let world = World::new();
    let ((first, mut hold), (later, mut hold_later)) = (Gate::new(None), Gate::new(None));
    let liar = Arc::new(Liar { first, later, calls: AtomicUsize::new(0) });
    let a = world.node(|c| c, Arc::new(Nowhere));
    let own = |c: ConfigBuilder| c.runtime(Runtime::Dedicated { threads: 1 });
    let mut b = world.node(own, liar);
    let peer = a.connect(&b).await;
    peer.tell(block("/user/t")).unwrap();
    hold.blocks(1).await;
    peer.send_gossip(&Probe::new(1, 200)).unwrap();
    let early = timeout(Duration::from_secs(2), b.gossip.recv()).await;
    assert!(early.is_err(), "the only worker is held, and that is what it costs");
    hold.still_blocks();
    drop(hold);
    assert_eq!(b.gossip("when the sink has returned").await, 1);
    timeout(NEVER, peer.flush()).await.expect("acknowledgements").unwrap();
    peer.tell(block("/user/t")).unwrap();
    hold_later.blocks(1).await;
    peer.send_gossip(&Probe::new(2, 200)).unwrap();
    assert_eq!(b.gossip("while the sink blocks again").await, 2);
    hold_later.still_blocks();
}
