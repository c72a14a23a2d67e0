//! An application that keeps its own runtime busy.

use std::sync::{Arc, mpsc};

use cluster_quic::{ConfigBuilder, Runtime};
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::world::{NEVER, Nowhere, Probe, World, targets, tell};

/// Both nodes have a thread each; the application's runtime has one, and does not let go of it.
#[test]
fn a_transport_with_threads_of_its_own_needs_none_of_the_application_s() {
    let application = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let own = |c: ConfigBuilder| c.runtime(Runtime::Dedicated { threads: 1 });
    let world = World::new();
    let (_a, mut b, peer) = application.block_on(async {
        let a = world.node(own, Arc::new(Nowhere));
        let b = world.node(own, Arc::new(Nowhere));
        let peer = a.connect(&b).await;
        (a, b, peer)
    });
    // From here on the application's worker is held, until the other end is dropped.
    let (_free, until_free) = mpsc::channel::<()>();
    let (held, holds) = mpsc::channel();
    application.spawn(async move {
        held.send(()).unwrap();
        let _ = until_free.recv();
    });
    holds.recv_timeout(NEVER).expect("the worker is held");
    let watch = Builder::new_current_thread().enable_time().build().unwrap();
    watch.block_on(async {
        peer.send_gossip(&Probe::new(1, 200)).unwrap();
        assert_eq!(b.gossip("while the application's runtime is busy").await, 1);
        targets(&peer);
        timeout(NEVER, peer.flush()).await.expect("acknowledgements").unwrap();
    });
}

/// Who sends may do so from a runtime without timers.
#[test]
fn a_sender_needs_no_timers() {
    let world = World::new();
    let own = |c: ConfigBuilder| c.runtime(Runtime::Dedicated { threads: 1 });
    let with_timers = Builder::new_current_thread().enable_all().build().unwrap();
    let (a, _b, peer) = with_timers.block_on(async {
        let (a, b) = (world.node(own, Arc::new(Nowhere)), world.node(own, Arc::new(Nowhere)));
        let peer = a.connect(&b).await;
        (a, b, peer)
    });
    let bare = Builder::new_current_thread().build().unwrap();
    bare.block_on(async {
        // So much that it waits for the lane's writer.
        for _ in 0..256 {
            peer.tell_when_ready(tell("/one", &[0; 64 * 1024])).await.unwrap();
        }
        peer.flush().await.unwrap();
        assert!(peer.stats().tells().acknowledged_bytes > 16 << 20);
        assert!(a.transport.shutdown(NEVER).await.is_clean());
    });
}
