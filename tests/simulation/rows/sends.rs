//! Row 9: the system refuses to send.

use tokio::time::sleep;

use super::{MS, SECS, associated, pair};
use crate::network::{Pipe, SendFault};
use crate::seeds::simulate;
use crate::world::socket_address;

#[test]
fn row_09_failed_sends_are_outlived_without_spinning() {
    for fault in [SendFault::NoBuffers, SendFault::NotPermitted, SendFault::Full] {
        for seconds in [3, 20] {
            simulate(async || {
                let mut world = pair(9, Pipe { delay: MS(10), ..Pipe::default() });
                associated(&mut world).await;
                let network = world.network().clone();
                network.fail_sends(socket_address(0), Some(fault));
                for _ in 0..seconds * 10 {
                    world.tell(0, 1, 2, 100);
                    world.tell(1, 0, 2, 100);
                    sleep(MS(100)).await;
                    world.check();
                }
                let failed = network.failed_sends(socket_address(0));
                network.fail_sends(socket_address(0), None);
                let took = world.quiet(SECS(60)).await;
                let associations = [world.associations(0, 1), world.associations(1, 0)];
                println!(
                    "row 9: {fault:?} for {seconds} s: {failed} sends failed; through {took:?} \
                     later, {associations:?} associations"
                );
                // Of the fault's ten parts a second each may send, acknowledge and probe.
                assert!(failed <= seconds * 10 * 4, "{failed} in {seconds} s is spinning");
                assert!(took <= SECS(15), "{took:?}");
                if seconds == 3 {
                    assert_eq!(associations, [1, 1]);
                }
                world.all_acknowledged();
            });
        }
    }
}
