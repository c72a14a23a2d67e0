//! Certificates in a folder that all processes of a test read, nodes, and waiting.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cluster_quic::{ClusterTransport, Config, DevCa, Event, Events, Identity, gossip_inbox};

use crate::ledger::Ledger;
use crate::message::Options;

/// Only what hangs takes longer. A round of the crowd costs 3 s of processor time, and the connections that it
/// leaves behind end three probe timeouts later (RFC 9000, section 10.2), which are seconds each where the
/// handshakes waited seconds for a processor: on a machine with thirty others at work, a minute in all.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// A temporary folder with certificates.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("cluster-quic-processes-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        DevCa::load_or_create(&dir).unwrap().write_to(&dir, "node", &["127.0.0.1"]).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn node(&self, options: &Options) -> Node {
        Node::start(&identity(&self.0), options)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn identity(dir: &Path) -> Identity {
    Identity::from_pem_files(dir.join("node.pem"), dir.join("node-key.pem"), dir.join("ca.pem"))
        .unwrap()
}

pub(crate) fn config(options: &Options) -> Config {
    let ms = Duration::from_millis;
    Config::builder("test")
        .bind(([127, 0, 0, 1], options.port).into())
        .tell_lanes(options.lanes)
        .stream_window(options.stream_window)
        .lane_budget(options.lane_budget)
        .peer_budget(options.peer_budget)
        .large_budget(options.large_budget)
        .retention(ms(options.retention_ms))
        .idle_timeout(ms(options.idle_timeout_ms))
        .keep_alive(ms(options.idle_timeout_ms / 5))
        .dial_timeout(ms(options.dial_timeout_ms))
        .backoff_min(ms(10))
        .backoff_max(ms(200))
        .build()
        .unwrap()
}

/// A node with its sink.
pub(crate) struct Node {
    pub(crate) transport: ClusterTransport,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) events: Events,
}

impl Node {
    pub(crate) fn start(identity: &Identity, options: &Options) -> Self {
        let node = Self::unstarted(identity, options);
        node.take();
        node
    }

    /// What it is sent waits until [`take`](Self::take).
    pub(crate) fn unstarted(identity: &Identity, options: &Options) -> Self {
        let transport = ClusterTransport::bind(config(options), identity).unwrap();
        let events = transport.events();
        Self { transport, ledger: Ledger::new(options), events }
    }

    pub(crate) fn take(&self) {
        let (inbox, mut gossip) = gossip_inbox::<String>(16);
        tokio::spawn(async move { while gossip.recv().await.is_some() {} });
        self.transport.start(inbox, self.ledger.clone()).unwrap();
    }

    /// Waits for the first event that `pick` takes.
    pub(crate) async fn event<T>(&mut self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let picked = async {
            loop {
                let event = self.events.recv().await.expect("the node lives");
                if let Some(picked) = pick(event) {
                    return picked;
                }
            }
        };
        tokio::time::timeout(LIMIT, picked).await.expect("the event in time")
    }
}

/// Waits for what no event tells.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < LIMIT, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
