//! The in-process network's own faults, under a paused clock: cuts, healing, killed nodes, and the
//! same course of events every time.

use std::time::Duration;

use cluster_quic::{
    AssociationError, ClusterTransport, Config, Event, InProcessNetwork, PeerState, RecordingSink,
    RemoteTell, SendError, gossip_inbox,
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

/// A lane that receives fast keeps tells back for a millisecond; here that never passes.
#[tokio::test(start_paused = true)]
async fn what_a_fast_lane_keeps_back_is_delivered_though_the_association_ends() {
    let network = InProcessNetwork::new();
    let ((a, _), (b, sink)) = (node(&network, "a"), node(&network, "b"));
    let (peer, back) = (a.peer(b.address()).unwrap(), b.peer(a.address()).unwrap());
    let mut sent = 0;
    let mut send = |bytes: usize| {
        let mut next = tell(sent);
        next.payload.resize(bytes, 0);
        peer.tell(next).unwrap();
        sent += 1;
    };
    for _ in 0..10 {
        (0..16).for_each(|_| send(64 * 1024));
        sleep(Duration::from_millis(1)).await;
    }
    timeout(Duration::from_secs(10), peer.flush()).await.unwrap().unwrap();
    (0..16).for_each(|_| send(64 * 1024));
    sleep(Duration::from_millis(1)).await;
    let waiting = || back.stats().received.iter().map(|(_, lane)| lane.waiting_frames).sum::<u64>();
    // The sink's thread runs in real time, and this clock stands.
    let until = async |frames: u64, what: &str| {
        let begin = std::time::Instant::now();
        while waiting() != frames {
            assert!(begin.elapsed() < Duration::from_secs(10), "{what}: {} wait", waiting());
            tokio::task::yield_now().await;
        }
    };
    until(0, "the sink has all").await;
    send(4);
    until(1, "kept back").await;
    back.quarantine();
    until(0, "delivered").await;
    assert_eq!(numbers(&sink).len(), 10 * 16 + 17);
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
            Event::DialFailed { error: AssociationError::Claim(text), .. } => {
                assert!(text.contains("older"), "{text}");
                break;
            }
            Event::PeerUp { .. } => panic!("an older incarnation was taken"),
            _ => {}
        }
    }
    assert!(sink.is_empty());
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
