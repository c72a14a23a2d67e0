//! What the tests of gossip engines share: certificates, nodes that can be killed, and backlogs.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cluster_quic::{
    Address, ClusterTransport, Config, ConfigBuilder, DevCa, Identity, Peer, RemoteMessageSink,
    RemoteTell, RemoteTellRef,
};
use tokio::task::JoinHandle;

/// What must happen, happens within this time, on a slow and busy machine too.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// With `RUST_LOG` set, what the nodes log goes to standard error.
pub(crate) fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

pub(crate) fn config() -> ConfigBuilder {
    Config::builder("engines")
}

/// Waits for `condition`; `state` says what there is instead, should it not come.
pub(crate) async fn until<S: std::fmt::Debug>(
    what: &str,
    mut condition: impl FnMut() -> bool,
    state: impl Fn() -> S,
) -> Duration {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < LIMIT, "not within {LIMIT:?}: {what}; instead {:#?}", state());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begin.elapsed()
}

/// A temporary folder with certificates.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("cluster-quic-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        DevCa::load_or_create(&dir).unwrap().write_to(&dir, "node", &["127.0.0.1"]).unwrap();
        Self(dir)
    }

    pub(crate) fn identity(&self) -> Identity {
        identity(&self.0)
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

/// A node in a process of its own: this test binary, run for its test `child_process` alone.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: Address,
}

impl Process {
    pub(crate) fn start(dir: &Path, seed: &Address) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_process", "--exact", "--ignored", "--nocapture"])
            .env("NODE_DIR", dir)
            .env("NODE_SEED", seed.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the child prints its address").unwrap();
            if let Some((_, address)) = line.split_once("address=") {
                break address.parse().unwrap();
            }
        };
        Self { child, address }
    }

    /// With `SIGKILL`: nobody is told.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a child process was told by [`Process::start`]; `None` if this is none.
pub(crate) fn told() -> Option<(PathBuf, Address)> {
    let dir = std::env::var_os("NODE_DIR")?;
    Some((dir.into(), std::env::var("NODE_SEED").unwrap().parse().unwrap()))
}

/// Prints a child's address, and returns when its parent closes its standard input, or has died.
pub(crate) fn serve(address: &Address) {
    println!("address={address}");
    let _ = std::io::stdin().lines().count();
}

/// A sink that takes so long over each tell that its senders' lanes stay full.
#[derive(Default)]
pub(crate) struct SlowSink {
    pub(crate) handled: AtomicU64,
}

impl RemoteMessageSink for SlowSink {
    fn deliver(&self, _from: &Address, _tell: RemoteTellRef<'_>) {
        std::thread::sleep(Duration::from_millis(20));
        self.handled.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many bytes of tells each node has waiting for each other.
const WAITING: u64 = 4 << 20;

/// Tells from each node to each other, more than are handled, as long as this lives.
pub(crate) struct Backlog {
    nodes: Vec<ClusterTransport>,
    senders: Vec<JoinHandle<()>>,
}

const TARGETS: [&str; 2] = ["/user/a", "/user/b"];

impl Backlog {
    pub(crate) async fn between(nodes: &[ClusterTransport]) -> Self {
        let mut senders = Vec::new();
        for (from, to) in pairs(nodes) {
            for target in TARGETS {
                let peer = from.peer(to.address()).unwrap();
                senders.push(tokio::spawn(async move {
                    let tell = RemoteTell {
                        target_path: target.into(),
                        manifest: "bulk".into(),
                        payload: vec![7; 4 << 10],
                        sender_path: None,
                    };
                    // Until the test is over; a few at a time, since senders that are never done would keep
                    // the runtime's workers from everybody else.
                    loop {
                        for _ in 0..16 {
                            if peer.tell(tell.clone()).is_err() {
                                return;
                            }
                        }
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        while waiting(&peer) > WAITING {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                }));
            }
        }
        let backlog = Self { nodes: nodes.to_vec(), senders };
        until("a backlog everywhere", || backlog.stands(), || backlog.least()).await;
        backlog
    }

    /// Whether between any two nodes more waits than is on its way.
    pub(crate) fn stands(&self) -> bool {
        self.least() > WAITING / 2
    }

    /// How many bytes wait at least, of any node for any other.
    pub(crate) fn least(&self) -> u64 {
        let peer = |(from, to): (&ClusterTransport, &ClusterTransport)| {
            waiting(&from.peer(to.address()).unwrap())
        };
        pairs(&self.nodes).map(peer).min().unwrap()
    }
}

fn waiting(peer: &Peer) -> u64 {
    let tells = peer.stats().tells();
    tells.queued_bytes + tells.in_flight_bytes
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.senders.iter().for_each(JoinHandle::abort);
    }
}

fn pairs(
    nodes: &[ClusterTransport],
) -> impl Iterator<Item = (&ClusterTransport, &ClusterTransport)> {
    let all = nodes.iter().flat_map(move |from| nodes.iter().map(move |to| (from, to)));
    all.filter(|(from, to)| from.address() != to.address())
}

/// Tells were handled meanwhile: the backlog is one that moves.
pub(crate) fn handled(sinks: &[Arc<SlowSink>]) -> u64 {
    sinks.iter().map(|sink| sink.handled.load(Ordering::Relaxed)).sum()
}
