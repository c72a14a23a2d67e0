//! Row 7: large packets vanish without a word.

use tokio::time::sleep;

use super::{MS, SECS, associated, pair};
use crate::network::Pipe;
use crate::seeds::simulate;
use crate::world::World;

fn mtu(world: &World, n: usize) -> u16 {
    world.nodes[n].life().stats(1 - n).link.map_or(0, |link| link.mtu)
}

#[test]
fn row_07_packets_shrink_when_large_ones_vanish() {
    for (before, after) in [(9_000, 1_250), (1_472, 1_250), (9_000, 1_472)] {
        simulate(async || {
            let mut world = pair(7, Pipe { delay: MS(10), mtu: before, ..Pipe::default() });
            associated(&mut world).await;
            for _ in 0..100 {
                world.tell(0, 1, 5, 20_000);
                world.tell(1, 0, 5, 20_000);
                sleep(MS(50)).await;
            }
            let found = [mtu(&world, 0), mtu(&world, 1)];
            for (from, to) in [(0, 1), (1, 0)] {
                world.change(from, to, |pipe| pipe.mtu = after);
            }
            world.tell(0, 1, 20, 20_000);
            world.tell(1, 0, 20, 20_000);
            let took = world.quiet(SECS(60)).await;
            let now = [mtu(&world, 0), mtu(&world, 1)];
            let associations = [world.associations(0, 1), world.associations(1, 0)];
            println!(
                "row 7: from {before} to {after} B: {found:?}, then {now:?}; 800 kB through after \
                 {took:?}, {associations:?} associations"
            );
            assert!(now.iter().all(|mtu| usize::from(*mtu) <= after), "{now:?}");
            assert!(took <= SECS(10), "{took:?}");
            world.all_acknowledged();
        });
    }
}

#[test]
fn row_07_a_path_of_1250_bytes_from_the_beginning() {
    simulate(async || {
        let mut world = pair(7, Pipe { delay: MS(10), mtu: 1_250, ..Pipe::default() });
        let took = associated(&mut world).await;
        world.tell(0, 1, 20, 20_000);
        let through = world.quiet(SECS(60)).await;
        println!(
            "row 7: 1250 B from the beginning: associated in {took:?}, through in {through:?}"
        );
        assert!(took <= SECS(1));
        assert_eq!(world.associations(0, 1), 1);
        world.all_acknowledged();
    });
}
