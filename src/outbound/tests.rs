//! A lane's queue, its budgets, and gossip's.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::frame::{self, PREFIX, RemoteTellRef};

mod model;

fn budget() -> Arc<Budget> {
    Arc::new(Budget::new(1 << 30))
}

/// Pushes a tell whose payload begins with `n`.
fn push(lane: &TellLane, n: u64, len: usize) -> Result<Wake, Refused> {
    push_as(lane, n, len, Patience::None)
}

fn push_as(lane: &TellLane, n: u64, len: usize, patience: Patience) -> Result<Wake, Refused> {
    let mut payload = n.to_le_bytes().to_vec();
    payload.resize(len.max(8), 0xab);
    let tell =
        RemoteTellRef { target_path: "/t", manifest: "", payload: &payload, sender_path: None };
    lane.push(&tell, tell.encoded_len(), patience).map(|accepted| accepted.wake)
}

/// The numbers of the tells in a chunk.
fn numbers(chunk: &[u8]) -> Vec<u64> {
    let mut rest = chunk;
    let mut numbers = Vec::new();
    while let Some(frame) = frame::next_frame(&mut rest) {
        let payload = frame::TellDecoder::default().decode(frame).unwrap().payload;
        numbers.push(u64::from_le_bytes(*payload.first_chunk().unwrap()));
    }
    assert!(rest.is_empty(), "a chunk holds whole frames");
    numbers
}

fn drain(lane: &TellLane, epoch: u64) -> Vec<u64> {
    let mut all = Vec::new();
    while let Taken::Chunk { bytes: chunk, .. } = lane.take(epoch) {
        all.extend(numbers(&chunk));
    }
    all
}

#[test]
fn small_tells_go_in_chunks() {
    let lane = TellLane::new(1 << 20, budget());
    let writer = lane.attach(None).unwrap();
    for n in 0..1000 {
        push(&lane, n, 64).unwrap();
    }
    let mut chunks = 0;
    let mut all = Vec::new();
    while let Taken::Chunk { bytes: chunk, .. } = lane.take(writer.epoch) {
        assert!(chunk.len() <= CHUNK);
        all.extend(numbers(&chunk));
        chunks += 1;
    }
    assert_eq!(all, (0..1000).collect::<Vec<_>>());
    assert!(chunks <= 8, "{chunks} chunks of 80 kB in all");
}

#[test]
fn a_full_lane_refuses_until_it_is_acknowledged() {
    let lane = TellLane::new(64 * 1024, budget());
    let writer = lane.attach(None).unwrap();
    let mut n = 0;
    while push(&lane, n, 1000).is_ok() {
        n += 1;
    }
    assert_eq!(push(&lane, n, 1000), Err(Refused::Full(BudgetScope::Lane)));
    assert_eq!(lane.stats().refused_full, 2);
    // Sent is not enough: it is retained.
    assert_eq!(drain(&lane, writer.epoch).len(), n as usize);
    assert_eq!(push(&lane, n, 1000), Err(Refused::Full(BudgetScope::Lane)));
    lane.ack(1).unwrap();
    push(&lane, n, 1000).unwrap();
}

#[test]
fn a_tell_larger_than_the_budget_goes_alone() {
    let lane = TellLane::new(64 * 1024, budget());
    let writer = lane.attach(None).unwrap();
    push(&lane, 0, 1 << 20).unwrap();
    assert_eq!(push(&lane, 1, 8), Err(Refused::Full(BudgetScope::Lane)));
    assert_eq!(drain(&lane, writer.epoch), [0]);
    lane.ack(1).unwrap();
    push(&lane, 1, 8).unwrap();
    assert_eq!(
        push(&lane, 2, 1 << 20),
        Err(Refused::Full(BudgetScope::Lane)),
        "only an empty lane takes it"
    );
}

#[test]
fn the_node_s_budget_holds_over_lanes_and_is_given_back() {
    let node = Arc::new(Budget::new(3 * CHUNK));
    let lanes: Vec<_> = (0..2).map(|_| TellLane::new(1 << 30, Arc::clone(&node))).collect();
    let mut taken = [0_u64; 2];
    for (lane, taken) in lanes.iter().zip(&mut taken) {
        while push(lane, *taken, 1000).is_ok() {
            *taken += 1;
        }
    }
    assert!(node.used() <= 3 * CHUNK);
    for (lane, taken) in lanes.iter().zip(taken) {
        let writer = lane.attach(None).unwrap();
        drain(lane, writer.epoch);
        lane.ack(taken).unwrap();
    }
    assert_eq!(node.used(), 0);
}

#[test]
fn a_refusal_says_whose_budget_is_used_up() {
    let node = Arc::new(Budget::new(3 * CHUNK));
    let peer = || Arc::new(Budget::within(&node, 2 * CHUNK));
    let (a, b) = (peer(), peer());
    let lane = |peer: &Arc<Budget>| TellLane::new(CHUNK, Arc::clone(peer));
    let refused = |lane: &TellLane| {
        (0..).find_map(|n| push(lane, n, 1000).err()).expect("a budget of 64 KiB at most")
    };
    let [first, second, third] = [(); 3].map(|()| lane(&a));
    assert_eq!(refused(&first), Refused::Full(BudgetScope::Lane));
    assert_eq!(refused(&second), Refused::Full(BudgetScope::Lane));
    assert_eq!(refused(&third), Refused::Full(BudgetScope::Peer));
    assert_eq!(refused(&lane(&b)), Refused::Full(BudgetScope::Lane));
    assert_eq!(refused(&lane(&b)), Refused::Full(BudgetScope::Node));
}

#[test]
fn a_lying_peer_is_found_out() {
    let lane = TellLane::new(1 << 20, budget());
    push(&lane, 0, 8).unwrap();
    assert!(lane.attach(Some(1)).is_err(), "resumes behind what was ever sent");
    assert!(lane.ack(1).is_err(), "acknowledges what was never sent");
}

#[test]
fn whom_a_push_wakes() {
    let lane = TellLane::new(1 << 20, budget());
    assert_eq!(push(&lane, 0, 8), Ok(Wake::Driver), "nobody is there yet");
    assert_eq!(push(&lane, 1, 8), Ok(Wake::Nobody), "the driver knows");
    let writer = lane.attach(None).unwrap();
    assert_eq!(push(&lane, 2, 8), Ok(Wake::Nobody), "the writer has not looked yet");
    drain(&lane, writer.epoch);
    assert_eq!(push(&lane, 3, 8), Ok(Wake::Writer));
    assert_eq!(push(&lane, 4, 8), Ok(Wake::Nobody));
}

#[test]
fn who_can_wait_is_let_a_little_before_the_writer() {
    const LEN: usize = 60_000;
    let lane = TellLane::new(32 << 20, budget());
    let patient = |n| push_as(&lane, n, LEN, Patience::Waits);
    let until_ahead = |from: u64| (from..).find(|&n| patient(n) == Err(Refused::Ahead)).unwrap();
    let within = |sent: u64| {
        assert!((AHEAD..AHEAD + 2 * LEN).contains(&(sent as usize * LEN)), "{sent} tells");
    };
    // Without a writer the whole budget is there to fill.
    for n in 0..100 {
        patient(n).unwrap();
    }
    let writer = lane.attach(None).unwrap();
    assert_eq!(patient(100), Err(Refused::Ahead));
    push(&lane, 100, LEN).unwrap();
    assert!(matches!(lane.take(writer.epoch), Taken::Chunk { .. }));
    assert_eq!(patient(101), Err(Refused::Ahead));
    push(&lane, 101, LEN).unwrap();
    let mut progress = std::pin::pin!(lane.caught_up.notified());
    progress.as_mut().enable();
    let mut taken = 1;
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while progress.as_mut().poll(&mut context).is_pending() {
        assert!(matches!(lane.take(writer.epoch), Taken::Chunk { .. }));
        taken += 1;
    }
    assert!((102 - taken) * LEN <= AHEAD / 2, "half of it was taken: {taken} tells");
    drain(&lane, writer.epoch);
    let sent = until_ahead(102) - 102;
    within(sent);
    assert_eq!(lane.stats().refused_full, 0, "it was not full");
    // What was taken and is not acknowledged does not count, nor what is acknowledged.
    drain(&lane, writer.epoch);
    lane.ack(101 + sent / 2).unwrap();
    let next = until_ahead(102 + sent);
    within(next - 102 - sent);
    // A slow writer lets it in until it has caught up, and one that goes.
    lane.no_use_waiting();
    patient(next).unwrap();
    assert!(matches!(lane.take(writer.epoch), Taken::Chunk { .. }));
    patient(next + 1).unwrap();
    drain(&lane, writer.epoch);
    let last = until_ahead(next + 2);
    within(last - next - 2);
    let mut progress = std::pin::pin!(lane.caught_up.notified());
    progress.as_mut().enable();
    lane.detach(Instant::now());
    assert!(progress.poll(&mut context).is_ready());
    patient(last).unwrap();
}

#[test]
fn what_waits_expires_by_its_age_and_only_without_a_writer() {
    let lane = TellLane::new(1 << 20, budget());
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    push(&lane, 0, 8).unwrap();
    lane.mark(start, 60 * second);
    push(&lane, 1, 8).unwrap();
    lane.mark(start + 30 * second, 60 * second);
    assert_eq!(lane.expire(start + 59 * second, 60 * second), None);
    let loss = lane.expire(start + 60 * second, 60 * second).unwrap();
    assert_eq!((loss.frames, loss.reason), (1, LostReason::Expired));
    lane.attach(None).unwrap();
    assert_eq!(lane.expire(start + 900 * second, 60 * second), None);
}

#[test]
fn gossip_keeps_the_latest_within_its_budget() {
    let gossip = GossipQueue::new(100);
    for n in 0..50_u64 {
        gossip.push(&format!("{n:020}")).unwrap();
    }
    let epoch = gossip.attach();
    let Taken::Chunk { bytes: chunk, .. } = gossip.take(epoch) else { panic!("nothing waits") };
    let mut rest = &chunk[..];
    let mut kept: Vec<String> = Vec::new();
    while let Some(frame) = frame::next_frame(&mut rest) {
        kept.push(frame::decode_gossip(frame).unwrap());
    }
    assert_eq!(kept, (47..50).map(|n| format!("{n:020}")).collect::<Vec<_>>());
    let stats = gossip.stats();
    assert_eq!((stats.accepted, stats.sent, stats.dropped, stats.queued), (50, 3, 47, 0));
    assert_eq!(gossip.take(epoch), Taken::Nothing);
    gossip.close();
    assert_eq!(gossip.take(epoch), Taken::Closed);
    assert_eq!(gossip.push(&1_u8), Err(Refused::Closed));
}

#[test]
fn a_frame_that_cannot_be_encoded_leaves_the_lane_as_it_was() {
    let lane = TellLane::new(1 << 30, budget());
    let payload = vec![0; frame::MAX_FRAME];
    let tell =
        RemoteTellRef { target_path: "/t", manifest: "", payload: &payload, sender_path: None };
    let refused = lane.push(&tell, tell.encoded_len(), Patience::None);
    assert!(matches!(refused, Err(Refused::Frame(FrameError::TooLarge { .. }))), "{refused:?}");
    assert!(lane.is_settled());
    push(&lane, 0, 8).unwrap();
    let writer = lane.attach(None).unwrap();
    let Taken::Chunk { bytes: chunk, .. } = lane.take(writer.epoch) else {
        panic!("nothing waits")
    };
    assert_eq!(numbers(&chunk), [0]);
    assert!(chunk.len() < 8 + PREFIX + 16);
}

#[test]
fn small_chunks_of_a_patient_time_are_resent_together() {
    let lane = TellLane::new(1 << 20, budget());
    let writer = lane.attach(None).unwrap();
    for n in 0..1_000 {
        push(&lane, n, 8).unwrap();
        // The writer keeps up: every tell is a segment of its own.
        assert_eq!(drain(&lane, writer.epoch), [n]);
    }
    lane.detach(Instant::now());
    let writer = lane.attach(Some(10)).unwrap();
    let Taken::Chunk { bytes, .. } = lane.take(writer.epoch) else { panic!("nothing waits") };
    assert_eq!(numbers(&bytes), (10..1_000).collect::<Vec<_>>());
}

#[test]
fn a_crowd_of_small_segments_is_noticed() {
    let lane = TellLane::new(1 << 20, budget());
    let writer = lane.attach(None).unwrap();
    let mut crowded = 0;
    for n in 0..100 {
        push(&lane, n, 8).unwrap();
        if let Taken::Chunk { crowded: true, .. } = lane.take(writer.epoch) {
            crowded += 1;
        }
    }
    assert_eq!(crowded, 100 - CROWD);
    lane.ack(100).unwrap();
    push(&lane, 100, 8).unwrap();
    assert!(matches!(lane.take(writer.epoch), Taken::Chunk { crowded: false, .. }));
}

#[test]
fn under_steady_traffic_nothing_waits_much_longer_than_its_time() {
    let lane = TellLane::new(1 << 20, budget());
    let (start, age) = (Instant::now(), Duration::from_secs(60));
    // Four tells a second, as often as the driver looks after the lane.
    for n in 0..800_u32 {
        push(&lane, n.into(), 8).unwrap();
        let now = start + Duration::from_millis(250) * n;
        lane.mark(now, age);
        lane.expire(now, age);
        let (oldest, next, _) = lane.positions();
        let waited = Duration::from_millis(250) * u32::try_from(next - oldest).unwrap();
        assert!(waited <= age + Duration::from_secs(2), "{waited:?}");
    }
    assert!(lane.stats().is_balanced());
}

/// While there is a writer nothing expires, for days.
#[test]
fn what_waits_for_days_needs_no_more_marks() {
    let lane = TellLane::new(1 << 20, budget());
    let age = Duration::from_secs(60);
    lane.attach(None).unwrap();
    let start = Instant::now();
    for n in 0..2_000_u32 {
        push(&lane, n.into(), 8).unwrap();
        lane.mark(start + Duration::from_secs(1) * n, age);
    }
    assert!(lane.marks() < 70, "{}", lane.marks());
    let now = start + Duration::from_secs(2_000);
    lane.detach(now);
    assert_eq!(lane.expire(now, age), None, "detached for no time yet");
    let loss = lane.expire(now + age, age).expect("all is older");
    assert_eq!(loss.frames, 2_000);
}

#[test]
fn a_peer_s_budget_leaves_the_others_room() {
    let node = Arc::new(Budget::new(4 * CHUNK));
    let peer = || TellLane::new(1 << 30, Arc::new(Budget::within(&node, 3 * CHUNK)));
    let fill = |lane: &TellLane| (0..).take_while(|n| push(lane, *n, 1000).is_ok()).count();
    let (greedy, modest) = (peer(), peer());
    assert!(fill(&greedy) > 0);
    assert_eq!(node.used(), 3 * CHUNK);
    let taken = fill(&modest);
    assert!(taken > 0 && node.used() == 4 * CHUNK, "{taken}");
    greedy.abandon();
    assert_eq!(node.used(), CHUNK, "both give back what one gives up");
    assert_eq!(push(&modest, taken as u64, 1000), Ok(Wake::Nobody));
}

#[test]
fn what_is_lost_comes_back_frame_by_frame() {
    let lane = TellLane::new(1 << 20, budget());
    let writer = lane.attach(None).unwrap();
    for n in 0..10 {
        push(&lane, n, 8).unwrap();
        if n < 6 {
            drain(&lane, writer.epoch);
        }
    }
    lane.ack(2).unwrap();
    let loss = lane.quarantine().unwrap();
    assert_eq!((loss.frames, loss.sent, loss.reason), (8, 4, LostReason::Quarantined));
    assert_eq!(loss.chunks.iter().map(Bytes::len).sum::<usize>() as u64, loss.bytes);
    let letters = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&letters);
    let to = "akka.quic://s@h:1".parse().unwrap();
    let hook: crate::dead_letters::DeadLetters = Box::new(move |letter| {
        let number = u64::from_le_bytes(*letter.tell.payload.first_chunk().unwrap());
        keep.lock().unwrap().push((number, letter.sent));
        assert_ne!(number, 4, "a panic costs its own letter alone");
    });
    assert_eq!(crate::dead_letters::give_back(&to, &loss, &hook), 1);
    let expected: Vec<_> = (2..10).map(|n| (n, n < 6)).collect();
    assert_eq!(*letters.lock().unwrap(), expected);
    assert_eq!(push(&lane, 10, 8), Err(Refused::Quarantined));
    lane.admit();
    push(&lane, 10, 8).unwrap();
    assert!(lane.stats().is_balanced());
}
