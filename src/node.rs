//! What all of a node's tasks share, whatever its backend.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use dashmap::DashMap;
use tokio::runtime::Handle;
use tokio::sync::{SetOnce, broadcast, watch};

use crate::address::{Address, Incarnation};
use crate::config::Config;
use crate::error::{AssociationError, PeerError};
use crate::event::Event;
use crate::outbound::NodeBudget;
use crate::peer::PeerCore;
use crate::sink::{GossipReceiver, RemoteMessageSink};

/// How many events an [`Events`](crate::Events) may lag behind before it misses some.
const EVENT_BUFFER: usize = 1024;

/// The user's receivers, set once by `start`.
pub(crate) struct Handlers {
    pub(crate) sink: Arc<dyn RemoteMessageSink>,
    pub(crate) gossip: Box<dyn GossipReceiver>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    /// Nothing new is taken; what was accepted is still sent.
    Draining,
    /// Say goodbye and end, by the deadline.
    Closing {
        deadline: Instant,
    },
}

pub(crate) struct Node {
    pub(crate) address: Address,
    pub(crate) incarnation: Incarnation,
    pub(crate) config: Config,
    pub(crate) budget: Arc<NodeBudget>,
    pub(crate) peers: DashMap<Address, Arc<PeerCore>>,
    pub(crate) handlers: SetOnce<Handlers>,
    pub(crate) phase: watch::Sender<Phase>,
    /// Set when all tasks have ended and the socket is free.
    pub(crate) ended: SetOnce<()>,
    pub(crate) runtime: Handle,
    events: broadcast::Sender<Event>,
    sessions: AtomicU64,
    /// Starts a peer's driver; set by the hub, which knows the backend's type.
    start_driver: OnceLock<Box<dyn Fn(Arc<PeerCore>) + Send + Sync>>,
    last_refusal_logged: AtomicU64,
    started: Instant,
}

impl Node {
    pub(crate) fn new(address: Address, config: Config, runtime: Handle) -> Self {
        Self {
            incarnation: config.incarnation.unwrap_or_else(incarnation_now),
            budget: Arc::new(NodeBudget::new(config.node_budget)),
            peers: DashMap::new(),
            handlers: SetOnce::new(),
            phase: watch::Sender::new(Phase::Running),
            ended: SetOnce::new(),
            runtime,
            events: broadcast::Sender::new(EVENT_BUFFER),
            sessions: AtomicU64::new(0),
            start_driver: OnceLock::new(),
            last_refusal_logged: AtomicU64::new(0),
            started: Instant::now(),
            address,
            config,
        }
    }

    /// Called once, before the node is handed out.
    pub(crate) fn set_driver(&self, start: impl Fn(Arc<PeerCore>) + Send + Sync + 'static) {
        let _ = self.start_driver.set(Box::new(start));
    }

    /// The peer at `address`, made known if it was not.
    pub(crate) fn peer(&self, address: &Address) -> Result<Arc<PeerCore>, PeerError> {
        if let Some(peer) = self.peers.get(address) {
            return Ok(Arc::clone(&peer));
        }
        if *address == self.address {
            return Err(PeerError::Own(address.clone()));
        }
        if *self.phase.borrow() != Phase::Running {
            return Err(PeerError::ShuttingDown);
        }
        let limit = self.config.max_peers;
        if self.peers.len() >= limit {
            return Err(PeerError::TooMany { limit });
        }
        let entry = self.peers.entry(address.clone());
        // Again under the entry's lock: a shutdown closes the peers that it finds, after it has said so.
        if *self.phase.borrow() != Phase::Running {
            return Err(PeerError::ShuttingDown);
        }
        let peer = entry.or_insert_with(|| {
            let session = self.sessions.fetch_add(1, Ordering::Relaxed);
            let peer = Arc::new(PeerCore::new(address.clone(), session, self));
            if let Some(start) = self.start_driver.get() {
                start(Arc::clone(&peer));
            }
            peer
        });
        Ok(Arc::clone(&peer))
    }

    pub(crate) fn emit(&self, event: Event) {
        // No subscriber is no fault.
        let _ = self.events.send(event);
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Reports a refused connection; strangers cannot make more than one log line a second.
    pub(crate) fn refused(&self, remote: String, error: AssociationError) {
        let now = self.started.elapsed().as_secs() + 1;
        if self.last_refusal_logged.swap(now, Ordering::Relaxed) == now {
            tracing::debug!(remote, %error, "connection refused");
        } else {
            tracing::warn!(remote, %error, "connection refused");
        }
        self.emit(Event::IncomingRefused { remote, error });
    }
}

fn incarnation_now() -> Incarnation {
    // Nodes of one process that follow each other in one microsecond must differ too.
    static LAST: AtomicU64 = AtomicU64::new(0);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = since.map_or(0, |since| since.as_micros() as u64);
    let later = |last: u64| Some(now.max(last + 1));
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    Incarnation(now.max(last.unwrap_or(0) + 1))
}
