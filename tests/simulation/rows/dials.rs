//! Row 12: both nodes dial at once.

use super::{MS, SECS, pair};
use crate::network::Pipe;
use crate::random::Random;
use crate::seeds::{over_seeds, simulate};
use crate::world::World;
use cluster_quic::ConfigBuilder;
use tokio::time::sleep;

/// Both begin within 30 ms of each other; returns the associations that either side counts.
async fn race(world: &mut World, random: &mut Random) -> [u64; 2] {
    let first = random.below(2);
    world.tell(first, 1 - first, 5, 100);
    sleep(random.millis(0, 30)).await;
    world.tell(1 - first, first, 5, 100);
    sleep(SECS(3)).await;
    world.quiet(SECS(30)).await;
    assert_eq!(world.all_acknowledged(), 10);
    // One survives: it carries what comes now, and neither side has another.
    let before = [world.associations(0, 1), world.associations(1, 0)];
    world.tell(0, 1, 5, 100);
    world.tell(1, 0, 5, 100);
    world.quiet(SECS(30)).await;
    assert!(world.is_connected(0, 1) && world.is_connected(1, 0));
    assert_eq!([world.associations(0, 1), world.associations(1, 0)], before);
    before
}

fn summary(backend: &str, runs: &[[u64; 2]]) {
    let once = runs.iter().filter(|run| **run == [1, 1]).count();
    let most = runs.iter().flatten().max().copied().unwrap_or(0);
    println!(
        "row 12: {backend}: {} races, {once} with one association on both sides, at most {most}",
        runs.len()
    );
    assert!(most <= 2, "superseded at most once");
}

const NAME: &str = "row_12_of_two_dials_at_once_one_association_survives";

#[test]
fn row_12_of_two_dials_at_once_one_association_survives() {
    let runs = over_seeds(
        NAME,
        1_000,
        |seed| {
            simulate(async || {
                let mut random = Random::new(seed);
                let mut world = pair(seed, Pipe::default());
                for (from, to) in [(0, 1), (1, 0)] {
                    let delay = random.millis(0, 20);
                    world.change(from, to, |pipe| pipe.delay = delay);
                }
                race(&mut world, &mut random).await
            })
        },
        |_| "QUIC".into(),
    );
    summary("QUIC", &runs);
}

#[test]
fn row_12_in_process_as_well() {
    let name = "row_12_in_process_as_well";
    let same: fn(ConfigBuilder) -> ConfigBuilder = super::defaults;
    let run = |seed| {
        simulate(async || {
            let mut world = World::in_process(seed, 2, same);
            let mut random = Random::new(seed);
            let _ = MS;
            race(&mut world, &mut random).await
        })
    };
    let runs = over_seeds(name, 1_000, run, |_| "in process".into());
    summary("in process", &runs);
}
