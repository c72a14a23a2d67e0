//! What the profiles of `docs/settings.md` are good for: measured over simulated links, in simulated time.
//!
//! ```text
//! cargo test --test profiles -- --nocapture      prints the figures of the page
//! ```

#[allow(dead_code)] // shared with other tests
#[path = "simulated/network.rs"]
mod network;

use std::net::SocketAddr;
use std::time::Duration;

use cluster_quic::{
    ClusterTransport, Config, ConfigBuilder, CustomSocket, DevCa, RecordingSink, RemoteTell,
    Runtime, gossip_inbox,
};
use network::{Network, Pipe};
use tokio::time::{Instant, timeout};

/// A link the same in both directions: bits per second, round trip, and bytes of buffer.
struct Link {
    rate: f64,
    round_trip: Duration,
    buffer: u64,
}

/// What the page calls WAN, and satellite.
const WAN: Link = Link { rate: 100e6, round_trip: Duration::from_millis(80), buffer: 1_000_000 };
const SATELLITE: Link =
    Link { rate: 20e6, round_trip: Duration::from_millis(600), buffer: 1_500_000 };

fn defaults() -> ConfigBuilder {
    Config::builder("profile")
}

/// As `docs/settings.md` has it.
fn wan() -> ConfigBuilder {
    defaults().stream_window(4 << 20).send_window(64 << 20)
}

/// As `docs/settings.md` has it.
fn satellite() -> ConfigBuilder {
    defaults()
        .stream_window(8 << 20)
        .send_window(128 << 20)
        .dial_timeout(Duration::from_secs(15))
        .idle_timeout(Duration::from_secs(30))
        .keep_alive(Duration::from_secs(10))
        .backoff_min(Duration::from_secs(1))
}

/// The part of the link's rate that tells to one target get, payload over time, once they flow.
async fn part_of_link(link: &Link, config: fn() -> ConfigBuilder) -> f64 {
    const PAYLOAD: usize = 50_000;
    let pipe = Pipe {
        rate: Some(link.rate / 8.0),
        delay: link.round_trip / 2,
        queue: link.buffer,
        ..Pipe::default()
    };
    let network = Network::new(1, pipe.clone());
    let addresses: [SocketAddr; 2] = [1, 2].map(|port| ([127, 0, 0, 1], 4400 + port).into());
    for (from, to) in [(0, 1), (1, 0)] {
        let way = network.pipe(pipe.clone());
        network.route(addresses[from], addresses[to], way);
    }
    let identity = DevCa::new("profiles").unwrap().identity(&["127.0.0.1"]).unwrap();
    let [a, b] = addresses.map(|address| {
        let config = config().runtime(Runtime::Simulated).build().unwrap();
        let socket = CustomSocket { socket: network.socket(address), seed: Some([3; 32]) };
        let node = ClusterTransport::bind_socket(config, &identity, socket).unwrap();
        node.start(gossip_inbox::<()>(1).0, RecordingSink::new()).unwrap();
        node
    });
    let peer = a.peer(b.address()).unwrap();
    let tell = || RemoteTell {
        target_path: "/user/a".into(),
        manifest: String::new(),
        payload: vec![0; PAYLOAD],
        sender_path: None,
    };
    // The startup is not what is asked for. The last round trip, in which nothing is sent, is.
    let rounds = |n: f64| (link.rate / 8.0 * link.round_trip.as_secs_f64() * n) as u64;
    let (first, count) = (rounds(6.0) / PAYLOAD as u64, rounds(12.0) / PAYLOAD as u64);
    let limit = Duration::from_secs(1200);
    for _ in 0..first {
        timeout(limit, peer.tell_when_ready(tell())).await.unwrap().unwrap();
    }
    timeout(limit, peer.flush()).await.unwrap().unwrap();
    let begin = Instant::now();
    for _ in 0..count {
        timeout(limit, peer.tell_when_ready(tell())).await.unwrap().unwrap();
    }
    timeout(limit, peer.flush()).await.unwrap().unwrap();
    let bytes = (count * PAYLOAD as u64) as f64;
    assert_eq!(peer.stats().associations, 1, "no connection was lost over it");
    bytes / begin.elapsed().as_secs_f64() / (link.rate / 8.0)
}

async fn figure(name: &str, link: &Link, config: fn() -> ConfigBuilder) -> f64 {
    let part = part_of_link(link, config).await;
    println!("{name}: {:.0} % of the link to one target", part * 100.0);
    part
}

#[tokio::test(start_paused = true)]
async fn a_wide_area_link_is_filled_with_its_profile_alone() {
    assert!(figure("WAN, defaults", &WAN, defaults).await < 0.35);
    assert!(figure("WAN, profile", &WAN, wan).await > 0.75);
}

#[tokio::test(start_paused = true)]
async fn so_is_a_satellite_link() {
    assert!(figure("satellite, defaults", &SATELLITE, defaults).await < 0.25);
    assert!(figure("satellite, profile", &SATELLITE, satellite).await > 0.75);
}
