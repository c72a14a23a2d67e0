use cluster_quic::*;
use std::time::Duration;

async fn run(a: ClusterTransport, b: ClusterTransport) {
    let sink = RecordingSink::new();
    let (inbox, mut gossip) = gossip_inbox::<String>(16);
    let (inbox_a, _ga) = gossip_inbox::<String>(16);
    a.start(inbox_a, RecordingSink::new()).unwrap();
    b.start(inbox, sink.clone()).unwrap();
    let t0 = std::time::Instant::now();
    a.send_gossip(b.address(), &"hello".to_string()).unwrap();
    let peer = a.peer(b.address()).unwrap();
    for i in 0..10_000u32 {
        let payload = i.to_le_bytes();
        peer.tell_when_ready(RemoteTellRef {
            target_path: "/user/x",
            manifest: "u32",
            payload: &payload,
            sender_path: None,
        })
        .await
        .unwrap();
    }
    let g = gossip.recv().await.unwrap();
    assert_eq!(g.message, "hello");
    tokio::time::timeout(Duration::from_secs(10), peer.flush()).await.unwrap().unwrap();
    println!("{:?} {:?}", t0.elapsed(), peer.stats());
    let r = sink.records();
    assert_eq!(r.len(), 10_000);
    for (i, (_, t)) in r.iter().enumerate() {
        assert_eq!(t.payload, (i as u32).to_le_bytes());
    }
    let report = a.shutdown(Duration::from_secs(5)).await;
    println!("{report:?}");
    assert!(report.is_clean());
    let report = b.shutdown(Duration::from_secs(5)).await;
    println!("{report:?}");
}

#[tokio::test]
async fn quic() {
    let _ = tracing_subscriber::fmt().with_env_filter("cluster_quic=debug").try_init();
    let ca = DevCa::new("t").unwrap();
    let id = ca.identity(&["127.0.0.1"]).unwrap();
    let a = ClusterTransport::bind(Config::builder("s").build().unwrap(), &id).unwrap();
    let b = ClusterTransport::bind(Config::builder("s").build().unwrap(), &id).unwrap();
    run(a, b).await;
}

#[tokio::test(start_paused = true)]
async fn in_process() {
    let net = InProcessNetwork::new();
    let a = ClusterTransport::in_process(Config::builder("s").build().unwrap(), &net, "a").unwrap();
    let b = ClusterTransport::in_process(Config::builder("s").build().unwrap(), &net, "b").unwrap();
    run(a, b).await;
}
