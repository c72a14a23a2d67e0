//! quinn's send window, which all lanes share: tells must not use it up.

use std::sync::Arc;
use std::time::Duration;

use cluster_quic::{Config, ConfigBuilder, ConfigError};
use tokio::time::sleep;

use crate::delays::{Delays, Probes, SMALL};
use crate::world::{Nowhere, World, keep_full, narrow, targets};

/// What a connection keeps for gossip and control, whatever the tells' windows.
const RESERVE: u64 = 2 << 20;

/// The smallest send window that the configuration's check lets pass.
fn smallest(adapt: impl Fn(ConfigBuilder) -> ConfigBuilder) -> u64 {
    match adapt(Config::builder("isolation")).send_window(64 * 1024).build() {
        Err(ConfigError::SendWindow { needed, .. }) => needed + RESERVE,
        other => panic!("{other:?}"),
    }
}

async fn gossip_beside_tells_in_every_lane(
    sender: impl Fn(ConfigBuilder) -> ConfigBuilder,
    receiver: impl Fn(ConfigBuilder) -> ConfigBuilder,
) -> Delays {
    let world = World::new();
    let a = world.node(sender, Arc::new(Nowhere));
    let mut b = world.node(receiver, Arc::new(Nowhere));
    world.join(&a, &b, &narrow());
    let peer = a.connect(&b).await;
    // Many small ones, so that there are many segments, and large ones, that fill every window.
    let targets = targets(&peer);
    let (small, large) = targets.split_at(targets.len() / 2);
    let _small = keep_full(&peer, small, 100);
    let _large = keep_full(&peer, large, 3 << 20);
    // Gossip comes when the windows are full.
    sleep(Duration::from_secs(1)).await;
    Delays::of(SMALL, &peer, &mut b).await
}

/// 16 lanes with the smallest send window that is allowed beside them.
#[tokio::test(start_paused = true)]
async fn the_smallest_send_window_has_room_for_gossip() {
    let lanes = |c: ConfigBuilder| c.tell_lanes(16).stream_window(256 * 1024).lane_budget(4 << 20);
    let window = smallest(lanes);
    let sender = |c| lanes(c).send_window(window);
    gossip_beside_tells_in_every_lane(sender, lanes).await.within(20, 40);
}

/// The peer reads each lane with 16 times the window that the sender's own configuration was checked
/// for.
#[tokio::test(start_paused = true)]
async fn a_peer_s_larger_windows_leave_room_for_gossip() {
    let lanes = |c: ConfigBuilder| c.stream_window(64 * 1024);
    let window = smallest(lanes);
    let sender = |c| lanes(c).send_window(window);
    let receiver = |c: ConfigBuilder| c.stream_window(1 << 20);
    gossip_beside_tells_in_every_lane(sender, receiver).await.within(20, 40);
}

/// A tell of 3 MiB is one chunk, which quinn must not count whole until the last of it is acknowledged.
#[tokio::test(start_paused = true)]
async fn large_tells_leave_room_for_gossip() {
    let lanes = |c: ConfigBuilder| c.tell_lanes(8).stream_window(1 << 20);
    let window = smallest(lanes);
    let world = World::new();
    let a = world.node(|c| lanes(c).send_window(window), Arc::new(Nowhere));
    let mut b = world.node(lanes, Arc::new(Nowhere));
    world.join(&a, &b, &narrow());
    let peer = a.connect(&b).await;
    let _tells = keep_full(&peer, &targets(&peer), 3 << 20);
    sleep(Duration::from_secs(1)).await;
    let probes = Probes { size: 200, every: Duration::from_millis(100), count: 80 };
    Delays::of(probes, &peer, &mut b).await.within(20, 40);
}
