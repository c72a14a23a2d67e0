//! Rows 4 and 5: silence, and one way that is cut.

use std::time::Duration;

use cluster_quic::Event;
use tokio::time::{Instant, sleep, timeout};

use super::{IDLE, MS, SECS, associated, pair, percentiles, talk};
use crate::network::Pipe;
use crate::seeds::simulate;
use crate::world::World;

fn pipe() -> Pipe {
    Pipe { delay: MS(10), ..Pipe::default() }
}

/// Both ways are silent for so long while both nodes tell; returns the associations of either side, and how long
/// gossip took that arrived.
fn silence(time: Duration) -> ([u64; 2], String) {
    simulate(async || {
        let mut world = pair(4, pipe());
        associated(&mut world).await;
        world.cut_both(0, 1, true);
        talk(&mut world, 100, time).await;
        sleep(time / 10).await;
        world.cut_both(0, 1, false);
        world.quiet(SECS(60)).await;
        world.all_acknowledged();
        let associations = [world.associations(0, 1), world.associations(1, 0)];
        world.gossip_arrives(SECS(5)).await;
        (associations, percentiles(world.gossip_delays()))
    })
}

#[test]
fn row_04_two_seconds_of_silence_cost_no_handshake() {
    let (associations, gossip) = silence(SECS(2));
    println!(
        "row 4: 2 s of silence: {associations:?} associations, nothing lost or doubled; {gossip}"
    );
    assert_eq!(associations, [1, 1]);
}

#[test]
fn row_04_silence_beyond_the_idle_timeout_costs_one_handshake() {
    for seconds in [12, 15, 30] {
        let (associations, gossip) = silence(SECS(seconds));
        println!(
            "row 4: {seconds} s of silence: {associations:?} associations, nothing lost or doubled; {gossip}"
        );
        assert_eq!(associations, [2, 2]);
    }
}

/// Lanes that stand still since the path is cut are not for [`Event::LaneStuck`].
#[test]
fn row_04_a_silent_path_is_no_stuck_lane() {
    for cuts in [&[(0, 1), (1, 0)][..], &[(0, 1)], &[(1, 0)]] {
        simulate(async || {
            let mut world = World::quic(6, 2, pipe(), |c| c.lane_stuck_after(SECS(2)));
            associated(&mut world).await;
            let mut events = [0, 1].map(|n| world.nodes[n].life().transport().events());
            cuts.iter().for_each(|(from, to)| world.cut(*from, *to, true));
            talk(&mut world, 100, SECS(8)).await;
            cuts.iter().for_each(|(from, to)| world.cut(*from, *to, false));
            world.quiet(SECS(60)).await;
            world.all_acknowledged();
            for events in &mut events {
                while let Ok(Some(event)) = timeout(MS(1), events.recv()).await {
                    assert!(!matches!(event, Event::LaneStuck { .. }), "{event:?}");
                }
            }
        });
    }
}

/// When node `n`'s first association ended, and why.
fn down(world: &mut World, n: usize, since: Instant) -> (Duration, String) {
    world.check();
    let (at, _, reason) = &world.nodes[n].life().downs[0];
    (*at - since, reason.to_string())
}

/// Cuts the way from node `from`; `talking`: both tell meanwhile.
fn one_way(from: usize, talking: bool) {
    simulate(async || {
        let mut world = pair(5, pipe());
        associated(&mut world).await;
        let begin = Instant::now();
        world.cut(from, 1 - from, true);
        if talking {
            world.tell(0, 1, 50, 100);
            world.tell(1, 0, 50, 100);
        }
        for _ in 0..400 {
            sleep(MS(100)).await;
            world.check();
        }
        let downs = [down(&mut world, 0, begin), down(&mut world, 1, begin)];
        let what = if talking { "with traffic" } else { "idle" };
        println!("row 5: cut from {from}, {what}: down after {downs:?}");
        for (time, _) in downs {
            assert!(time <= IDLE + SECS(1), "down after {time:?}");
        }
        world.cut(from, 1 - from, false);
        world.tell(0, 1, 1, 100);
        let both = |world: &World| world.is_connected(0, 1) && world.is_connected(1, 0);
        let back = world.until("they are back", SECS(20), both).await;
        println!("row 5: back {back:?} after healing");
        world.quiet(SECS(60)).await;
        world.all_acknowledged();
    });
}

#[test]
fn row_05_a_one_way_partition_takes_both_sides_down_under_traffic() {
    one_way(0, true);
    one_way(1, true);
}

#[test]
fn row_05_a_one_way_partition_takes_both_sides_down_when_idle() {
    one_way(0, false);
    one_way(1, false);
}
