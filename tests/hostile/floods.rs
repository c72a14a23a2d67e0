//! What floods leave in the log: of everybody's lines, the library's and those that it stands on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use cluster_quic::{
    Address, ClusterTransport, Config, InProcessNetwork, RecordingSink, RemoteMessageSink,
    RemoteTellRef, gossip_inbox,
};
use tokio::task::JoinSet;

use crate::log::Lines;
use crate::scene::*;

/// What a log gets while `run` runs, on all threads of its runtime, and how many seconds that took.
fn lines(run: impl AsyncFnOnce()) -> (u64, u64) {
    let lines = Lines::of_all();
    let of_threads = lines.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Until the thread ends.
        .on_thread_start(move || std::mem::forget(of_threads.count()))
        .build()
        .unwrap();
    let _counting = lines.count();
    let begin = Instant::now();
    runtime.block_on(run());
    (lines.so_far(), begin.elapsed().as_secs() + 1)
}

#[test]
fn outsiders_without_a_certificate_make_a_line_a_second() {
    const DIALS: u64 = 500;
    let (lines, seconds) = lines(async || {
        let scene = Scene::new().await;
        let mut dials = JoinSet::new();
        let endpoint = outsider(&scene.ca);
        for _ in 0..DIALS {
            let connecting = endpoint.connect(scene.socket_address(), HOST).unwrap();
            dials.spawn(async move {
                // With TLS 1.3 a client may have connected before it is refused.
                if let Ok(connection) = connecting.await {
                    connection.closed().await;
                }
            });
            // Not more at a time than places.
            if dials.len() >= 64 {
                dials.join_next().await;
            }
        }
        dials.join_all().await;
        let refused = scene.victim.refused_connections_by_kind();
        println!("of {DIALS} dials without a certificate were refused: {refused:?}");
        assert!(scene.victim.refused_connections() >= DIALS * 9 / 10, "{refused:?}");
        scene.healthy_works().await;
    });
    println!("{DIALS} dials without a certificate: {lines} lines in {seconds} s");
    // Of refusals; and a few of those who associate.
    assert!(lines >= 1, "it is told");
    assert!(lines <= seconds + 1 + 6, "{lines} lines in {seconds} s");
}

/// Panics past the hook, whose lines are the application's own.
struct Panics(AtomicU64);

impl RemoteMessageSink for Panics {
    fn deliver(&self, _: &Address, _: RemoteTellRef<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::panic::resume_unwind(Box::new("on purpose"));
    }
}

#[test]
fn a_sink_that_panics_at_each_tell_fills_no_log() {
    const TELLS: u64 = 500;
    let (lines, seconds) = lines(async || {
        let network = InProcessNetwork::new();
        let node = |name: &str| {
            let config = Config::builder("test").build().unwrap();
            ClusterTransport::in_process(config, &network, name).unwrap()
        };
        let (a, b) = (node("a"), node("b"));
        let sink = Arc::new(Panics(AtomicU64::new(0)));
        a.start(gossip_inbox::<String>(1).0, RecordingSink::new()).unwrap();
        b.start(gossip_inbox::<String>(1).0, Arc::clone(&sink)).unwrap();
        for _ in 0..TELLS {
            a.tell(b.address(), tell("/user/t")).unwrap();
        }
        a.flush(b.address()).await.unwrap();
        let stats = b.peer_stats(a.address()).unwrap();
        assert_eq!(stats.tells_received().sink_panics, TELLS);
        assert_eq!(sink.0.load(Ordering::Relaxed), TELLS);
        // The drivers' turn, which write the lines.
        b.shutdown(NEVER).await;
    });
    println!("{TELLS} panics of a sink: {lines} lines in {seconds} s");
    // Of each peer twenty at once and one every five seconds, and how many were left out.
    assert!(lines >= 10, "it is told");
    assert!(lines <= 20 + seconds / 5 + seconds / 10 + 1 + 6, "{lines} lines in {seconds} s");
}
