//! Tells in both directions at once: each one's acknowledgements wait in the other's queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::delays::{Delays, Probes, SMALL};
use crate::network::Pipe;
use crate::world::{Nowhere, World, keep_full, narrow, targets};

/// Over 2 MB/s with a buffer of two seconds.
#[tokio::test(start_paused = true)]
async fn tells_in_both_directions_delay_gossip_in_neither() {
    const RATE: f64 = 2e6;
    let world = World::new();
    let mut a = world.node(|c| c, Arc::new(Nowhere));
    let mut b = world.node(|c| c, Arc::new(Nowhere));
    let pipes = world.join(&a, &b, &Pipe { rate: Some(RATE), queue: 4_000_000, ..narrow() });
    let to_b = a.connect(&b).await;
    let to_a = b.connect(&a).await;
    let paths = [targets(&to_b), targets(&to_a)];
    let _there = keep_full(&to_b, &paths[0], 16 * 1024);
    sleep(Duration::from_millis(500)).await;
    let _back = keep_full(&to_a, &paths[1], 16 * 1024);
    // The startups.
    sleep(Duration::from_secs(1)).await;
    let carried = || pipes.map(|pipe| world.network.counts(pipe).bytes);
    let probes = Probes { count: 200, ..SMALL };
    let (before, begin) = (carried(), tokio::time::Instant::now());
    let (there, back) =
        tokio::join!(Delays::of(probes, &to_b, &mut b), Delays::of(probes, &to_a, &mut a));
    let capacity = RATE * begin.elapsed().as_secs_f64();
    there.within(25, 60);
    back.within(25, 60);
    for (after, before) in carried().into_iter().zip(before) {
        let share = (after - before) as f64 / capacity;
        println!("{share:.2} of the link");
        assert!(share > 0.7, "{share:.2} of the link");
    }
}
