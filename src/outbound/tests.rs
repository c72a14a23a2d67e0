//! A lane's queue against a model of its peer: whatever is pushed, taken, acknowledged, cut and
//! resumed, the ledger holds, and the peer gets every frame once and in order.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::address::Incarnation;
use crate::frame::{self, PREFIX, RemoteTellRef};
use crate::stats::LaneStats;

fn budget() -> Arc<Budget> {
    Arc::new(Budget::new(1 << 30))
}

/// Pushes a tell whose payload begins with `n`.
fn push(lane: &TellLane, n: u64, len: usize) -> Result<Wake, Refused> {
    let mut payload = n.to_le_bytes().to_vec();
    payload.resize(len.max(8), 0xab);
    let tell =
        RemoteTellRef { target_path: "/t", manifest: "", payload: &payload, sender_path: None };
    lane.push(&tell, tell.encoded_len())
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

#[derive(Debug, Clone)]
enum Op {
    Push(usize),
    /// The writer takes a chunk, and the peer receives it.
    Send,
    /// The peer's sink returns from this part of what it has received.
    Deliver(prop::sample::Index),
    /// The latest acknowledgement arrives.
    Ack,
    /// The connection breaks; what was sent last may not have arrived. The next one resumes.
    Reconnect(prop::sample::Index),
    /// The peer comes back as a new process, or has only forgotten this node.
    Restart {
        forgot: bool,
    },
    Expire,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..300_usize).prop_map(Op::Push),
        1 => (30_000..200_000_usize).prop_map(Op::Push),
        4 => Just(Op::Send),
        3 => any::<prop::sample::Index>().prop_map(Op::Deliver),
        3 => Just(Op::Ack),
        2 => any::<prop::sample::Index>().prop_map(Op::Reconnect),
        1 => any::<bool>().prop_map(|forgot| Op::Restart { forgot }),
        1 => Just(Op::Expire),
    ]
}

struct Model {
    lane: TellLane,
    now: Instant,
    writer: Attached,
    pushed: u64,
    /// The sequence number of the next frame on the current connection.
    at: u64,
    /// The peer's next expected, and next to be delivered.
    received: u64,
    delivered: u64,
    /// Frames that are reported lost, below this number.
    lost_below: u64,
    /// The peer's life, and how many there were before.
    incarnation: u64,
    former: u64,
    /// What lives before this one were sent: frames below this number.
    floor: u64,
    /// Bytes on the wire of every frame.
    bytes: Vec<u64>,
    /// Frames and bytes lost, and frames acknowledged, in this pair and in all before it.
    lost: [(u64, u64); 2],
    acked: [u64; 2],
}

impl Model {
    fn new() -> Self {
        let lane = TellLane::new(256 * 1024, budget());
        assert_eq!(lane.restart(Incarnation(1)), None, "the first life loses nothing");
        let writer = lane.attach(None).unwrap();
        Self {
            lane,
            now: Instant::now(),
            writer,
            pushed: 0,
            at: 0,
            received: 0,
            delivered: 0,
            lost_below: 0,
            incarnation: 1,
            former: 0,
            floor: 0,
            bytes: Vec::new(),
            lost: [(0, 0); 2],
            acked: [0; 2],
        }
    }

    fn run(&mut self, op: &Op) {
        self.now += Duration::from_secs(1);
        match op {
            Op::Push(len) => {
                let before = self.lane.stats().accepted_bytes;
                if push(&self.lane, self.pushed, *len).is_ok() {
                    self.pushed += 1;
                    self.bytes.push(self.lane.stats().accepted_bytes - before);
                }
            }
            Op::Send => {
                if let Taken::Chunk { bytes: chunk, .. } = self.lane.take(self.writer.epoch) {
                    for n in numbers(&chunk) {
                        assert_eq!(n, self.at, "in order, and without a gap");
                        self.at += 1;
                    }
                    self.received = self.received.max(self.at);
                }
            }
            Op::Deliver(part) => {
                self.delivered += part.index((self.received - self.delivered + 1) as usize) as u64;
            }
            Op::Ack => {
                let before = self.lane.positions().0;
                self.lane.ack(self.delivered).unwrap();
                self.acked[0] += self.lane.positions().0 - before;
            }
            Op::Reconnect(part) => {
                self.lane.detach(self.now);
                // Of what was not delivered, some never arrived.
                let held = (self.received - self.delivered + 1) as usize;
                self.received = self.delivered + part.index(held) as u64;
                self.attach(Some(self.received));
            }
            Op::Restart { forgot } => {
                self.lane.detach(self.now);
                self.incarnation += u64::from(!forgot);
                let loss = self.lane.restart(Incarnation(self.incarnation));
                if let Some(loss) = &loss {
                    assert_eq!(loss.reason, LostReason::PeerRestarted);
                }
                self.lose(loss.as_ref());
                self.lost_below = self.lane.positions().0;
                if !forgot {
                    self.former += 1;
                    self.floor = self.lost_below;
                    let (lost, acked) = (self.lost, self.acked);
                    self.lost = [(0, 0), (lost[0].0 + lost[1].0, lost[0].1 + lost[1].1)];
                    self.acked = [0, acked[0] + acked[1]];
                }
                self.attach(None);
            }
            Op::Expire => {
                self.lane.detach(self.now);
                let age = Duration::from_secs(60);
                self.now += age;
                self.lane.mark(self.now, age);
                // A short cut expires nothing, however old it is.
                assert_eq!(self.lane.expire(self.now - age / 2, age), None);
                self.now += age;
                self.lane.mark(self.now, age);
                let loss = self.lane.expire(self.now + age, age);
                self.lose(loss.as_ref());
                self.lost_below = self.lane.positions().0;
                assert!(self.lane.is_settled());
                self.attach(Some(self.received));
            }
        }
        let stats = self.lane.stats();
        assert!(stats.is_balanced(), "{stats:?}");
        assert_eq!(stats.accepted_frames, self.pushed);
        self.check_pairs();
    }

    fn lose(&mut self, loss: Option<&Loss>) {
        let (frames, bytes) = loss.map_or((0, 0), |loss| (loss.frames, loss.bytes));
        self.lost[0] = (self.lost[0].0 + frames, self.lost[0].1 + bytes);
    }

    /// Each pair has its own: what its peer was sent, and this one what is queued too.
    fn check_pairs(&self) {
        let (all, pairs) = self.lane.ledger();
        assert!(pairs.is_balanced(), "{pairs:?}");
        assert_eq!(pairs.incarnation, Some(Incarnation(self.incarnation)));
        assert_eq!(pairs.former_pairs, self.former);
        let (before, since) = self.bytes.split_at(self.floor as usize);
        let accepted = |bytes: &[u64]| (bytes.len() as u64, bytes.iter().sum::<u64>());
        let pairs = [(pairs.current, accepted(since)), (pairs.former, accepted(before))];
        for (((pair, accepted), lost), acked) in pairs.iter().zip(self.lost).zip(self.acked) {
            assert_eq!((pair.accepted_frames, pair.accepted_bytes), *accepted, "{pair:?}");
            let told = pair.lost_in_all();
            assert_eq!((told.frames, told.bytes), lost, "{pair:?}");
            assert_eq!(pair.acknowledged_frames, acked, "{pair:?}");
        }
        let mut sum = pairs[0].0;
        sum.add(&pairs[1].0);
        assert_eq!(sum, all);
    }

    fn attach(&mut self, resume: Option<u64>) {
        let old = self.writer.epoch;
        self.writer = self.lane.attach(resume).unwrap();
        assert_eq!(self.lane.take(old), Taken::Detached, "the old writer is fenced");
        self.at = self.writer.first;
        // A gap is only what was reported lost.
        assert!(self.at <= self.received.max(self.lost_below));
        self.received = self.received.max(self.at);
        self.delivered = self.delivered.max(self.lost_below);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_holds_and_frames_arrive_once_in_order(ops in proptest::collection::vec(op(), 0..120)) {
        let mut model = Model::new();
        for op in &ops {
            model.run(op);
        }
        // And then everything goes through.
        for _ in 0..300 {
            model.run(&Op::Send);
        }
        prop_assert_eq!(model.received, model.pushed);
        model.delivered = model.received;
        model.run(&Op::Ack);
        prop_assert!(model.lane.is_settled());
        let stats = model.lane.stats();
        prop_assert_eq!(stats.pending_frames(), 0);
        prop_assert_eq!(stats.accepted_frames, stats.acknowledged_frames + stats.lost_in_all().frames);
    }
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
    assert_eq!(push(&lane, n, 1000), Err(Refused::Full));
    assert_eq!(lane.stats().refused_full, 2);
    // Sent is not enough: it is retained.
    assert_eq!(drain(&lane, writer.epoch).len(), n as usize);
    assert_eq!(push(&lane, n, 1000), Err(Refused::Full));
    lane.ack(1).unwrap();
    push(&lane, n, 1000).unwrap();
}

#[test]
fn a_tell_larger_than_the_budget_goes_alone() {
    let lane = TellLane::new(64 * 1024, budget());
    let writer = lane.attach(None).unwrap();
    push(&lane, 0, 1 << 20).unwrap();
    assert_eq!(push(&lane, 1, 8), Err(Refused::Full));
    assert_eq!(drain(&lane, writer.epoch), [0]);
    lane.ack(1).unwrap();
    push(&lane, 1, 8).unwrap();
    assert_eq!(push(&lane, 2, 1 << 20), Err(Refused::Full), "only an empty lane takes it");
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
    let refused = lane.push(&tell, tell.encoded_len());
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

#[test]
fn what_was_accepted_before_any_life_was_known_is_the_first_one_s() {
    let lane = TellLane::new(1 << 20, budget());
    for n in 0..3 {
        push(&lane, n, 100).unwrap();
    }
    let (all, pairs) = lane.ledger();
    assert_eq!((pairs.incarnation, pairs.current, pairs.former_pairs), (None, all, 0));
    assert_eq!(lane.restart(Incarnation(7)), None);
    let (all, pairs) = lane.ledger();
    assert_eq!((pairs.incarnation, pairs.current), (Some(Incarnation(7)), all));
    assert_eq!((pairs.former_pairs, pairs.former), (0, LaneStats::default()));
    // Never sent: the next life's, all of it.
    assert_eq!(lane.restart(Incarnation(8)), None);
    let (all, pairs) = lane.ledger();
    assert_eq!((pairs.incarnation, pairs.current), (Some(Incarnation(8)), all));
    assert_eq!((pairs.former_pairs, pairs.former), (1, LaneStats::default()));
    assert_eq!(pairs.current.queued_frames, 3);
}
