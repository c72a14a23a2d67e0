//! A lane's queue against a model of its peer: whatever is pushed, taken, acknowledged, cut and
//! resumed, the ledger holds, each pair of incarnations has one of its own, and the peer gets every frame
//! once and in order.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::*;
use super::{budget, numbers, push};
use crate::address::Incarnation;
use crate::stats::LaneStats;

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
    /// A new connection takes over while the old one works: what it resumes at is what the peer had received
    /// some time before.
    Renew(prop::sample::Index),
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
        2 => any::<prop::sample::Index>().prop_map(Op::Renew),
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
            Op::Renew(part) => {
                let acked = self.lane.positions().0;
                let stale = acked + part.index((self.received - acked + 1) as usize) as u64;
                self.attach(Some(stale));
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
        self.lane.assert_taken_is_counted();
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
