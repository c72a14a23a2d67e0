//! Runs a schedule.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster_quic::Runtime;
use tokio::time::{Instant, sleep_until};

use crate::ledger::REASONS;
use crate::life::Life;
use crate::network::{Pipe, Traced};
use crate::schedule::{Action, Backend, Fault, Schedule};
use crate::seeds::simulate;
use crate::sink::Record;
use crate::world::{Net, World, socket_address};

/// By when nothing is pending any more, after the last fault has ended: the idle timeout, and a few
/// dials.
const QUIET: Duration = Duration::from_secs(10);

/// What a run came to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) accepted: u64,
    pub(crate) delivered: u64,
    /// Expired, to earlier lives, by shutdowns, to downed members.
    pub(crate) lost: [u64; 4],
    pub(crate) gossip: u64,
    pub(crate) refused: u64,
    pub(crate) resent: u64,
    pub(crate) associations: u64,
    pub(crate) lives: u64,
    pub(crate) checks: u64,
    pub(crate) faults: u64,
    /// In simulated time.
    pub(crate) took: Duration,
    pub(crate) settled_in: Duration,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.lost.iter_mut().zip(other.lost).for_each(|(sum, lost)| *sum += lost);
        self.gossip += other.gossip;
        self.refused += other.refused;
        self.resent += other.resent;
        self.associations += other.associations;
        self.lives += other.lives;
        self.checks += other.checks;
        self.faults += other.faults;
        self.took += other.took;
        self.settled_in = self.settled_in.max(other.settled_in);
    }
}

/// What can be compared between two runs of one seed.
#[derive(Debug, PartialEq)]
pub(crate) struct Transcript {
    pub(crate) packets: Vec<Traced>,
    pub(crate) records: Vec<Vec<Record>>,
    pub(crate) outcome: Outcome,
}

/// A flush that ended well: by then the receiver had so many of the sender's tells.
struct Flushed {
    arrived: u64,
    expected: u64,
    who: String,
}

type Flushes = Arc<Mutex<Vec<Flushed>>>;

pub(crate) fn run(schedule: &Schedule, runtime: Runtime) -> Outcome {
    simulate(async || {
        let mut world = world(schedule, runtime);
        follow(&mut world, schedule).await
    })
}

pub(crate) fn transcript(schedule: &Schedule) -> Transcript {
    simulate(async || {
        let mut world = world(schedule, Runtime::Simulated);
        if let Net::Quic { network, .. } = &world.net {
            network.record();
        }
        let outcome = follow(&mut world, schedule).await;
        let packets = match &world.net {
            Net::Quic { network, .. } => network.trace(),
            Net::InProcess(_) => Vec::new(),
        };
        let lives = world.nodes.iter().flat_map(|node| node.lives());
        let records = |life: &Life| {
            life.sink.records().into_iter().map(|(_, record)| record).collect::<Vec<_>>()
        };
        let records = lives.map(records).collect();
        Transcript { packets, records, outcome }
    })
}

pub(crate) fn world(schedule: &Schedule, runtime: Runtime) -> World {
    let settings = schedule.settings;
    let ms = Duration::from_millis;
    let adapt = move |config: cluster_quic::ConfigBuilder| {
        config
            .runtime(runtime)
            .tell_lanes(settings.lanes)
            .stream_window(settings.stream_window)
            .lane_budget(settings.lane_budget)
            .retention(settings.retention)
            .dial_timeout(ms(1_000))
            .idle_timeout(ms(2_000))
            .keep_alive(ms(500))
            .backoff_min(ms(20))
            .backoff_max(ms(500))
    };
    let (seed, size) = (schedule.seed, schedule.nodes);
    match schedule.backend {
        Backend::Quic => {
            let pipe = Pipe { delay: settings.delay, ..Pipe::default() };
            World::quic(seed, size, pipe, adapt)
        }
        Backend::InProcess => World::in_process(seed, size, adapt),
    }
}

/// Does what the schedule says, waits until it is quiet, and checks everything.
pub(crate) async fn follow(world: &mut World, schedule: &Schedule) -> Outcome {
    let flushes = Flushes::default();
    let begin = Instant::now();
    for step in &schedule.steps {
        sleep_until(begin + step.at).await;
        perform(world, step.action, &flushes).await;
    }
    for n in 0..world.size() {
        world.drained(n).await;
        if world.nodes[n].life.is_none() {
            world.start(n);
        }
    }
    let settled_in = world.quiet(QUIET).await;
    world.gossip_arrives(QUIET).await;
    world.check();
    for Flushed { arrived, expected, who } in flushes.lock().unwrap().iter() {
        assert!(arrived >= expected, "{who}: flushed with {arrived} of {expected} there");
    }
    outcome(world, schedule, begin, settled_in)
}

async fn perform(world: &mut World, action: Action, flushes: &Flushes) {
    match action {
        Action::Tell { from, to, count, size } => drop(world.tell(from, to, count, size)),
        Action::Gossip { from, to } => world.gossip(from, to),
        Action::Flush { from, to } => flush(world, from, to, flushes),
        Action::Fault { from, to, fault } => {
            world.change(from, to, |pipe| match fault {
                Fault::Loss(loss) => pipe.loss = loss,
                Fault::Duplicates(chance) => pipe.duplicate = chance,
                Fault::Reordering(chance) => pipe.reorder = chance,
                Fault::Corruption(chance) => pipe.corrupt = chance,
                Fault::Delay(delay) => pipe.delay = delay,
                Fault::Rate(rate, queue) => (pipe.rate, pipe.queue) = (Some(rate), queue),
                Fault::Mtu(mtu) => pipe.mtu = mtu,
            });
        }
        Action::Mend { from, to } => {
            let whole = world.pipe.clone();
            world.change(from, to, |pipe| *pipe = Pipe { cut: pipe.cut, ..whole });
        }
        Action::Cut { from, to, both } => {
            world.cut(from, to, true);
            if both {
                world.cut(to, from, true);
            }
        }
        Action::Heal { from, to, both } => {
            world.cut(from, to, false);
            if both {
                world.cut(to, from, false);
            }
        }
        Action::Rebind { node, port, forwarded } => {
            let public = ([127, 0, 0, 1], port).into();
            world.network().rebind(socket_address(node), public, forwarded);
        }
        Action::Restore { node } => world.network().restore(socket_address(node)),
        Action::FailSends { node, fault } => {
            world.network().fail_sends(socket_address(node), Some(fault));
        }
        Action::SendAgain { node } => world.network().fail_sends(socket_address(node), None),
        Action::Disconnect { from, to } => {
            if let Some(life) = &world.nodes[from].life {
                life.peer(to).disconnect();
            }
        }
        Action::Quarantine { from, to } => {
            if let Some(life) = &world.nodes[from].life {
                let _ = life.peer(to).quarantine();
            }
        }
        Action::Kill { node } => world.kill(node),
        Action::Drain { node, deadline } => world.drain(node, deadline),
        Action::Start { node } => {
            world.drained(node).await;
            if world.nodes[node].life.is_none() {
                world.start(node);
            }
        }
        Action::Check => world.check(),
    }
}

/// Waits in the background until `from`'s tells so far are acknowledged; at that moment all but those
/// that were lost before must have arrived, in whichever life of the receiver.
fn flush(world: &World, from: usize, to: usize, flushes: &Flushes) {
    let Some(life) = &world.nodes[from].life else { return };
    let peer = life.peer(to).clone();
    let tells = peer.stats().tells();
    let expected = tells.accepted_frames - tells.lost_in_all().frames;
    let who = format!("{from} (life {}) -> {to}", life.incarnation);
    let (number, incarnation) = (from as u64, life.incarnation);
    let (sinks, flushes) = (Arc::clone(&world.nodes[to].sinks), Arc::clone(flushes));
    tokio::spawn(async move {
        if peer.flush().await.is_ok() {
            let sinks = sinks.lock().unwrap();
            let arrived = sinks.iter().map(|sink| sink.count(number, incarnation)).sum();
            flushes.lock().unwrap().push(Flushed { arrived, expected, who });
        }
    });
}

fn outcome(world: &World, schedule: &Schedule, begin: Instant, settled_in: Duration) -> Outcome {
    let mut outcome = Outcome {
        delivered: world.delivered(),
        lost: REASONS.map(|reason| world.lost(reason)),
        gossip: world.gossip_delays().len() as u64,
        checks: world.checks,
        faults: schedule.faults() as u64,
        took: begin.elapsed(),
        settled_in,
        ..Outcome::default()
    };
    for life in world.nodes.iter().flat_map(|node| node.lives()) {
        outcome.lives += 1;
        for to in (0..world.size()).filter(|to| *to != life.number) {
            let stats = life.stats(to);
            outcome.accepted += stats.tells().accepted_frames;
            outcome.resent += stats.tells().resent_frames;
            outcome.associations += stats.associations;
            outcome.refused += life.sent[to].refused;
        }
    }
    outcome
}
