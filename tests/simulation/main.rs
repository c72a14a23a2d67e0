//! Clusters in simulated time, under faults: real QUIC and TLS over a network in memory, and the
//! in-process backend, with the ledger held against both ends' records.
//!
//! ```text
//! cargo test --test simulation                                    everything, 1 000 random schedules
//! cargo test --test simulation row_05 -- --nocapture              one kind of fault, with its figures
//! CLUSTER_QUIC_SEED=7 cargo test --test simulation random         one seed again
//! CLUSTER_QUIC_SEEDS=100000 cargo test --test simulation random   a long run
//! CLUSTER_QUIC_MINUTES=1800 cargo test --test simulation row_25   a long life of one cluster
//! ```
//!
//! A seed is all that a run depends on: the clock is simulated, each runtime has one thread, sinks run
//! in it too (`Runtime::Simulated`), and whatever is drawn is drawn from the seed. What fails says its
//! seed and its schedule. Seeds run on two threads, each in a world of its own.
//!
//! What every run ends with, and partly holds at random moments: `ledger`. What single faults must
//! not do: `rows`, numbered as the faults are. What else a random schedule mixes: `schedule`.

mod heard;
mod identity;
mod ledger;
mod life;
#[path = "../simulated/network.rs"]
mod network;
mod random;
mod raw;
mod rows;
mod runner;
mod schedule;
mod seeds;
mod sink;
mod world;

use cluster_quic::Runtime;

use runner::Outcome;
use schedule::Schedule;

/// Runs the schedules of `count` seeds and says what they came to.
fn random(test: &str, count: u64, runtime: Runtime) {
    let outcomes = seeds::over_seeds(
        test,
        count,
        |seed| runner::run(&Schedule::of(seed), runtime),
        |seed| Schedule::of(seed).to_string(),
    );
    let mut sum = Outcome::default();
    outcomes.iter().for_each(|outcome| sum.add(outcome));
    println!("{test}: {sum:#?}");
    // A schedule may kill everybody who was told something, or tell only who is cut off.
    let first = seeds::only().unwrap_or(0);
    let silent = (first..).zip(&outcomes).filter(|(_, outcome)| outcome.delivered == 0);
    let silent: Vec<_> = silent.map(|(seed, _)| (seed, Schedule::of(seed).to_string())).collect();
    assert!(silent.len() <= outcomes.len() / 100, "nothing arrived: {silent:#?}");
}

#[test]
fn random_schedules() {
    random("random_schedules", 1_000, Runtime::Simulated);
}

/// With the sinks on threads, as a real node has them: these runs do not repeat themselves exactly.
#[test]
fn random_schedules_with_threads() {
    random("random_schedules_with_threads", 100, Runtime::Current);
}

#[test]
fn a_seed_repeats_itself() {
    let run = |seed| {
        let schedule = Schedule::of(seed);
        let mut runs = [runner::transcript(&schedule), runner::transcript(&schedule)];
        // In which order a node that ends says goodbye to its peers is not drawn from the seed.
        for run in &mut runs {
            run.packets.sort_by_key(|packet| (packet.at, packet.ports));
        }
        let [one, two] = runs;
        for (n, (one, two)) in one.packets.iter().zip(&two.packets).enumerate() {
            assert_eq!(one, two, "seed {seed}, packet {n}");
        }
        assert_eq!(one, two, "seed {seed}");
        (one.packets.len(), one.records.iter().map(Vec::len).sum::<usize>())
    };
    let describe = |seed| Schedule::of(seed).to_string();
    let runs = seeds::over_seeds("a_seed_repeats_itself", 40, run, describe);
    let packets: usize = runs.iter().map(|(packets, _)| packets).sum();
    let tells: usize = runs.iter().map(|(_, tells)| tells).sum();
    println!("each seed twice: the same {packets} packets and {tells} tells");
}
