//! Row 6: a link that comes and goes every second for five minutes.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::{MS, SECS};
use crate::network::Pipe;
use crate::seeds::simulate;
use crate::world::World;

const BACKOFF: (Duration, Duration) = (MS_100, SECS_10);
const MS_100: Duration = Duration::from_millis(100);
const SECS_10: Duration = Duration::from_secs(10);

#[test]
fn row_06_a_flapping_link_is_dialled_by_the_backoff_and_leaves_no_tasks() {
    simulate(async || {
        // Each second of silence breaks the association.
        let mut world = World::quic(6, 2, Pipe { delay: MS(10), ..Pipe::default() }, |config| {
            config.idle_timeout(MS(500)).keep_alive(MS(100)).dial_timeout(MS(500))
        });
        let mut tasks = Vec::new();
        for second in 0..300 {
            world.cut_both(0, 1, second % 2 == 1);
            world.tell(0, 1, 1, 100);
            world.tell(1, 0, 1, 100);
            sleep(SECS(1)).await;
            world.check();
            tasks.push(Handle::current().metrics().num_alive_tasks());
        }
        let early = tasks[..60].iter().max().copied().unwrap_or(0);
        let late = tasks[240..].iter().max().copied().unwrap_or(0);
        for n in 0..2 {
            let life = world.nodes[n].life();
            let (ups, failures) = (life.ups.len(), life.failures.len());
            println!("row 6: node {n}: {ups} associations, {failures} failed dials in 300 s");
            // Each failed dial or short association doubles the wait up to the longest, and each wait is
            // half of that at least: eight until then, and one in five seconds after.
            assert!(failures <= 8 + 300 / 5, "{failures} dials");
            for (_, _, error, retry_in) in &life.failures {
                assert!(
                    *retry_in >= BACKOFF.0 / 2 && *retry_in <= BACKOFF.1,
                    "{error}: {retry_in:?}"
                );
            }
            let longest = life.failures.iter().map(|(_, _, _, retry_in)| *retry_in).max();
            assert!(longest >= Some(BACKOFF.1 / 2), "the waits grow: {longest:?}");
        }
        println!("row 6: tasks: {early} at most in the first minute, {late} in the last");
        assert!(late <= early, "{early} tasks, and {late} later");
        world.cut_both(0, 1, false);
        world.quiet(SECS(60)).await;
        world.all_acknowledged();
        sleep(SECS(20)).await;
        let rest = Handle::current().metrics().num_alive_tasks();
        println!("row 6: {rest} tasks at rest");
        assert!(rest <= early);
    });
}
