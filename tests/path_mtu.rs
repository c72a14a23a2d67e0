//! Packets grow to what the path carries.

use std::time::Duration;

use cluster_quic::{ClusterTransport, Config, DevCa, RecordingSink, RemoteTell, gossip_inbox};

/// What discovery settles for on loopback, which carries any packet.
async fn settled(max_udp_payload: Option<u16>) -> u16 {
    let ca = DevCa::new("path mtu").unwrap();
    let identity = ca.identity(&["127.0.0.1"]).unwrap();
    let node = || {
        let mut config = Config::builder("mtu");
        if let Some(max) = max_udp_payload {
            config = config.max_udp_payload(max);
        }
        let node = ClusterTransport::bind(config.build().unwrap(), &identity).unwrap();
        node.start(gossip_inbox::<()>(1).0, RecordingSink::new()).unwrap();
        node
    };
    let (a, b) = (node(), node());
    let peer = a.peer(b.address()).unwrap();
    let mut mtu = 0;
    // A probe each time something is acknowledged.
    for _ in 0..100 {
        peer.tell(RemoteTell {
            target_path: "/user/t".into(),
            manifest: "m".into(),
            payload: vec![0; 100_000],
            sender_path: None,
        })
        .unwrap();
        tokio::time::timeout(Duration::from_secs(10), peer.flush()).await.unwrap().unwrap();
        let now = peer.stats().link.unwrap().mtu;
        assert!(now >= mtu, "nothing was lost: {now} after {mtu}");
        mtu = now;
    }
    mtu
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_grow_up_to_the_configured_size() {
    // Discovery stops within 20 bytes of the largest.
    assert!((6480..=6500).contains(&settled(None).await));
    assert!((2980..=3000).contains(&settled(Some(3000)).await));
    assert_eq!(settled(Some(1200)).await, 1200);
}
