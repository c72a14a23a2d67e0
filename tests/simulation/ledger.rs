//! The ledger, from both ends.
//!
//! At every moment, per peer, lane and pair of incarnations: accepted = acknowledged + reported lost +
//! pending; what is acknowledged has arrived, at the very life that the pair is of. Once it is quiet: nothing is pending; every tell arrived at most once,
//! in order per target, over all lives of the receiver; what did not arrive is covered by a reported
//! loss, in the statistics and in the events alike; no life of a receiver got what was sent before it
//! began; and no life of a sender is heard again once the next one is.

use std::collections::BTreeMap;

use cluster_quic::{Incarnation, LaneStats, LostReason, PairStats, PeerStats};

use crate::life::{Life, name};
use crate::sink::Record;
use crate::world::{Node, World};

pub(crate) const REASONS: [LostReason; 4] =
    [LostReason::Expired, LostReason::PeerRestarted, LostReason::ShutDown, LostReason::Quarantined];

/// Tells of one life to one node that have arrived, over all of that node's lives.
fn arrived(life: &Life, receiver: &Node) -> u64 {
    let from = life.number as u64;
    receiver.lives().map(|there| there.sink.count(from, life.incarnation)).sum()
}

impl World {
    /// What holds at every moment.
    pub(crate) fn check(&mut self) {
        self.checks += 1;
        for n in 0..self.size() {
            let Some(mut life) = self.nodes[n].life.take() else { continue };
            life.hear();
            assert_eq!(life.ears.wrong(), [""; 0], "gossip at {n}");
            for to in (0..self.size()).filter(|to| *to != n) {
                self.check_peer(&mut life, to);
            }
            self.nodes[n].life = Some(life);
        }
    }

    fn check_peer(&self, life: &mut Life, to: usize) {
        let stats = life.stats(to);
        let who = format!("{} (life {}) -> {to}", life.number, life.incarnation);
        let sent = &mut life.sent[to];
        sent.lanes.resize(stats.lanes.len(), 0);
        sent.acknowledged.resize(stats.lanes.len(), 0);
        for ((lane, figures), n) in stats.lanes.iter().zip(0..) {
            assert!(figures.is_balanced(), "{who}, {lane}: {figures:?}");
            assert_eq!(figures.accepted_frames, sent.lanes[n], "{who}, {lane}: {figures:?}");
            let before = std::mem::replace(&mut sent.acknowledged[n], figures.acknowledged_frames);
            assert!(before <= figures.acknowledged_frames, "{who}, {lane}: taken back");
        }
        self.check_pairs(life, to, &stats);
        let gossip = stats.gossip;
        assert_eq!(gossip.accepted, gossip.sent + gossip.dropped + gossip.queued, "{who}");
        let (acknowledged, arrived) =
            (stats.tells().acknowledged_frames, arrived(life, &self.nodes[to]));
        assert!(acknowledged <= arrived, "{who}: {acknowledged} acknowledged, {arrived} arrived");
        let received = stats.tells_received();
        assert_eq!((received.refused_frames, received.sink_panics), (0, 0), "{who}: damaged");
    }

    /// Each pair of incarnations has a ledger of its own, and the receiving life has got what it says.
    fn check_pairs(&self, life: &Life, to: usize, stats: &PeerStats) {
        let who = format!("{} (life {}) -> {to}", life.number, life.incarnation);
        for ((lane, all), (_, pairs)) in stats.lanes.iter().zip(&stats.pairs) {
            assert!(pairs.is_balanced(), "{who}, {lane}: {pairs:?}");
            let (now, before) = (&pairs.current, &pairs.former);
            assert_eq!(
                (all.accepted_frames, all.accepted_bytes, all.lost_in_all().frames),
                (
                    now.accepted_frames + before.accepted_frames,
                    now.accepted_bytes + before.accepted_bytes,
                    now.lost_in_all().frames + before.lost_in_all().frames,
                ),
                "{who}, {lane}: {pairs:?}"
            );
            // One pair per life that was associated with, and what it was sent is known.
            let lives = self.nodes[to]
                .lives()
                .filter(|there| pairs.incarnation.is_some_and(|last| there.incarnation < last.0));
            assert!(pairs.former_pairs <= lives.count() as u64, "{who}, {lane}: {pairs:?}");
        }
        for (pair, arrived, who) in self.by_pair(life, to, stats) {
            let acknowledged = pair.acknowledged_frames;
            assert!(acknowledged <= arrived, "{who}: {acknowledged} acknowledged, {arrived} there");
        }
    }

    /// The current pair's ledger and that of all former ones, in all lanes, each with how many tells have
    /// arrived at the lives that it is of.
    fn by_pair(&self, life: &Life, to: usize, stats: &PeerStats) -> [(LaneStats, u64, String); 2] {
        let incarnations = stats.pairs.iter().filter_map(|(_, pairs)| pairs.incarnation);
        // Before the first association nobody has got anything.
        let last = incarnations.max().map_or(u64::MAX, |Incarnation(last)| last);
        let who = format!("{} (life {}) -> {to}, pairs", life.number, life.incarnation);
        let sum = |of: fn(&PairStats) -> LaneStats| {
            let mut pairs = stats.clone();
            pairs.lanes = stats.pairs.iter().map(|(lane, pairs)| (*lane, of(pairs))).collect();
            pairs.tells()
        };
        let arrived = |wanted: &dyn Fn(u64) -> bool| -> u64 {
            let lives = self.nodes[to].lives().filter(|there| wanted(there.incarnation));
            lives.map(|there| there.sink.count(life.number as u64, life.incarnation)).sum()
        };
        [
            (
                sum(|pairs| pairs.current),
                arrived(&|there| there == last),
                format!("{who} with {last}"),
            ),
            (
                sum(|pairs| pairs.former),
                arrived(&|there| there < last),
                format!("{who} before {last}"),
            ),
        ]
    }

    /// What holds once nothing is pending.
    pub(crate) fn check_quiet(&mut self) {
        self.check();
        for receiver in 0..self.size() {
            self.check_receiver(receiver);
        }
        for n in 0..self.size() {
            for life in self.nodes[n].lives() {
                for to in (0..self.size()).filter(|to| *to != n) {
                    self.check_settled(life, to);
                }
                check_report(life);
                self.check_unsent(life);
            }
        }
    }

    /// Once, in order, from one life after the other, and by the receiving life that it was sent to.
    fn check_receiver(&self, n: usize) {
        // Per sending node and target: the life, and the last number.
        let mut last: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
        for there in self.nodes[n].lives() {
            for (from, record) in there.sink.records() {
                let Record { from: sender, incarnation, target, number } = record;
                let who = format!("{n} (life {}) got {record:?}", there.incarnation);
                let node = &self.nodes[sender as usize];
                assert_eq!(from, node.address, "{who}: said to come from {from}");
                let life = node.lives().find(|life| life.incarnation == incarnation);
                let sent = &life.expect("a life that was").sent[n];
                let index = number.checked_sub(sent.settled).expect("it has arrived long ago");
                let &(lane, place) = sent.places.get(index as usize).expect("it was sent");
                let before = last.insert((sender, target), (incarnation, number));
                if let Some(before) = before {
                    assert_ne!(before, (incarnation, number), "{who}: twice");
                    assert!(before < (incarnation, number), "{who} after {before:?}");
                }
                let floor = sent.floors.iter().rfind(|(life, _)| *life <= there.incarnation);
                if let Some((_, floor)) = floor {
                    assert!(place >= floor[usize::from(lane)], "{who}: sent to an earlier life");
                }
            }
        }
    }

    /// Tells of one life to one node that have arrived, per lane, over all of that node's lives.
    fn arrived_by_lane(&self, life: &Life, to: usize) -> Vec<u64> {
        let sent = &life.sent[to];
        let mut arrived = sent.arrived.clone();
        arrived.resize(life.stats(to).lanes.len(), 0);
        for there in self.nodes[to].lives() {
            let records = there.sink.records();
            let ours = records.iter().filter(|(_, record)| {
                (record.from, record.incarnation) == (life.number as u64, life.incarnation)
            });
            for (_, record) in ours {
                let (lane, _) = sent.places[(record.number - sent.settled) as usize];
                arrived[usize::from(lane)] += 1;
            }
        }
        arrived
    }

    /// Forgets what is settled, so that a long run needs no more memory than a short one. For a world
    /// in which nobody has died.
    pub(crate) fn forget(&mut self) {
        self.check_quiet();
        for n in 0..self.size() {
            let Some(mut life) = self.nodes[n].life.take() else { continue };
            for to in (0..self.size()).filter(|to| *to != n) {
                let arrived = self.arrived_by_lane(&life, to);
                life.settle(to, arrived);
            }
            self.nodes[n].life = Some(life);
        }
        for life in self.nodes.iter().flat_map(Node::lives) {
            life.sink.clear();
            life.ears.clear();
            life.letters.clear();
        }
    }

    /// What came back as never sent has arrived nowhere.
    fn check_unsent(&self, life: &Life) {
        let unsent = life.letters.unsent();
        for receiver in &self.nodes {
            let mut letters: Vec<_> =
                unsent.iter().filter(|(to, _)| *to == receiver.address).map(|(_, r)| *r).collect();
            letters.sort();
            for there in receiver.lives().filter(|_| !letters.is_empty()) {
                for (_, record) in there.sink.records() {
                    let arrived = letters.binary_search(&record).is_ok();
                    assert!(!arrived, "{record:?} came back as never sent, and arrived");
                }
            }
        }
    }

    /// What did not arrive is reported lost, and what is acknowledged did arrive, lane by lane.
    fn check_settled(&self, life: &Life, to: usize) {
        let stats = life.stats(to);
        let who = format!("{} (life {}) -> {to}", life.number, life.incarnation);
        let arrived = self.arrived_by_lane(life, to);
        let killed = life.last.is_some() && life.report.is_none();
        for ((lane, figures), arrived) in stats.lanes.iter().zip(arrived) {
            let who = format!("{who}, {lane}: {arrived} arrived, {figures:?}");
            assert!(figures.is_balanced(), "{who}");
            assert!(figures.acknowledged_frames <= arrived, "{who}: acknowledged too much");
            if killed {
                continue;
            }
            let lost = figures.lost_in_all().frames;
            let by_reason: u64 = REASONS.iter().map(|reason| figures.lost(*reason).frames).sum();
            assert_eq!(by_reason, lost, "{who}: another reason");
            assert_eq!(figures.pending_frames(), 0, "{who}: pending");
            assert!(arrived + lost >= figures.accepted_frames, "{who}: lost in silence");
            for reason in REASONS {
                let told = life.losses.get(&(to, *lane, name(reason))).copied().unwrap_or((0, 0));
                let lost = figures.lost(reason);
                if !life.missed_events() {
                    assert_eq!(told, (lost.frames, lost.bytes), "{who}: events say otherwise");
                }
            }
        }
        if !killed {
            for (pair, arrived, who) in self.by_pair(life, to, &stats) {
                let lost = pair.lost_in_all().frames;
                assert!(arrived + lost >= pair.accepted_frames, "{who}: {arrived} there, {pair:?}");
            }
        }
        for reason in REASONS.into_iter().filter(|_| !killed) {
            let returned = life.letters.count(&self.nodes[to].address, reason);
            let lost = stats.tells().lost(reason).frames;
            assert_eq!(returned, lost, "{who}: given back, of those lost: {reason:?}");
        }
        let received = stats.tells_received();
        if !killed {
            assert_eq!((received.waiting_frames, received.waiting_bytes), (0, 0), "{who}");
        }
        // The receiver's own count is that of its sink.
        if !killed {
            let heard = life.sink.count_of(to as u64);
            assert_eq!(received.delivered_frames, heard, "{who}: delivered");
        }
    }

    /// Tells that were reported lost by all living and drained nodes, by reason.
    pub(crate) fn lost(&self, reason: LostReason) -> u64 {
        let lives = self.nodes.iter().flat_map(Node::lives);
        let of = |life: &Life| {
            let others = (0..self.size()).filter(|to| *to != life.number);
            others.map(|to| life.stats(to).tells().lost(reason).frames).sum::<u64>()
        };
        lives.map(of).sum()
    }

    /// Tells that have arrived anywhere.
    pub(crate) fn delivered(&self) -> u64 {
        self.nodes.iter().flat_map(Node::lives).map(|life| life.sink.total()).sum()
    }

    /// Asserts that everything accepted was acknowledged, and nothing was lost; returns how much.
    pub(crate) fn all_acknowledged(&self) -> u64 {
        let mut all = 0;
        for life in self.nodes.iter().flat_map(Node::lives) {
            for to in (0..self.size()).filter(|to| *to != life.number) {
                let tells = life.stats(to).tells();
                assert_eq!(tells.lost_in_all().frames, 0, "{} -> {to}: {tells:?}", life.number);
                assert_eq!(tells.acknowledged_frames, tells.accepted_frames);
                all += tells.accepted_frames;
            }
        }
        assert_eq!(self.delivered(), all);
        all
    }
}

/// The report of a shutdown says what the ledger says.
fn check_report(life: &Life) {
    let (Some(report), Some(last)) = (&life.report, &life.last) else { return };
    let tells = || last.iter().flatten().map(|stats| stats.tells());
    let acknowledged: u64 = tells().map(|tells| tells.acknowledged_frames).sum();
    assert_eq!(report.acknowledged, acknowledged, "{report:?}");
    let lost: u64 = report.lost.iter().map(|(_, lost)| lost.frames).sum();
    let in_all: u64 = tells().map(|tells| tells.lost_in_all().frames).sum();
    assert!(lost <= in_all, "{report:?}, but {in_all} lost");
    assert_eq!(report.is_clean(), lost == 0);
}
