//! What all of a node's tasks share, whatever its backend.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::runtime::Handle;
use tokio::sync::{SetOnce, broadcast, watch};

use crate::address::{Address, Incarnation};
use crate::config::Config;
use crate::dead_letters::DeadLetters;
use crate::error::{AssociationError, BindError, PeerError};
use crate::event::Event;
use crate::log_limit::LogLimit;
use crate::outbound::Budget;
use crate::peer::PeerCore;
use crate::rotation::Identities;
use crate::sink::{GossipReceiver, RemoteMessageSink};
use crate::tls::Identity;

mod outcasts;

use outcasts::Outcasts;

/// How many events an [`Events`](crate::Events) may lag behind before it misses some.
const EVENT_BUFFER: usize = 1024;

/// The user's receivers, set once by `start`.
pub(crate) struct Handlers {
    pub(crate) sink: Arc<dyn RemoteMessageSink>,
    pub(crate) gossip: Box<dyn GossipReceiver>,
    /// The sink said that it does not block, and has not blocked yet.
    prompt: AtomicBool,
}

/// A sink that says it does not block and takes so long is not believed any more. Other processes keep
/// a thread off its core for milliseconds.
const NOT_PROMPT: Duration = Duration::from_millis(20);

impl Handlers {
    pub(crate) fn new(sink: Arc<dyn RemoteMessageSink>, gossip: Box<dyn GossipReceiver>) -> Self {
        let prompt = AtomicBool::new(!sink.may_block());
        Self { sink, gossip, prompt }
    }

    /// Whether the sink may be called on a worker of the runtime.
    pub(crate) fn may_call_directly(&self) -> bool {
        self.prompt.load(Ordering::Relaxed)
    }

    /// Takes note of how long the sink kept a worker.
    pub(crate) fn took(&self, took: Duration) {
        if took > NOT_PROMPT && self.prompt.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                ?took,
                "the sink blocks, against what `may_block` says; it is called on threads from now on"
            );
        }
    }
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

/// Gives a backend another identity.
type Renew = Box<dyn Fn(&Identity) -> Result<(), BindError> + Send + Sync>;

pub(crate) struct Node {
    pub(crate) address: Address,
    pub(crate) incarnation: Incarnation,
    pub(crate) config: Config,
    pub(crate) budget: Arc<Budget>,
    pub(crate) peers: DashMap<Address, Arc<PeerCore>>,
    pub(crate) outcasts: Outcasts,
    pub(crate) handlers: SetOnce<Handlers>,
    pub(crate) dead_letters: OnceLock<DeadLetters>,
    pub(crate) phase: watch::Sender<Phase>,
    /// Set when all tasks have ended and the socket is free.
    pub(crate) ended: SetOnce<()>,
    pub(crate) runtime: Handle,
    /// `None` once the node has ended, which ends its subscribers.
    events: RwLock<Option<broadcast::Sender<Event>>>,
    /// Tells acknowledged by peers that were forgotten since.
    pub(crate) forgotten: AtomicU64,
    sessions: AtomicU64,
    /// Starts a peer's driver; set by the hub, which knows the backend's type.
    start_driver: OnceLock<Box<dyn Fn(Arc<PeerCore>) + Send + Sync>>,
    /// Gives the backend another identity; set likewise.
    renew: OnceLock<Renew>,
    refusals: Mutex<Refusals>,
    log: Mutex<LogLimit>,
    pub(crate) identities: Identities,
    started: Instant,
}

impl Node {
    pub(crate) fn new(
        address: Address,
        config: Config,
        identity: Option<&Identity>,
        runtime: Handle,
    ) -> Self {
        Self {
            identities: Identities::new(identity),
            incarnation: config.incarnation.unwrap_or_else(incarnation_now),
            budget: Arc::new(Budget::new(config.node_budget)),
            peers: DashMap::new(),
            outcasts: Outcasts::new(config.max_peers),
            handlers: SetOnce::new(),
            dead_letters: OnceLock::new(),
            phase: watch::Sender::new(Phase::Running),
            ended: SetOnce::new(),
            runtime,
            events: RwLock::new(Some(broadcast::Sender::new(EVENT_BUFFER))),
            forgotten: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            start_driver: OnceLock::new(),
            renew: OnceLock::new(),
            refusals: Mutex::default(),
            log: Mutex::new(LogLimit::new(LOG_BURST, LOG_REFILL)),
            started: Instant::now(),
            address,
            config,
        }
    }

    /// Called once, before the node is handed out.
    pub(crate) fn set_driver(&self, start: impl Fn(Arc<PeerCore>) + Send + Sync + 'static) {
        let _ = self.start_driver.set(Box::new(start));
    }

    /// Called once, likewise.
    pub(crate) fn set_renew(
        &self,
        renew: impl Fn(&Identity) -> Result<(), BindError> + Send + Sync + 'static,
    ) {
        let _ = self.renew.set(Box::new(renew));
    }

    /// The backend's new connections are made with `identity` from now on.
    pub(crate) fn give_backend(&self, identity: &Identity) -> Result<(), BindError> {
        self.renew.get().map_or(Ok(()), |renew| renew(identity))
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
            if let Some(life) = self.outcasts.take(address) {
                peer.refuse(life);
            }
            if let Some(start) = self.start_driver.get() {
                start(Arc::clone(&peer));
            }
            peer
        });
        Ok(Arc::clone(&peer))
    }

    pub(crate) fn emit(&self, event: Event) {
        if let Some(events) = &*self.events.read().unwrap_or_else(PoisonError::into_inner) {
            // No subscriber is no fault.
            let _ = events.send(event);
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        let events = self.events.read().unwrap_or_else(PoisonError::into_inner);
        match &*events {
            Some(events) => events.subscribe(),
            // Its sender goes at once: a subscription that has ended.
            None => broadcast::channel(1).1,
        }
    }

    /// All tasks have ended, and the socket is free.
    pub(crate) fn end(&self) {
        *self.events.write().unwrap_or_else(PoisonError::into_inner) = None;
        let _ = self.ended.set(());
    }

    /// Whether one more line about peers may be logged: one member can claim any number of addresses.
    pub(crate) fn may_log(&self, now: Instant) -> bool {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let granted = log.line(now);
        if let Some(left_out) = log.left_out(now) {
            tracing::warn!(left_out, "lines about peers were left out of the log");
        }
        granted
    }

    /// Reports a refused connection. Strangers make one log line and [`REFUSALS_REPORTED`] events a
    /// second at most: more would push what matters out of logs and event buffers.
    pub(crate) fn refused(&self, remote: String, error: AssociationError) {
        let second = self.started.elapsed().as_secs();
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.total += 1;
        *refusals.by_kind.entry(error.kind()).or_default() += 1;
        if refusals.second != Some(second) {
            (refusals.second, refusals.reported) = (Some(second), 0);
        }
        refusals.reported += 1;
        let reported = refusals.reported;
        drop(refusals);
        if reported == 1 {
            tracing::warn!(remote, %error, "connection refused");
        } else {
            tracing::debug!(remote, %error, "connection refused");
        }
        if reported <= REFUSALS_REPORTED {
            self.emit(Event::IncomingRefused { remote, error });
        }
    }

    /// Those of each kind.
    pub(crate) fn refusals_by_kind(&self) -> BTreeMap<&'static str, u64> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).by_kind.clone()
    }

    /// Connections refused so far.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

/// Lines about all peers: enough for all of a large cluster at once, and a quarter of a gigabyte a year.
const LOG_BURST: u32 = 1024;
const LOG_REFILL: Duration = Duration::from_secs(1);

/// Events about refused connections, a second.
const REFUSALS_REPORTED: u32 = 64;

#[derive(Default)]
struct Refusals {
    total: u64,
    by_kind: BTreeMap<&'static str, u64>,
    second: Option<u64>,
    reported: u32,
}

/// Makes something that needs the timers of `runtime`: callers may have another runtime, or none.
pub(crate) fn within<T>(runtime: &Handle, make: impl FnOnce() -> T) -> T {
    let _entered = runtime.enter();
    make()
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
