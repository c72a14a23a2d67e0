//! Packets grow to what the path carries.

use std::time::Duration;

use cluster_quic::{
    ClusterTransport, Config, ConfigBuilder, CustomSocket, DevCa, Identity, Peer, RecordingSink,
    RemoteTell, gossip_inbox,
};

#[allow(dead_code, reason = "it has faults that other tests use")]
#[path = "simulated/network.rs"]
mod network;

use network::{Network, Pipe};

fn identity() -> Identity {
    DevCa::new("path mtu").unwrap().identity(&["127.0.0.1"]).unwrap()
}

/// A probe each time something is acknowledged.
async fn talk(peer: &Peer) -> u16 {
    let tell = RemoteTell {
        target_path: "/user/t".into(),
        manifest: "m".into(),
        payload: vec![0; 100_000],
        sender_path: None,
    };
    peer.tell(tell).unwrap();
    peer.flush().await.unwrap();
    peer.stats().link.unwrap().mtu
}

/// What discovery settles for on a network that carries any packet and loses none.
async fn settled(adapt: impl Fn(ConfigBuilder) -> ConfigBuilder) -> u16 {
    let identity = identity();
    let network = Network::new(7, Pipe { mtu: usize::from(u16::MAX), ..Pipe::default() });
    let node = |port: u16| {
        let socket = network.socket(([127, 0, 0, 1], port).into());
        let socket = CustomSocket { socket, seed: Some([port as u8; 32]) };
        let config = adapt(Config::builder("mtu")).build().unwrap();
        let node = ClusterTransport::bind_socket(config, &identity, socket).unwrap();
        node.start(gossip_inbox::<()>(1).0, RecordingSink::new()).unwrap();
        node
    };
    let (a, b) = (node(1001), node(1002));
    let peer = a.peer(b.address()).unwrap();
    let mut mtu = 0;
    for _ in 0..100 {
        let now = talk(&peer).await;
        assert!(now >= mtu, "nothing was lost: {now} after {mtu}");
        mtu = now;
    }
    mtu
}

#[tokio::test(start_paused = true)]
async fn packets_grow_up_to_the_configured_size() {
    // Discovery stops within 20 bytes of the largest.
    assert!((6480..=6500).contains(&settled(|c| c).await));
    assert!((2980..=3000).contains(&settled(|c| c.max_udp_payload(3000)).await));
    assert_eq!(settled(|c| c.max_udp_payload(1200)).await, 1200);
}

/// The system's socket lets large packets go whole, too: loopback carries any. A busy machine may lose some.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_grow_on_a_real_socket() {
    let identity = identity();
    let node = || {
        let config = Config::builder("mtu").build().unwrap();
        let node = ClusterTransport::bind(config, &identity).unwrap();
        node.start(gossip_inbox::<()>(1).0, RecordingSink::new()).unwrap();
        node
    };
    let (a, b) = (node(), node());
    let peer = a.peer(b.address()).unwrap();
    let grown = async { while !(6480..=6500).contains(&talk(&peer).await) {} };
    tokio::time::timeout(Duration::from_secs(60), grown).await.expect("6480 bytes or more");
}
