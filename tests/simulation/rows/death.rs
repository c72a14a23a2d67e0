//! Row 10, in simulation: a node dies without a word, and is back at its address at once.

use std::time::Duration;

use cluster_quic::{AssociationError, LostReason};
use tokio::time::{Instant, sleep};

use super::{MS, SECS, associated, pair};
use crate::network::Pipe;
use crate::seeds::{over_seeds, simulate};
use crate::world::World;

/// Node 1 dies under load, and is back after `away`; returns when node 0 noticed, and what it lost.
async fn restart(world: &mut World, away: Duration) -> (Duration, AssociationError, u64) {
    associated(world).await;
    world.tell(0, 1, 200, 1_000);
    sleep(MS(15)).await;
    world.kill(1);
    sleep(away).await;
    world.start(1);
    let begin = Instant::now();
    world.tell(0, 1, 200, 1_000);
    let noticed = loop {
        world.check();
        if let Some((at, _, reason)) = world.nodes[0].life().downs.first() {
            break (*at - begin, reason.clone());
        }
        assert!(begin.elapsed() < SECS(15), "never noticed");
        sleep(MS(10)).await;
    };
    world.quiet(SECS(60)).await;
    (noticed.0, noticed.1, world.lost(LostReason::PeerRestarted))
}

#[test]
fn row_10_a_restart_is_noticed_within_a_second_and_the_new_life_gets_nothing_old() {
    // Who is away for longer is probed less and less often.
    let away = |seed: u64| MS(50 + seed % 20 * 20);
    let run = |seed| {
        simulate(async || {
            let mut world = pair(seed, Pipe { delay: MS(10), ..Pipe::default() });
            restart(&mut world, away(seed)).await
        })
    };
    let name = "row_10_a_restart_is_noticed_within_a_second_and_the_new_life_gets_nothing_old";
    let runs = over_seeds(name, 20, run, |seed| format!("{:?} away", away(seed)));
    let worst = runs.iter().map(|(noticed, _, _)| *noticed).max().unwrap_or_default();
    let lost: u64 = runs.iter().map(|(_, _, lost)| lost).sum();
    println!("row 10: noticed after {worst:?} at worst; {lost} of 8000 reported lost with the old");
    assert!(worst <= SECS(1), "{worst:?}");
    for (_, reason, _) in runs {
        assert_eq!(reason, AssociationError::Reset);
    }
}

/// Nothing is sent when it comes back: the next keep-alive, two seconds later at most, is answered by
/// a reset.
#[test]
fn row_10_an_idle_association_notices_with_its_next_probe() {
    simulate(async || {
        let mut world = pair(10, Pipe { delay: MS(10), ..Pipe::default() });
        associated(&mut world).await;
        world.kill(1);
        world.start(1);
        let begin = Instant::now();
        loop {
            world.check();
            if let Some((at, _, reason)) = world.nodes[0].life().downs.first() {
                let took = *at - begin;
                println!("row 10: idle: noticed after {took:?}: {reason}");
                assert!(took <= SECS(2) + MS(500), "{took:?}");
                break;
            }
            assert!(begin.elapsed() < SECS(15), "never noticed");
            sleep(MS(10)).await;
        }
        world.tell(0, 1, 10, 100);
        world.quiet(SECS(60)).await;
        world.all_acknowledged();
    });
}

#[test]
fn row_10_a_sender_that_dies_and_comes_back_is_not_taken_for_its_old_life() {
    let run = |seed| {
        simulate(async || {
            let mut world = pair(seed, Pipe { delay: MS(10), ..Pipe::default() });
            associated(&mut world).await;
            world.tell(0, 1, 200, 1_000);
            sleep(MS(5 + seed)).await;
            world.kill(0);
            world.start(0);
            world.tell(0, 1, 200, 1_000);
            world.quiet(SECS(60)).await;
            world.nodes[1].life().sink.count(0, 1)
        })
    };
    let name = "row_10_a_sender_that_dies_and_comes_back_is_not_taken_for_its_old_life";
    let runs = over_seeds(name, 30, run, |_| String::new());
    let cut = runs.iter().filter(|count| **count < 201).count();
    println!("row 10: sender died: in {cut} of {} runs before all had arrived", runs.len());
}
