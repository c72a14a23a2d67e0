//! A test, or some, for each fault that the transport is to withstand, in defaults unless said
//! otherwise.

mod cuts;
mod damage;
mod death;
mod dials;
mod drain;
mod flapping;
mod mix;
mod partitions;
mod path;
mod rebinding;
mod refused;
mod sends;
mod silence;
mod strangers;

use std::time::Duration;

use cluster_quic::ConfigBuilder;
use tokio::time::{Instant, sleep, sleep_until};

use crate::network::Pipe;
use crate::world::World;

pub(crate) const MS: fn(u64) -> Duration = Duration::from_millis;
pub(crate) const SECS: fn(u64) -> Duration = Duration::from_secs;

/// The idle timeout of the defaults.
pub(crate) const IDLE: Duration = SECS_10;
const SECS_10: Duration = Duration::from_secs(10);

pub(crate) fn defaults(config: ConfigBuilder) -> ConfigBuilder {
    config
}

/// Two nodes in defaults.
pub(crate) fn pair(seed: u64, pipe: Pipe) -> World {
    World::quic(seed, 2, pipe, defaults)
}

/// Lets both nodes tell each other `count` times, in ten parts over `time`, checking the ledger with
/// each; and to gossip ten times as often.
pub(crate) async fn talk(world: &mut World, count: u64, time: Duration) {
    let begin = Instant::now();
    for part in 0..100 {
        sleep_until(begin + time / 100 * part).await;
        if part % 10 == 0 {
            assert_eq!(world.tell(0, 1, count / 10, 100), count / 10);
            assert_eq!(world.tell(1, 0, count / 10, 100), count / 10);
        }
        world.gossip(0, 1);
        world.check();
    }
}

/// How long gossip took.
pub(crate) fn percentiles(mut delays: Vec<Duration>) -> String {
    delays.sort();
    let at = |percent: usize| delays[(delays.len() - 1) * percent / 100];
    format!("gossip p50 {:?}, p99 {:?} of {}", at(50), at(99), delays.len())
}

/// Waits until both see each other.
pub(crate) async fn associated(world: &mut World) -> Duration {
    world.tell(0, 1, 1, 100);
    let both = |world: &World| world.is_connected(0, 1) && world.is_connected(1, 0);
    let took = world.until("an association", SECS(30), both).await;
    // What the greeting leaves to be done is not part of what follows.
    sleep(MS(500)).await;
    world.check();
    took
}
