//! The in-process network's own faults, under a paused clock: cuts, healing, killed nodes, and the
//! same course of events every time.

use std::time::Duration;

use cluster_quic::{
    AssociationError, ClusterTransport, Config, Event, InProcessNetwork, Peer, PeerState,
    RecordingSink, RemoteTell, SendError, gossip_inbox,
};
use std::sync::Arc;
use tokio::time::{Instant, sleep, timeout};

fn node(network: &InProcessNetwork, host: &str) -> (ClusterTransport, Arc<RecordingSink>) {
    let config = Config::builder("test").incarnation(1).build().unwrap();
    reborn(network, host, config)
}

fn reborn(
    network: &InProcessNetwork,
    host: &str,
    config: Config,
) -> (ClusterTransport, Arc<RecordingSink>) {
    let transport = ClusterTransport::in_process(config, network, host).unwrap();
    let sink = RecordingSink::new();
    let (inbox, _) = gossip_inbox::<String>(1);
    transport.start(inbox, sink.clone()).unwrap();
    (transport, sink)
}

fn tell(n: u32) -> RemoteTell {
    RemoteTell {
        target_path: "/user/target".into(),
        manifest: String::new(),
        payload: n.to_le_bytes().to_vec(),
        sender_path: None,
    }
}

fn numbers(sink: &RecordingSink) -> Vec<u32> {
    let number = |payload: &[u8]| u32::from_le_bytes(*payload.first_chunk().unwrap());
    sink.records().iter().map(|(_, tell)| number(&tell.payload)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_silence_and_healing_brings_everything() {
    let network = InProcessNetwork::new();
    let ((a, _), (b, sink)) = (node(&network, "a"), node(&network, "b"));
    let peer = a.peer(b.address()).unwrap();
    let mut events = a.events();
    for n in 0..100 {
        peer.tell(tell(n)).unwrap();
    }
    peer.flush().await.unwrap();
    network.cut(a.address(), b.address());
    for n in 100..200 {
        peer.tell(tell(n)).unwrap();
    }
    let mut dials = 0;
    while dials < 3 {
        match events.recv().await.unwrap() {
            Event::DialFailed { error: AssociationError::NoAnswer(_), .. } => dials += 1,
            Event::DialFailed { error, .. } => panic!("{error}"),
            _ => {}
        }
    }
    assert!(peer.stats().unreachable_for.unwrap() > Duration::from_secs(10));
    assert_eq!(numbers(&sink).len(), 100);
    network.heal(a.address(), b.address());
    peer.flush().await.unwrap();
    assert_eq!(numbers(&sink), (0..200).collect::<Vec<_>>());
    assert_eq!(peer.stats().state, PeerState::Connected);
    assert_eq!(peer.stats().unreachable_for, None);
    let tells = peer.stats().tells();
    assert_eq!((tells.acknowledged_frames, tells.lost_in_all().frames), (200, 0));
}

/// Two nodes, the second of which has received fast and keeps one tell back for a millisecond more. Its clock
/// stands as long as somebody is at work.
struct Fast {
    _a: ClusterTransport,
    b: ClusterTransport,
    sink: Arc<RecordingSink>,
    peer: Peer,
    back: Peer,
    sent: u32,
}

impl Fast {
    const BURST: u32 = 16;

    async fn with_one_kept_back() -> Self {
        let network = InProcessNetwork::new();
        // A burst comes in several reads.
        let config = || Config::builder("test").stream_window(16 * 1024).build().unwrap();
        let (a, _) = reborn(&network, "a", config());
        let (b, sink) = reborn(&network, "b", config());
        let (peer, back) = (a.peer(b.address()).unwrap(), b.peer(a.address()).unwrap());
        let mut fast = Self { _a: a, b, sink, peer, back, sent: 0 };
        for _ in 0..10 {
            (0..Self::BURST).for_each(|_| fast.send(64 * 1024));
            sleep(Duration::from_millis(1)).await;
        }
        timeout(Duration::from_secs(10), fast.peer.flush()).await.unwrap().unwrap();
        (0..Self::BURST).for_each(|_| fast.send(64 * 1024));
        sleep(Duration::from_millis(1)).await;
        fast.until(0, "the sink has all").await;
        fast.send(4);
        fast.until(1, "kept back").await;
        fast
    }

    fn send(&mut self, bytes: usize) {
        let mut next = tell(self.sent);
        next.payload.resize(bytes, 0);
        self.peer.tell(next).unwrap();
        self.sent += 1;
    }

    /// The sink's thread runs in real time.
    async fn until(&self, frames: u64, what: &str) {
        let waiting =
            || self.back.stats().received.iter().map(|(_, lane)| lane.waiting_frames).sum::<u64>();
        let begin = std::time::Instant::now();
        while waiting() != frames {
            assert!(begin.elapsed() < Duration::from_secs(10), "{what}: {} wait", waiting());
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_fast_lane_keeps_back_is_delivered_though_the_association_ends() {
    let fast = Fast::with_one_kept_back().await;
    fast.back.quarantine();
    fast.until(0, "delivered").await;
    assert_eq!(numbers(&fast.sink).len() as u32, fast.sent);
}

/// A shutdown waits for what waits for the sink, and takes nothing more.
#[tokio::test(start_paused = true)]
async fn what_a_fast_lane_keeps_back_holds_up_no_shutdown() {
    for turns in 0..20 {
        let mut fast = Fast::with_one_kept_back().await;
        let kept = fast.sent;
        let node = fast.b.clone();
        let ends = tokio::spawn(async move { node.shutdown(Duration::from_secs(60)).await });
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        // Comes after the last that is taken, and before the one kept back is due.
        fast.send(4);
        let begin = Instant::now();
        ends.await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(5), "turn {turns}: {:?}", begin.elapsed());
        assert!(numbers(&fast.sink).len() as u32 >= kept);
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_node_is_isolated_and_its_address_is_free() {
    let network = InProcessNetwork::new();
    let ((a, _), (b, _)) = (node(&network, "a"), node(&network, "b"));
    let address = b.address().clone();
    assert!(
        ClusterTransport::in_process(Config::builder("test").build().unwrap(), &network, "b")
            .is_err()
    );
    a.tell(&address, tell(0)).unwrap();
    a.flush(&address).await.unwrap();
    let mut events = b.events();
    network.kill(&address);
    // The old process still runs, but reaches nobody.
    while timeout(Duration::from_secs(1), events.recv()).await.unwrap() != Some(Event::SocketFailed)
    {
    }
    b.tell(a.address(), tell(0)).unwrap();
    assert!(timeout(Duration::from_secs(20), b.flush(a.address())).await.is_err());
    let config = Config::builder("test").incarnation(2).build().unwrap();
    let (_reborn, sink) = reborn(&network, "b", config);
    a.tell(&address, tell(1)).unwrap();
    a.flush(&address).await.unwrap();
    assert_eq!(numbers(&sink), [1]);
    assert_eq!(a.peer_stats(&address).unwrap().incarnation, Some(cluster_quic::Incarnation(2)));
}

#[tokio::test(start_paused = true)]
async fn a_quarantine_refuses_tells_at_once() {
    let network = InProcessNetwork::new();
    let ((a, _), (b, sink)) = (node(&network, "a"), node(&network, "b"));
    let peer = a.peer(b.address()).unwrap();
    peer.tell(tell(0)).unwrap();
    peer.flush().await.unwrap();
    peer.quarantine().unwrap();
    // Nothing else has run since.
    assert!(matches!(peer.tell(tell(1)), Err(SendError::Quarantined(_))));
    sleep(Duration::from_secs(1)).await;
    let tells = peer.stats().tells();
    assert_eq!((tells.accepted_frames, tells.lost_in_all().frames), (1, 0));
    assert_eq!(numbers(&sink), [0]);
}

#[tokio::test(start_paused = true)]
async fn an_older_incarnation_is_refused() {
    let network = InProcessNetwork::new();
    let config = |n| Config::builder("test").incarnation(n).build().unwrap();
    let (a, _) = node(&network, "a");
    let (b, _) = reborn(&network, "b", config(9));
    let address = b.address().clone();
    a.tell(&address, tell(0)).unwrap();
    a.flush(&address).await.unwrap();
    network.kill(&address);
    let (old, sink) = reborn(&network, "b", config(8));
    let mut events = old.events();
    old.tell(a.address(), tell(0)).unwrap();
    loop {
        match events.recv().await.unwrap() {
            Event::DialFailed { error: AssociationError::Outdated(text), .. } => {
                assert!(text.contains("#8 is older than the known #9"), "{text}");
                break;
            }
            Event::PeerUp { .. } => panic!("an older incarnation was taken"),
            _ => {}
        }
    }
    assert!(sink.is_empty());
}

/// A node whose members come and go for years: each that was downed would keep a place, and in the end there
/// would be none.
#[tokio::test(start_paused = true)]
async fn a_quarantined_peer_is_forgotten_and_refused_all_the_same() {
    let network = InProcessNetwork::new();
    let config = |n| Config::builder("test").incarnation(n).max_peers(1).build().unwrap();
    let (a, sink) = reborn(&network, "a", config(1));
    let ((b, _), (c, _)) = (node(&network, "b"), node(&network, "c"));
    let address = b.address().clone();
    a.tell(&address, tell(0)).unwrap();
    a.flush(&address).await.unwrap();
    let forgotten = async || {
        let gone = async {
            while !a.peers().is_empty() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(300), gone).await.expect("forgotten");
    };
    let life = a.peer(&address).unwrap().quarantine().unwrap();
    forgotten().await;
    // There is room for another.
    a.tell(c.address(), tell(0)).unwrap();
    a.flush(c.address()).await.unwrap();
    c.shutdown(Duration::from_secs(1)).await;
    forgotten().await;
    // Whoever makes it known again: it is refused, and forgotten again.
    for _ in 0..2 {
        let mut events = b.events();
        let _ = b.tell(a.address(), tell(1));
        loop {
            match events.recv().await.unwrap() {
                Event::DialFailed { error: AssociationError::Quarantined, .. } => break,
                Event::PeerUp { .. } => panic!("it was let in"),
                _ => {}
            }
        }
        let stats = a.peer_stats(&address).unwrap();
        assert_eq!((stats.quarantined, stats.incarnation), (Some(life), Some(life)));
        match a.tell(&address, tell(2)) {
            Err(SendError::Quarantined(back)) => assert_eq!(back, tell(2)),
            other => panic!("{other:?}"),
        }
        // Or it would dial on, and be known as long.
        b.peer(a.address()).unwrap().disconnect();
        network.cut(a.address(), &address);
        forgotten().await;
        network.heal(a.address(), &address);
    }
    assert!(sink.is_empty());
    network.kill(&address);
    let (reborn, sink) = reborn(&network, "b", config(2));
    reborn.peer(a.address()).unwrap().connect().await.unwrap();
    a.tell(&address, tell(3)).unwrap();
    a.flush(&address).await.unwrap();
    assert_eq!(numbers(&sink), [3]);
    assert_eq!(a.peer_stats(&address).unwrap().quarantined, None);
}

/// "As long as it takes."
#[tokio::test(start_paused = true)]
async fn a_deadline_beyond_all_time_is_one() {
    let network = InProcessNetwork::new();
    let ((a, _), (b, sink)) = (node(&network, "a"), node(&network, "b"));
    a.tell(b.address(), tell(0)).unwrap();
    assert!(a.shutdown(Duration::MAX).await.is_clean());
    assert_eq!(numbers(&sink), [0]);
}

/// What happens at a node, and when, while the network misbehaves.
async fn course() -> Vec<String> {
    let network = InProcessNetwork::new();
    let ((a, _), (b, sink)) = (node(&network, "a"), node(&network, "b"));
    let begin = Instant::now();
    let mut events = a.events();
    let peer = a.peer(b.address()).unwrap();
    let mut log = Vec::new();
    for round in 0..20_u32 {
        for n in 0..50 {
            peer.tell(tell(round * 50 + n)).unwrap();
        }
        if round % 3 == 1 {
            network.cut(a.address(), b.address());
        }
        sleep(Duration::from_millis(700)).await;
        network.heal(a.address(), b.address());
    }
    peer.flush().await.unwrap();
    assert_eq!(numbers(&sink), (0..1000).collect::<Vec<_>>());
    while let Ok(Some(event)) = timeout(Duration::ZERO, events.recv()).await {
        log.push(format!("{event:?}"));
    }
    log.push(format!("{:?}", begin.elapsed().as_millis()));
    log
}

#[test]
fn the_course_of_events_is_the_same_every_time() {
    let run = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(course())
    };
    let first = run();
    assert!(first.len() > 8, "{first:?}");
    assert_eq!(run(), first);
    assert_eq!(run(), first);
}
