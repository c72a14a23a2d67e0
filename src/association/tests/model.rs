//! Two associations against each other, over a model of connections in which every message is
//! delivered in an order of the test's choosing.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::super::*;
use super::{instance, timing};

const LOW: usize = 0;
const HIGH: usize = 1;

/// A connection in the model: who dialled it, and what it is called at each end.
struct Wire {
    dialler: usize,
    names: [Option<LinkId>; 2],
    /// The acceptor has been told of it.
    greeted: bool,
    dead: bool,
    /// What is on its way to each end, in order.
    mail: [VecDeque<Mail>; 2],
}

#[derive(Debug, Clone)]
enum Mail {
    Hello { instance: Instance, attempt: u64 },
    Accepted { instance: Instance, attempt: u64 },
    Closed(AssociationError),
}

/// One choice of the schedule.
#[derive(Debug, Clone)]
enum Step {
    /// Deliver the first mail of the n-th mailbox that has any.
    Deliver(usize),
    Want(usize),
    /// Let time pass up to the side's timer, and fire it.
    Fire(usize),
    /// Break the n-th living wire: both ends will hear of it.
    Cut(usize),
    /// Replace a node's process.
    Restart(usize),
    Disconnect(usize),
    Release(usize),
    Renew(usize),
}

struct Model {
    now: Instant,
    nodes: [Association; 2],
    instances: [Instance; 2],
    /// Wires by age.
    wires: BTreeMap<usize, Wire>,
    next_wire: usize,
    accepted: [u64; 2],
    active: [Option<usize>; 2],
    activations: usize,
    dials: usize,
    /// Ends of active links that nothing took the place of.
    breaks: usize,
}

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            now: Instant::now(),
            nodes: [
                Association::new(true, timing(), seed),
                Association::new(false, timing(), !seed),
            ],
            instances: [instance(1), instance(1)],
            wires: BTreeMap::new(),
            next_wire: 0,
            accepted: [0; 2],
            active: [None; 2],
            activations: 0,
            dials: 0,
            breaks: 0,
        }
    }

    fn feed(&mut self, side: usize, input: Input) {
        let outputs = self.nodes[side].handle(self.now, input);
        for output in outputs {
            self.perform(side, output);
        }
    }

    fn perform(&mut self, side: usize, output: Output) {
        match output {
            Output::Dial { link } => {
                self.dials += 1;
                let attempt = self.nodes[side].attempt();
                let hello = Mail::Hello { instance: self.instances[side], attempt };
                let mut mail = [VecDeque::new(), VecDeque::new()];
                mail[1 - side].push_back(hello);
                let mut names = [None; 2];
                names[side] = Some(link);
                let wire = Wire { dialler: side, names, greeted: false, dead: false, mail };
                self.wires.insert(self.next_wire, wire);
                self.next_wire += 1;
            }
            Output::Activate { link, .. } => {
                assert_eq!(self.active[side], None, "activated over an active link");
                let n = self.named(side, link).expect("activates a link that it has");
                self.active[side] = Some(n);
                self.activations += 1;
                if self.wires[&n].dialler != side {
                    let attempt = self.nodes[side].attempt();
                    let accepted = Mail::Accepted { instance: self.instances[side], attempt };
                    self.wires.get_mut(&n).unwrap().mail[1 - side].push_back(accepted);
                }
            }
            Output::Deactivate { link, reason } => {
                if reason != AssociationError::Superseded {
                    self.breaks += 1;
                }
                let n = self.active[side].take().expect("deactivates an active link");
                assert_eq!(self.wires[&n].names[side], Some(link));
            }
            Output::Close { link, reason } => {
                if let Some(n) = self.named(side, link) {
                    let wire = self.wires.get_mut(&n).unwrap();
                    wire.dead = true;
                    // As on a real connection: what we had not read is gone, and the peer reads what
                    // is before the close.
                    wire.mail[side].clear();
                    wire.names[side] = None;
                    wire.mail[1 - side].push_back(Mail::Closed(reason));
                }
            }
            Output::ReportDialFailed { .. } | Output::ReportRefused { .. } => {}
        }
    }

    fn named(&self, side: usize, link: LinkId) -> Option<usize> {
        self.wires.iter().find(|(_, wire)| wire.names[side] == Some(link)).map(|(n, _)| *n)
    }

    /// Whatever is on its way arrives, in `order` first.
    fn deliver_all(&mut self, order: Vec<usize>) {
        for n in order {
            self.step(&Step::Deliver(n));
        }
        while let Some(&(n, side)) = self.mailboxes().first() {
            self.deliver(n, side);
        }
    }

    fn mailboxes(&self) -> Vec<(usize, usize)> {
        let of = |(n, wire): (&usize, &Wire)| {
            [LOW, HIGH]
                .into_iter()
                .filter(|side| !wire.mail[*side].is_empty())
                .map(|s| (*n, s))
                .collect::<Vec<_>>()
        };
        self.wires.iter().flat_map(of).collect()
    }

    fn deliver(&mut self, n: usize, side: usize) {
        let wire = self.wires.get_mut(&n).unwrap();
        let Some(mail) = wire.mail[side].pop_front() else { return };
        match mail {
            Mail::Hello { instance, attempt } => {
                wire.greeted = true;
                self.accepted[side] += 1;
                let link = LinkId::Accepted(self.accepted[side]);
                self.wires.get_mut(&n).unwrap().names[side] = Some(link);
                self.feed(side, Input::Incoming { link, instance, attempt });
            }
            Mail::Accepted { instance, attempt } => {
                if let Some(link) = wire.names[side] {
                    self.feed(side, Input::Greeted { link, instance, attempt });
                }
            }
            Mail::Closed(reason) => {
                let Some(link) = wire.names[side] else { return };
                let dialling = wire.dialler == side && self.active[side] != Some(n);
                self.feed(
                    side,
                    if dialling {
                        Input::DialFailed { link, error: reason }
                    } else {
                        Input::Lost { link, reason }
                    },
                );
                self.wires.get_mut(&n).unwrap().names[side] = None;
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Deliver(n) => {
                let boxes = self.mailboxes();
                if let Some(&(n, side)) = boxes.get(n % boxes.len().max(1)) {
                    self.deliver(n, side);
                }
            }
            Step::Want(side) => self.feed(side, Input::Wanted),
            Step::Fire(side) => self.fire(side),
            Step::Cut(n) => {
                let living: Vec<_> =
                    self.wires.iter().filter(|(_, w)| !w.dead).map(|(n, _)| *n).collect();
                if let Some(n) = living.get(n % living.len().max(1)) {
                    self.cut(*n);
                }
            }
            Step::Restart(side) => self.restart(side),
            Step::Disconnect(side) => self.feed(side, Input::Disconnect),
            Step::Release(side) => self.feed(side, Input::Release),
            Step::Renew(side) => self.feed(side, Input::Renew { fresh: false }),
        }
    }

    fn fire(&mut self, side: usize) {
        if let Some(at) = self.nodes[side].wake_at() {
            self.now = self.now.max(at);
            self.feed(side, Input::Timer { pending: true });
        }
    }

    fn cut(&mut self, n: usize) {
        let wire = self.wires.get_mut(&n).unwrap();
        wire.dead = true;
        for side in [LOW, HIGH] {
            wire.mail[side].clear();
            wire.mail[side].push_back(Mail::Closed(AssociationError::TimedOut));
        }
    }

    fn restart(&mut self, side: usize) {
        let all: Vec<_> = self.wires.keys().copied().collect();
        for n in all {
            let wire = self.wires.get_mut(&n).unwrap();
            wire.dead = true;
            wire.names[side] = None;
            wire.mail[side].clear();
            wire.mail[1 - side].clear();
            wire.mail[1 - side].push_back(Mail::Closed(AssociationError::Reset));
        }
        self.active[side] = None;
        self.instances[side] = instance(self.instances[side].incarnation.0 + 1);
        self.nodes[side] = Association::new(side == LOW, timing(), self.next_wire as u64);
    }

    /// Lets everything arrive and every timer fire, both sides wanting each other.
    fn settle(&mut self) {
        for _ in 0..200 {
            while let Some(&(n, side)) = self.mailboxes().first() {
                self.deliver(n, side);
            }
            if self.active[LOW].is_some() && self.active[LOW] == self.active[HIGH] {
                return;
            }
            for side in [LOW, HIGH] {
                self.feed(side, Input::Wanted);
                self.fire(side);
            }
        }
        panic!("no association: {:?}", self.nodes);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let side = || 0..2_usize;
    let step = prop_oneof![
        12 => (0..8_usize).prop_map(Step::Deliver),
        3 => side().prop_map(Step::Want),
        3 => side().prop_map(Step::Fire),
        2 => (0..4_usize).prop_map(Step::Cut),
        1 => side().prop_map(Step::Restart),
        1 => side().prop_map(Step::Disconnect),
        1 => side().prop_map(Step::Release),
        1 => side().prop_map(Step::Renew),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happened before, both ends come to be active on one and the same connection, and no
    /// other lives.
    #[test]
    fn any_history_ends_in_one_association(seed: u64, history in steps()) {
        let mut model = Model::new(seed);
        for step in &history {
            model.step(step);
        }
        model.settle();
        let active = model.active[LOW].unwrap();
        prop_assert_eq!(model.nodes[LOW].active(), model.wires[&active].names[LOW]);
        prop_assert_eq!(model.nodes[HIGH].active(), model.wires[&active].names[HIGH]);
        let living = model.wires.values().filter(|wire| !wire.dead).count();
        prop_assert_eq!(living, 1, "one connection lives");
    }

    /// One side or both replace a standing connection, and everything arrives in any order: another one
    /// takes its place, and neither side is without one for a moment longer than it takes to change over.
    #[test]
    fn a_renewal_is_no_break(
        seed: u64,
        sides in prop_oneof![Just(vec![LOW]), Just(vec![HIGH]), Just(vec![LOW, HIGH])],
        order in proptest::collection::vec(0..8_usize, 0..20),
    ) {
        let mut model = Model::new(seed);
        model.step(&Step::Want(LOW));
        model.settle();
        let old = model.active[LOW];
        for side in sides {
            model.step(&Step::Renew(side));
        }
        model.deliver_all(order);
        prop_assert!(model.active[LOW].is_some());
        prop_assert_eq!(model.active[LOW], model.active[HIGH]);
        prop_assert_ne!(model.active[LOW], old);
        prop_assert_eq!(model.breaks, 0);
    }

    /// Both dial at the same time, and the greetings arrive in any order: two dials, no third.
    #[test]
    fn simultaneous_dials_converge_without_a_redial(seed: u64, order in proptest::collection::vec(0..8_usize, 0..20)) {
        let mut model = Model::new(seed);
        model.step(&Step::Want(LOW));
        model.step(&Step::Want(HIGH));
        model.deliver_all(order);
        prop_assert!(model.active[LOW].is_some());
        prop_assert_eq!(model.active[LOW], model.active[HIGH]);
        prop_assert_eq!(model.dials, 2);
        prop_assert_eq!(model.activations, 2, "one activation each");
    }
}
