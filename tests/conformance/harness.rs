//! Nodes on either backend, and sinks that check what they get.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use cluster_quic::{
    Address, AssociationError, ClusterTransport, Config, ConfigBuilder, DevCa, Event, Events,
    Gossip, Identity, InProcessNetwork, Peer, PeerStats, RecordingSink, RemoteMessageSink,
    RemoteTell, RemoteTellRef, gossip_inbox,
};
use tokio::sync::mpsc;

/// A backend under test.
pub(crate) trait Net {
    /// A node named `name`, where the backend has names.
    fn node(
        &self,
        name: &str,
        adapt: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
    ) -> ClusterTransport;

    /// The next life of a node that was shut down, at the same address.
    fn reborn(
        &self,
        old: &Address,
        adapt: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
    ) -> ClusterTransport;

    /// An address of the backend's where nobody is.
    fn nobody(&self) -> Address;
}

/// Times that suit tests: a failed dial is known soon.
fn config() -> ConfigBuilder {
    let ms = Duration::from_millis;
    Config::builder("test").dial_timeout(ms(1_000)).backoff_min(ms(10)).backoff_max(ms(200))
}

pub(crate) struct Quic(Identity);

impl Quic {
    pub(crate) fn new() -> Self {
        let ca = DevCa::new("conformance").unwrap();
        Self(ca.identity(&["127.0.0.1"]).unwrap())
    }
}

impl Net for Quic {
    fn node(
        &self,
        _: &str,
        adapt: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
    ) -> ClusterTransport {
        ClusterTransport::bind(adapt(config()).build().unwrap(), &self.0).unwrap()
    }

    fn reborn(
        &self,
        old: &Address,
        adapt: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
    ) -> ClusterTransport {
        let bind = ([127, 0, 0, 1], old.port()).into();
        ClusterTransport::bind(adapt(config().bind(bind)).build().unwrap(), &self.0).unwrap()
    }

    fn nobody(&self) -> Address {
        // Bound and silent, so that nobody else gets the port.
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        std::mem::forget(socket);
        Address::new("test", "127.0.0.1", port).unwrap()
    }
}

#[derive(Default)]
pub(crate) struct InProcess(InProcessNetwork);

impl Net for InProcess {
    fn node(
        &self,
        name: &str,
        adapt: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
    ) -> ClusterTransport {
        ClusterTransport::in_process(adapt(config()).build().unwrap(), &self.0, name).unwrap()
    }

    fn reborn(
        &self,
        old: &Address,
        adapt: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
    ) -> ClusterTransport {
        self.0.kill(old);
        self.node(old.host(), adapt)
    }

    fn nobody(&self) -> Address {
        Address::new("test", "nobody", 1).unwrap()
    }
}

/// A node with its sink and inbox.
pub(crate) struct Node {
    pub(crate) transport: ClusterTransport,
    pub(crate) sink: Arc<RecordingSink>,
    pub(crate) gossip: mpsc::Receiver<Gossip<String>>,
    pub(crate) events: Events,
}

impl Node {
    pub(crate) fn start(transport: ClusterTransport) -> Self {
        let sink = RecordingSink::new();
        let (inbox, gossip) = gossip_inbox(64);
        let events = transport.events();
        transport.start(inbox, sink.clone()).unwrap();
        Self { transport, sink, gossip, events }
    }

    pub(crate) fn address(&self) -> &Address {
        self.transport.address()
    }

    pub(crate) fn peer(&self, other: &Self) -> Peer {
        self.transport.peer(other.address()).unwrap()
    }

    pub(crate) fn stats(&self, other: &Address) -> PeerStats {
        self.transport.peer_stats(other).unwrap()
    }

    /// Waits for the first event that `pick` takes.
    pub(crate) async fn event<T>(&mut self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        loop {
            let event = self.events.recv().await.expect("the node lives");
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
    }

    /// Waits for an association's end.
    pub(crate) async fn down(&mut self) -> AssociationError {
        self.event(|event| match event {
            Event::PeerDown { reason, .. } => Some(reason),
            _ => None,
        })
        .await
    }

    /// Checks that `from`'s tells numbered 0..n have arrived, once and in order per target.
    pub(crate) fn check_received(&self, from: &Address, n: u64) {
        let records = self.sink.records();
        let ours: Vec<_> = records.iter().filter(|(peer, _)| peer == from).collect();
        assert_eq!(ours.len() as u64, n, "received from {from}");
        let mut last = HashMap::new();
        for (_, tell) in ours {
            let number = number(&tell.payload);
            let before = last.insert(tell.target_path.clone(), number);
            assert!(before.is_none_or(|before| before < number), "{before:?} before {number}");
        }
    }

    /// Checks the ledger towards `to`: everything acknowledged, nothing lost or pending.
    pub(crate) fn check_ledger(&self, to: &Address, n: u64) {
        let stats = self.stats(to);
        assert!(stats.is_balanced(), "{stats:?}");
        let tells = stats.tells();
        assert_eq!(tells.accepted_frames, n);
        assert_eq!(tells.acknowledged_frames, n);
        assert_eq!((tells.pending_frames(), tells.lost_in_all().frames), (0, 0));
    }
}

/// A tell numbered `n`, to one of 16 targets.
pub(crate) fn tell(n: u64) -> RemoteTell {
    RemoteTell {
        target_path: format!("/user/target-{}", n % 16),
        manifest: "number".into(),
        payload: n.to_le_bytes().to_vec(),
        sender_path: n.is_multiple_of(3).then(|| "/user/sender".into()),
    }
}

pub(crate) fn number(payload: &[u8]) -> u64 {
    u64::from_le_bytes(*payload.first_chunk().unwrap())
}

/// A sink that blocks its thread for tells to `/user/blocked` until it is opened.
pub(crate) struct GateSink {
    open: Mutex<bool>,
    opened: Condvar,
    entered: mpsc::UnboundedSender<()>,
    pub(crate) recorded: RecordingSink,
}

impl GateSink {
    /// The sink, and a receiver that hears of each blocked call.
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<()>) {
        let (entered, calls) = mpsc::unbounded_channel();
        let (open, opened) = (Mutex::new(false), Condvar::new());
        (Arc::new(Self { open, opened, entered, recorded: RecordingSink::default() }), calls)
    }

    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

/// As long as a test may take.
const BLOCKS: Duration = Duration::from_secs(60);

impl RemoteMessageSink for GateSink {
    fn deliver(&self, from: &Address, tell: RemoteTellRef<'_>) {
        if tell.target_path == "/user/blocked" {
            let open = self.open.lock().unwrap();
            if !*open {
                let _ = self.entered.send(());
            }
            // A test that fails while it blocks is to end: its runtime waits for this call.
            drop(self.opened.wait_timeout_while(open, BLOCKS, |open| !*open).unwrap());
        }
        self.recorded.deliver(from, tell);
    }
}

/// Waits for what no event tells; the tests' own limit ends it.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
