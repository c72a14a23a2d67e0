//! Rows 1 to 3: packets that vanish, come late, twice or damaged.

use std::time::Duration;

use super::{SECS, associated, defaults, pair, talk};
use crate::network::Pipe;
use crate::seeds::{over_seeds, simulate};
use crate::world::World;

fn lossy(loss: f64) -> Pipe {
    Pipe { loss, delay: super::MS(10), ..Pipe::default() }
}

/// 400 tells each way in 10 s; returns associations, and how long gossip took.
fn talk_over(seed: u64, pipe: Pipe) -> (u64, Vec<Duration>) {
    simulate(async || {
        let mut world = pair(seed, pipe);
        talk(&mut world, 400, SECS(10)).await;
        world.quiet(SECS(60)).await;
        assert_eq!(world.all_acknowledged(), 800);
        let associations = world.associations(0, 1).max(world.associations(1, 0));
        (associations, world.gossip_delays())
    })
}

fn gossip(runs: Vec<(u64, Vec<Duration>)>) -> String {
    super::percentiles(runs.into_iter().flat_map(|(_, delays)| delays).collect())
}

#[test]
fn row_01_loss_costs_nothing_and_no_reconnect_up_to_10_percent() {
    for percent in [1, 5, 10, 30] {
        let run = |seed| talk_over(seed, lossy(f64::from(percent) / 100.0));
        let name = "row_01_loss_costs_nothing_and_no_reconnect_up_to_10_percent";
        let runs = over_seeds(name, 20, run, |_| format!("{percent} % loss"));
        let most = runs.iter().map(|(associations, _)| *associations).max().unwrap_or(0);
        let gossip = gossip(runs);
        println!("row 1: {percent} % loss: at most {most} associations, nothing lost; {gossip}");
        if percent <= 10 {
            assert_eq!(most, 1, "{percent} % loss");
        }
    }
}

#[test]
fn row_02_loss_in_the_handshake_delays_the_association_by_10_s_at_most() {
    for percent in [10, 20, 30] {
        let run = |seed| {
            simulate(async || {
                let mut world = pair(seed, lossy(f64::from(percent) / 100.0));
                let took = associated(&mut world).await;
                world.quiet(SECS(60)).await;
                took
            })
        };
        let name = "row_02_loss_in_the_handshake_delays_the_association_by_10_s_at_most";
        let mut times = over_seeds(name, 50, run, |_| format!("{percent} % loss"));
        times.sort();
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        let late = times.iter().filter(|time| **time > SECS(10)).count();
        println!(
            "row 2: {percent} % loss: associated in {median:?} (median), {worst:?} (worst), {late} of \
             {} after more than 10 s",
            times.len()
        );
        // At 30 % each way two dials in a row, of 5 s each, may come to nothing.
        let few = if percent < 30 { 0 } else { times.len() / 50 };
        assert!(late <= few && worst <= SECS(20), "{late} late, {worst:?}");
    }
}

/// Each packet of the handshake, and each number of the first ones, on either way.
#[test]
fn row_02_any_packet_of_the_handshake_may_be_lost() {
    let mut worst = Duration::ZERO;
    let single = (0..12).map(|n| 1_u64 << n);
    let first = (1..12).map(|n| (1_u64 << n) - 1);
    for lose in single.chain(first) {
        for (from, to) in [(0, 1), (1, 0)] {
            let took = simulate(async || {
                let mut world = World::quic(1, 2, lossy(0.0), defaults);
                world.change(from, to, |pipe| pipe.lose = lose);
                let took = associated(&mut world).await;
                world.quiet(SECS(60)).await;
                world.all_acknowledged();
                took
            });
            assert!(took <= SECS(10), "packets {lose:b} from {from}: {took:?}");
            worst = worst.max(took);
        }
    }
    println!("row 2: without any of the first packets: associated in {worst:?} at worst");
}

#[test]
fn row_03_reordered_doubled_and_damaged_packets_change_nothing() {
    let whole = || lossy(0.0);
    let late = super::MS(40);
    let cases = [
        ("reordering 50 %", Pipe { reorder: 0.5, late, ..whole() }),
        ("duplicates 5 %", Pipe { duplicate: 0.05, ..whole() }),
        ("flipped bits 2 %", Pipe { corrupt: 0.02, ..whole() }),
        ("all", Pipe { reorder: 0.5, late, duplicate: 0.05, corrupt: 0.02, ..whole() }),
    ];
    for (what, pipe) in cases {
        let name = "row_03_reordered_doubled_and_damaged_packets_change_nothing";
        let runs = over_seeds(name, 10, |seed| talk_over(seed, pipe.clone()), |_| what.into());
        let most = runs.iter().map(|(associations, _)| *associations).max().unwrap_or(0);
        let gossip = gossip(runs);
        println!("row 3: {what}: at most {most} associations, nothing lost or doubled; {gossip}");
        assert_eq!(most, 1, "{what}");
    }
}
