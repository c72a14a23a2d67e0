//! From one CA to another: a bundle of both, certificates of the new one, the new one's bundle; each step on
//! one node after the other, while tells go both ways and gossip goes beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster_quic::{DevCa, Event, Identity, Peer, PeerState, RemoteTellRef};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::network::Pipe;
use crate::world::{Node, World, identity, until};

/// Between two probes of gossip.
const PROBE: Duration = Duration::from_millis(20);

/// The links' round trip, where nothing else is said.
const RTT: Duration = Duration::from_millis(10);

/// How long gossip may be away, in round trips, beside the time between two probes. A connection takes over
/// when the new one has greeted; what was on its way on the old one may be lost, and the next probe comes.
const GAP: u32 = 6;

/// The same over a slow link, where the new connection's search for its rate takes the longest.
const GAP_OVER_A_SLOW_LINK: u32 = 10;

/// Sends tells until it is over; how many.
fn tells(peer: &Peer, pause: Option<Duration>, over: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (peer, over) = (peer.clone(), Arc::clone(over));
    tokio::spawn(async move {
        let mut number = 0_u64;
        let mut payload = [0; 1000];
        while !over.load(Ordering::Relaxed) {
            payload[..8].copy_from_slice(&number.to_le_bytes());
            let (manifest, sender_path) = ("n", None);
            let tell =
                RemoteTellRef { target_path: "/one", manifest, payload: &payload, sender_path };
            peer.tell_when_ready(tell).await.unwrap();
            number += 1;
            if let Some(pause) = pause {
                sleep(pause).await;
            }
        }
        number
    })
}

fn probes(peer: &Peer, over: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (peer, over) = (peer.clone(), Arc::clone(over));
    tokio::spawn(async move {
        for number in 0_u64.. {
            if over.load(Ordering::Relaxed) {
                return;
            }
            peer.send_gossip(&number).unwrap();
            sleep(PROBE).await;
        }
    })
}

/// Looks every millisecond whether all are connected with all; returns how often, and the longest time that
/// somebody was not with another.
fn connected(peers: &[Peer], over: &Arc<AtomicBool>) -> JoinHandle<(u64, Duration)> {
    let (peers, over) = (peers.to_vec(), Arc::clone(over));
    tokio::spawn(async move {
        let mut seen = vec![Instant::now(); peers.len()];
        let (mut looks, mut longest) = (0, Duration::ZERO);
        while !over.load(Ordering::Relaxed) {
            let now = Instant::now();
            for (peer, seen) in peers.iter().zip(&mut seen) {
                match peer.stats().state {
                    PeerState::Connected => *seen = now,
                    _ => longest = longest.max(now.duration_since(*seen)),
                }
            }
            looks += 1;
            sleep(Duration::from_millis(1)).await;
        }
        (looks, longest)
    })
}

/// The longest time without gossip from each of the others, as a node sees it.
fn gaps(node: &mut Node, over: &Arc<AtomicBool>) -> JoinHandle<(Duration, u64)> {
    let over = Arc::clone(over);
    let mut gossip = std::mem::replace(&mut node.gossip, tokio::sync::mpsc::channel(1).1);
    tokio::spawn(async move {
        let mut last = std::collections::HashMap::new();
        let (mut longest, mut received) = (Duration::ZERO, 0);
        while let Some(message) = gossip.recv().await {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let now = Instant::now();
            if let Some(last) = last.insert(message.from, now) {
                longest = longest.max(now.duration_since(last));
            }
            received += 1;
        }
        (longest, received)
    })
}

/// Links at two fifths of their rate both ways. (Where both ways are full, gossip waits for acknowledgements'
/// sake now and then, rotation or none; `docs/isolation.md` has the figures.)
#[tokio::test(start_paused = true)]
async fn three_nodes_change_their_ca_and_gossip_goes_on() {
    let gossip_was_away = change_of_ca(625_000.0, RTT, Some(Duration::from_millis(4))).await;
    assert!(gossip_was_away <= PROBE + GAP * RTT, "gossip was away for {gossip_was_away:?}");
}

/// The same load on links of the same rate, 5 Mbit/s, with a round trip of 50 ms.
#[tokio::test(start_paused = true)]
async fn gossip_goes_on_over_slow_links_while_three_nodes_change_their_ca() {
    let rtt = Duration::from_millis(50);
    let gossip_was_away = change_of_ca(625_000.0, rtt, Some(Duration::from_millis(4))).await;
    let bound = PROBE + GAP_OVER_A_SLOW_LINK * rtt;
    assert!(gossip_was_away <= bound, "gossip was away for {gossip_was_away:?}, of {bound:?}");
}

/// Lanes that are full at every moment, on links so narrow that half a second waits in each.
#[tokio::test(start_paused = true)]
async fn three_nodes_change_their_ca_with_all_lanes_full() {
    change_of_ca(250_000.0, RTT, None).await;
}

/// `rate`: of each link, in bytes per second. `pause`: between two tells of 1 kB; none lets them fill the lanes.
/// Returns the longest time that gossip was away.
async fn change_of_ca(rate: f64, rtt: Duration, pause: Option<Duration>) -> Duration {
    let (old, new) = (DevCa::new("old").unwrap(), DevCa::new("new").unwrap());
    let pipe = Pipe { rate: Some(rate), delay: rtt / 2, ..Pipe::default() };
    let world = World::new(pipe);
    let mut nodes: Vec<Node> = (0..3)
        .map(|_| world.node(&identity(&old, &[&old]), |config| config.lane_budget(128 * 1024)))
        .collect();
    let pairs = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        world.join(&nodes[a], &nodes[b]);
        nodes[a].connect(&nodes[b]).await;
    }
    let peers: Vec<Peer> = pairs.iter().map(|&(a, b)| nodes[a].peer(&nodes[b])).collect();
    let over = Arc::new(AtomicBool::new(false));
    let sending: Vec<_> = peers.iter().map(|peer| tells(peer, pause, &over)).collect();
    let probing: Vec<_> = peers.iter().map(|peer| probes(peer, &over)).collect();
    let looking = connected(&peers, &over);
    let gaps: Vec<_> = nodes.iter_mut().map(|node| gaps(node, &over)).collect();
    sleep(Duration::from_secs(1)).await;

    let both: [&DevCa; 2] = [&old, &new];
    let steps: [&dyn Fn() -> Identity; 3] =
        [&|| identity(&old, &both), &|| identity(&new, &both), &|| identity(&new, &[&new])];
    let mut slowest = Duration::ZERO;
    for step in steps {
        for (n, node) in nodes.iter().enumerate() {
            let mine = || pairs.iter().zip(&peers).filter(|((a, b), _)| *a == n || *b == n);
            let associations = |peer: &Peer| peer.stats().associations;
            let before: Vec<_> = mine().map(|(_, peer)| associations(peer)).collect();
            node.transport.renew(&step()).unwrap();
            let replaced =
                || mine().zip(&before).all(|((_, peer), before)| associations(peer) > *before);
            slowest = slowest.max(until("all connections are replaced", replaced).await);
            // On the new connections too.
            sleep(Duration::from_millis(500)).await;
        }
    }

    over.store(true, Ordering::Relaxed);
    let mut sent = Vec::new();
    for task in sending {
        sent.push(task.await.unwrap());
    }
    for task in probing {
        task.await.unwrap();
    }
    let (looks, apart) = looking.await.unwrap();
    println!("{looks} looks; nobody was without a connection for longer than {apart:?}");
    // To dial and greet takes two round trips. The peer's farewell on the old connection may overtake its
    // answer on the new one.
    assert!(looks > 1000 && apart <= rtt, "apart for {apart:?}");
    let mut associations = 0;
    for ((&(a, b), peer), &sent) in pairs.iter().zip(&peers).zip(&sent) {
        peer.flush().await.unwrap();
        let stats = peer.stats();
        let tells = stats.tells();
        assert!(tells.is_balanced());
        assert_eq!((tells.acknowledged_frames, tells.lost_in_all().frames), (sent, 0));
        assert_eq!(nodes[b].sink.received(nodes[a].address()), (sent, 0), "once, and in order");
        let received = nodes[b].peer(&nodes[a]).stats().tells_received();
        assert_eq!((received.delivered_frames, received.refused_frames), (sent, 0));
        assert!(sent > 500, "only {sent} tells: the links are not full");
        associations += stats.associations;
    }
    let mut longest = Duration::ZERO;
    for (node, gaps) in nodes.iter().zip(gaps) {
        // One more, to wake it.
        let (to, from) =
            (node.address(), &nodes[usize::from(node.address() == nodes[0].address())]);
        from.transport.send_gossip(to, &0_u64).unwrap();
        let (gap, probes) = gaps.await.unwrap();
        assert!(probes > 500, "{probes} probes");
        longest = longest.max(gap);
    }
    println!(
        "{} tells, {associations} associations; replaced within {slowest:?}; gossip was away for {longest:?}",
        sent.iter().sum::<u64>(),
    );
    for node in &mut nodes {
        let mut renewed = 0;
        for event in node.events_so_far().await {
            match event {
                Event::PeerUp { .. } => {}
                Event::IdentityRenewed { .. } => renewed += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(renewed, 3);
    }
    longest
}
