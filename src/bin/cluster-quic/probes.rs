//! Which answer belongs to which question on a gossip lane: how long gossip takes there and back,
//! through the other node's daemon.
//!
//! An atomr daemon answers `GossipPdu::Merge` with its `Envelope` at once, and `Status` with an
//! `Envelope`, with a `Merge` or not at all, by the clocks. Answers name no question. But a lane keeps
//! its order, and so does a daemon: answers come in the order of the questions, and what a `Status` is
//! answered with can be told from the clock that the next `Envelope` carries. A clock could move in the
//! time between a `Status` and the question behind it; so a probe is sent directly behind each.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use atomr_cluster::{GossipPdu, VectorClock, VectorRelation};

/// Questions that may be open at a time: more would say nothing new, and their answers could displace
/// each other in the other node's queue.
const MAX_OPEN: usize = 64;

/// For how long nothing is asked after questions or answers may have been lost, so that a late answer
/// is not taken for a new one.
const QUIET: Duration = Duration::from_secs(1);

/// Open questions to one peer.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    open: VecDeque<Question>,
    /// What must be as it was for answers to come in order: associations, and gossip dropped here.
    life: Option<(u64, u64)>,
    quiet_until: Option<Instant>,
    /// Probes sent, and how many of them were answered.
    pub(crate) sent: u64,
    pub(crate) answered: u64,
}

#[derive(Debug)]
enum Question {
    Merge { at: Instant, asked_by: Asker },
    Status(VectorClock),
}

/// Who wants the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// This tool: nobody else is to see it.
    Probe,
    /// This node's own daemon.
    Daemon,
}

/// An envelope that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) delay: Duration,
    pub(crate) asked_by: Asker,
}

impl Probes {
    /// To be called before each of the others, with the peer's figures of this moment.
    pub(crate) fn note(&mut self, associations: u64, dropped: u64, now: Instant) {
        let life = Some((associations, dropped));
        if self.life != life {
            // At the very first there is nothing to be late.
            if self.life.is_some() {
                self.quiet_until = Some(now + QUIET);
            }
            self.life = life;
            self.open.clear();
        }
        if self.quiet_until.is_some_and(|until| now >= until) {
            self.quiet_until = None;
        }
    }

    /// Whether a probe may be sent.
    pub(crate) fn may_probe(&self) -> bool {
        self.quiet_until.is_none() && self.open.len() < MAX_OPEN
    }

    /// A `Merge` is sent.
    pub(crate) fn merge(&mut self, asked_by: Asker, now: Instant) {
        if asked_by == Asker::Probe {
            self.sent += 1;
        }
        self.open(Question::Merge { at: now, asked_by });
    }

    /// A `Status` is sent.
    pub(crate) fn status(&mut self, clock: VectorClock) {
        self.open(Question::Status(clock));
    }

    fn open(&mut self, question: Question) {
        if self.quiet_until.is_none() {
            self.open.push_back(question);
        }
        // Nobody answers: a `Status` needs no answer, and must not be remembered for ever.
        if self.open.len() > 2 * MAX_OPEN {
            self.open.pop_front();
        }
    }

    /// An `Envelope` came; `Some` if it answers a `Merge`.
    pub(crate) fn envelope(&mut self, clock: &VectorClock, now: Instant) -> Option<Answer> {
        while let Some(question) = self.open.pop_front() {
            match question {
                Question::Merge { at, asked_by } => {
                    if asked_by == Asker::Probe {
                        self.answered += 1;
                    }
                    return Some(Answer { delay: now.saturating_duration_since(at), asked_by });
                }
                // As the other daemon decides: it sends what is newer than the asker's, or beside it.
                Question::Status(asked) => match clock.compare(&asked) {
                    VectorRelation::After | VectorRelation::Concurrent => return None,
                    _ => {}
                },
            }
        }
        None
    }

    /// A `Merge` came: a daemon's answer to an older `Status`, and to nothing else.
    pub(crate) fn asked_back(&mut self) {
        let status = self.open.iter().position(|open| matches!(open, Question::Status(_)));
        if let Some(place) = status {
            self.open.drain(..=place);
        }
    }

    /// The oldest probe that is not answered yet.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.open.iter().find_map(|open| match open {
            Question::Merge { at, asked_by: Asker::Probe } => Some(*at),
            _ => None,
        })
    }
}

/// Whether nobody has asked for it: a node that joins or leaves announces itself by an envelope with
/// its own entry alone, and with a clock of its own making, which no daemon that knows others has.
pub(crate) fn is_announcement(pdu: &GossipPdu) -> bool {
    let GossipPdu::Envelope { from, version, state } = pdu else { return false };
    let alone = state.members.len() == 1 && state.members[0].address.to_string() == *from;
    alone && version.versions.len() == 1 && version.versions.get(from) == Some(&1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use atomr_cluster::{Member, MembershipState};
    use atomr_core::actor::Address;

    #[test]
    fn an_announcement_is_its_sender_alone() {
        let node = |port| Address::remote("akka.quic", "sys", "a", port);
        let envelope = |members: &[u16], at| {
            let mut state = MembershipState::new();
            members.iter().for_each(|port| state.add_or_update(Member::new(node(*port), vec![])));
            let from = node(1).to_string();
            let version = clock(&[(&from, at)]);
            GossipPdu::Envelope { from, version, state }
        };
        assert!(is_announcement(&envelope(&[1], 1)));
        // What daemons answer, of more or of themselves, and of somebody else.
        assert!(!is_announcement(&envelope(&[1, 2], 1)));
        assert!(!is_announcement(&envelope(&[1], 7)));
        assert!(!is_announcement(&envelope(&[2], 1)));
    }

    fn clock(entries: &[(&str, u64)]) -> VectorClock {
        let versions = entries.iter().map(|(node, at)| ((*node).to_owned(), *at)).collect();
        VectorClock { versions }
    }

    fn probe(probes: &mut Probes, now: Instant) {
        assert!(probes.may_probe());
        probes.merge(Asker::Probe, now);
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn answers_come_in_the_order_of_the_questions() {
        let (mut probes, begin) = (Probes::default(), Instant::now());
        probes.note(1, 0, begin);
        probe(&mut probes, begin);
        probes.merge(Asker::Daemon, begin + MS);
        probe(&mut probes, begin + 2 * MS);
        let mut answer = |at| probes.envelope(&clock(&[("b", 1)]), begin + at * MS);
        assert_eq!(answer(5), Some(Answer { delay: 5 * MS, asked_by: Asker::Probe }));
        assert_eq!(answer(5), Some(Answer { delay: 4 * MS, asked_by: Asker::Daemon }));
        assert_eq!(answer(9), Some(Answer { delay: 7 * MS, asked_by: Asker::Probe }));
        assert_eq!(answer(9), None, "nobody asked");
        assert_eq!((probes.sent, probes.answered), (2, 2));
    }

    #[test]
    fn a_status_is_answered_by_the_clocks() {
        let now = Instant::now();
        let ours = clock(&[("a", 3), ("b", 3)]);
        let ask = || {
            let mut probes = Probes::default();
            probes.note(1, 0, now);
            probes.status(ours.clone());
            probe(&mut probes, now);
            probes
        };
        // Newer or concurrent: the envelope is the status's, and the probe's comes behind it.
        for newer in [clock(&[("a", 3), ("b", 4)]), clock(&[("a", 2), ("b", 4)])] {
            let mut probes = ask();
            assert_eq!(probes.envelope(&newer, now), None);
            assert!(probes.envelope(&newer, now).is_some());
        }
        // The same: no answer but to the probe.
        assert!(ask().envelope(&ours, now).is_some());
        // Older: the other daemon asks back first, and then answers the probe.
        let mut probes = ask();
        probes.asked_back();
        assert!(probes.envelope(&clock(&[("b", 9)]), now).is_some());
    }

    #[test]
    fn what_another_life_was_asked_is_not_answered_by_this_one() {
        let (mut probes, begin) = (Probes::default(), Instant::now());
        probes.note(1, 0, begin);
        probe(&mut probes, begin);
        assert_eq!(probes.oldest(), Some(begin));
        probes.note(2, 0, begin + MS);
        assert!(!probes.may_probe(), "a late answer may still come");
        assert_eq!(probes.envelope(&clock(&[]), begin + MS), None);
        // Not even the daemon's own are reckoned with until then.
        probes.merge(Asker::Daemon, begin + MS);
        assert_eq!(probes.envelope(&clock(&[]), begin + 2 * MS), None);
        probes.note(2, 0, begin + MS + QUIET);
        probe(&mut probes, begin + MS + QUIET);
        // The same for gossip that was displaced here.
        probes.note(2, 1, begin + 2 * MS + QUIET);
        assert!(!probes.may_probe());
        assert_eq!((probes.sent, probes.answered, probes.oldest()), (2, 0, None));
    }

    #[test]
    fn who_does_not_answer_is_not_asked_for_ever() {
        let (mut probes, now) = (Probes::default(), Instant::now());
        probes.note(1, 0, now);
        for _ in 0..MAX_OPEN {
            probe(&mut probes, now);
        }
        assert!(!probes.may_probe());
        for _ in 0..1000 {
            probes.status(clock(&[]));
        }
        assert!(probes.open.len() <= 2 * MAX_OPEN);
    }
}
