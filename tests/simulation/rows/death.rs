//! Row 10, in simulation: a node dies without a word, and is back at its address at once.

use std::time::Duration;

use cluster_quic::{AssociationError, LostReason};
use tokio::time::{Instant, sleep};

use super::{IDLE, MS, SECS, associated, defaults, pair};
use crate::identity::Ca;
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

/// What is sent once a node is back.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sent {
    Nothing,
    /// To it, every 100 ms and all the while that it was away.
    Gossip,
    /// To it, once.
    Tells,
    /// By it.
    ItsOwn,
}

/// Node 1 dies while tells to it are in flight, and is back after `away`, with the identity that `world` has then.
/// Returns when node 0 knows the new life.
async fn back_after(world: &mut World, away: Duration, sent: Sent) -> Duration {
    associated(world).await;
    world.tell(0, 1, 20, 100);
    sleep(MS(15)).await;
    world.kill(1);
    let died = Instant::now();
    let mut ticks = 0;
    while died.elapsed() < away {
        if sent == Sent::Gossip && ticks % 10 == 0 {
            world.gossip(0, 1);
        }
        ticks += 1;
        sleep(MS(10)).await;
    }
    world.start(1);
    let begin = Instant::now();
    match sent {
        Sent::Nothing | Sent::Gossip => {}
        Sent::Tells => drop(world.tell(0, 1, 20, 100)),
        Sent::ItsOwn => drop(world.tell(1, 0, 1, 100)),
    }
    let new = world.nodes[1].life().incarnation;
    let known = |world: &World| world.nodes[0].life().stats(1).incarnation.map(|life| life.0);
    while known(world) != Some(new) {
        if sent == Sent::Gossip && ticks % 10 == 0 {
            world.gossip(0, 1);
        }
        ticks += 1;
        world.check();
        assert!(begin.elapsed() < SECS(20), "never noticed");
        sleep(MS(10)).await;
    }
    let noticed = begin.elapsed();
    world.quiet(SECS(60)).await;
    noticed
}

/// Whatever is sent is answered by a reset. With nothing to send it is the next probe, which comes the later the
/// longer the node was away.
#[test]
fn row_10_who_was_away_for_seconds_is_noticed_with_what_is_sent_next() {
    for sent in [Sent::Tells, Sent::Gossip, Sent::Nothing] {
        for seconds in [1, 3, 5, 8] {
            let noticed = simulate(async || {
                let mut world = pair(10, Pipe { delay: MS(10), ..Pipe::default() });
                back_after(&mut world, SECS(seconds), sent).await
            });
            println!("row 10: {seconds} s away, then {sent:?}: known after {noticed:?}");
            // A keep-alive comes every two seconds.
            let limit = if sent == Sent::Nothing { MS(2_500) } else { MS(1_000) };
            assert!(noticed <= limit, "{noticed:?}");
        }
    }
}

/// With another key the new process's resets are none: what then tells is its own dial, or the idle timeout.
#[test]
fn row_10_who_comes_back_with_another_key_is_noticed_by_its_dial_or_the_idle_timeout() {
    for sent in [Sent::ItsOwn, Sent::Tells, Sent::Gossip, Sent::Nothing] {
        let noticed = simulate(async || {
            let ca = Ca::new();
            let pipe = Pipe { delay: MS(10), ..Pipe::default() };
            let mut world = World::quic_with(10, 2, pipe, ca.identity(), defaults);
            world.renew(ca.identity());
            back_after(&mut world, MS(200), sent).await
        });
        println!("row 10: another key, then {sent:?}: known after {noticed:?}");
        let limit = if sent == Sent::ItsOwn { SECS(1) } else { IDLE + MS(500) };
        assert!(noticed <= limit, "{noticed:?}");
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
