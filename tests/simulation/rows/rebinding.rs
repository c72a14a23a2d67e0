//! Row 8: a peer's packets come from another port.

use tokio::time::sleep;

use super::{IDLE, MS, SECS, associated, pair};
use crate::network::Pipe;
use crate::seeds::{over_seeds, simulate};
use crate::world::socket_address;

/// The port of node `n` changes; `forwarded`: packets to the old one still reach it. Node 0 has
/// dialled. Returns when all was through, and the associations.
fn rebound(n: usize, forwarded: bool) -> (std::time::Duration, u64) {
    simulate(async || {
        let mut world = pair(8, Pipe { delay: MS(10), ..Pipe::default() });
        associated(&mut world).await;
        world.network().rebind(socket_address(n), ([127, 0, 0, 1], 20_000).into(), forwarded);
        for _ in 0..10 {
            world.tell(0, 1, 10, 100);
            world.tell(1, 0, 10, 100);
            sleep(MS(20)).await;
            world.check();
        }
        let took = world.quiet(SECS(60)).await;
        world.all_acknowledged();
        let associations = world.associations(0, 1).max(world.associations(1, 0));
        println!(
            "row 8: port of node {n} changed, old one {}: through {took:?} later, {associations} \
             associations",
            if forwarded { "forwarded" } else { "gone" }
        );
        (took, associations)
    })
}

#[test]
fn row_08_a_dialler_whose_port_changes_migrates() {
    for forwarded in [true, false] {
        let (took, associations) = rebound(0, forwarded);
        assert_eq!(associations, 1, "the connection migrates");
        assert!(took <= SECS(1), "{took:?}");
    }
}

/// A QUIC client does not follow its server: the connection is given up, and the node whose port
/// changed dials.
#[test]
fn row_08_an_acceptor_whose_port_changes_reconnects() {
    for forwarded in [true, false] {
        let (took, associations) = rebound(1, forwarded);
        assert_eq!(associations, 2);
        // The idle timeout, and where only one of them can dial, the other's own dial.
        assert!(took <= IDLE + SECS(6), "{took:?}");
    }
}

/// Only node 1, or only node 0, can dial: nobody reaches the other's advertised address. Both want to.
#[test]
fn row_08_of_two_nodes_that_dial_one_behind_a_translation_associates() {
    for hidden in [0, 1] {
        let name = "row_08_of_two_nodes_that_dial_one_behind_a_translation_associates";
        let run = |seed| {
            simulate(async || {
                let mut world = pair(seed, Pipe { delay: MS(10), ..Pipe::default() });
                let public = ([127, 0, 0, 1], 20_000).into();
                world.network().rebind(socket_address(hidden), public, false);
                world.tell(0, 1, 10, 100);
                sleep(MS(seed)).await;
                world.tell(1, 0, 10, 100);
                let took = world.quiet(SECS(60)).await;
                world.all_acknowledged();
                took
            })
        };
        let mut times = over_seeds(name, 50, run, |_| String::new());
        times.sort();
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        println!("row 8: nobody can dial node {hidden}: through in {median:?}, {worst:?} at worst");
        // The dial of the lesser address is waited for, and is not answered where that cannot dial.
        assert!(worst <= SECS(6), "{worst:?}");
    }
}
