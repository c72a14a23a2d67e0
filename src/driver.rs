//! One task per peer: gives the association its inputs, and does what it says. The only clock, and
//! the only place where a peer's tasks are spawned.

/// A line about the peer at a level of its own, or at DEBUG where there have been too many.
macro_rules! say {
    ($driver:ident, $level:ident, $($line:tt)+) => {
        match $driver.may_log() {
            true => tracing::$level!($($line)+),
            false => tracing::debug!($($line)+),
        }
    };
}

mod certificates;
mod giving_back;
mod one_way;
mod perform;
mod silence;
mod stuck;
mod upkeep;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::Instrument;

use crate::association::{Association, Input, LinkId, Timing};
use crate::control::Instance;
use crate::delivery::Fault;
use crate::error::AssociationError;
use crate::event::Event;
use crate::greet::Greeted;
use crate::hub::Hub;
use crate::lane::Lane;
use crate::link::{Backend, Link};
use crate::log_limit::LogLimit;
use crate::node::{Node, Phase};
use crate::outbound::Loss;
use crate::peer::PeerCore;
use crate::session::Session;
use certificates::Certificates;
use giving_back::GivingBack;
use one_way::OneWay;
use silence::Silence;
use stuck::StuckLanes;

/// How often slow things are looked after: retention, idleness, progress of a slow sink.
const TICK: Duration = Duration::from_millis(250);

/// What a driver is told by its tasks. Small: its inbox takes room for 32 at once, and the greetings,
/// which are large, are soon over.
pub(crate) enum DriverInput<L: Link> {
    /// Somebody with the peer's address has greeted.
    Incoming {
        remote: String,
        greeted: Box<Greeted<L>>,
    },
    /// Our dial was accepted.
    Dialled {
        link: LinkId,
        greeted: Box<Greeted<L>>,
    },
    DialFailed {
        link: LinkId,
        error: AssociationError,
    },
    /// A link has ended.
    Closed {
        link: LinkId,
        reason: AssociationError,
    },
    /// A task of an active link gave up; the link may still stand.
    Broken {
        link: LinkId,
        reason: AssociationError,
    },
}

/// Lines about one peer.
const LOG_BURST: u32 = 20;
const LOG_REFILL: Duration = Duration::from_secs(5);

pub(crate) struct Driver<B: Backend> {
    hub: Arc<Hub<B>>,
    node: Arc<Node>,
    peer: Arc<PeerCore>,
    association: Association,
    inbox: mpsc::Sender<DriverInput<B::Link>>,
    inputs: mpsc::Receiver<DriverInput<B::Link>>,
    dials: HashMap<LinkId, AbortHandle>,
    /// Links that have greeted and are not active.
    candidates: HashMap<LinkId, Candidate<B::Link>>,
    session: Option<Session<B::Link>>,
    /// `PeerUp` was said, and no `PeerDown` since.
    up: bool,
    /// The link that was active last, until it is closed.
    last: Option<(LinkId, B::Link)>,
    accepted: u64,
    /// Whom the lanes' sent frames went to.
    instance: Option<Instance>,
    activity: Activity,
    one_way: OneWay,
    certificates: Certificates,
    stuck: StuckLanes,
    silence: Silence,
    /// What is still said to a peer that has said goodbye.
    answer: Option<JoinHandle<()>>,
    /// Since when nothing is under way, if nothing is.
    idle_since: Instant,
    giving_back: GivingBack,
    log: LogLimit,
}

struct Candidate<L: Link> {
    greeted: Box<Greeted<L>>,
    remote: String,
}

/// When the association carried something last.
struct Activity {
    seen: u64,
    at: Instant,
}

impl<B: Backend> Driver<B> {
    pub(crate) fn new(
        hub: Arc<Hub<B>>,
        peer: Arc<PeerCore>,
        inbox: mpsc::Sender<DriverInput<B::Link>>,
        inputs: mpsc::Receiver<DriverInput<B::Link>>,
    ) -> Self {
        let node = Arc::clone(&hub.node);
        let timing = Timing {
            backoff_min: node.config.backoff_min,
            backoff_max: node.config.backoff_max,
            stable_after: node.config.backoff_max.min(Duration::from_secs(5)),
            reconnect_for: node.config.retention,
        };
        let stuck = StuckLanes::new(node.config.lane_stuck_after, node.config.tell_lanes);
        let seed = node.incarnation.0 ^ (u64::from(peer.address.port()) << 48);
        let refused = peer.status().quarantined;
        let association = Association::new(node.address < peer.address, timing, seed);
        Self {
            association: association.refusing(refused),
            hub,
            node,
            peer,
            inbox,
            inputs,
            dials: HashMap::new(),
            candidates: HashMap::new(),
            session: None,
            up: false,
            last: None,
            accepted: 0,
            instance: None,
            activity: Activity { seen: 0, at: Instant::now() },
            one_way: OneWay::default(),
            certificates: Certificates::default(),
            stuck,
            silence: Silence::default(),
            answer: None,
            idle_since: Instant::now(),
            giving_back: GivingBack::default(),
            log: LogLimit::new(LOG_BURST, LOG_REFILL),
        }
    }

    pub(crate) async fn run(self, phase: watch::Receiver<Phase>) {
        // Whatever passes a filter is to say whom it is about.
        let span = tracing::error_span!("peer", peer = %self.peer.address);
        self.drive(phase).instrument(span).await;
    }

    async fn drive(mut self, mut phase: watch::Receiver<Phase>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let peer = Arc::clone(&self.peer);
        let deadline = loop {
            let wake_at = self.association.wake_at().map(Instant::from_std);
            tokio::select! {
                deadline = closing(&mut phase) => break deadline,
                input = self.inputs.recv() => {
                    if let Some(input) = input {
                        self.input(input);
                    }
                }
                () = peer.wake.notified() => self.woken(),
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {
                    self.feed(Input::Timer { pending: self.peer.has_pending() });
                }
                _ = tick.tick() => {
                    self.tick();
                    if self.forget() {
                        return;
                    }
                }
            }
            self.note_status();
        };
        // In memory of its own, which the driver's task would otherwise keep ready all its life.
        Box::pin(self.close(deadline)).await;
        drop(phase);
    }

    fn input(&mut self, input: DriverInput<B::Link>) {
        match input {
            DriverInput::Incoming { remote, greeted } => {
                self.accepted += 1;
                let link = LinkId::Accepted(self.accepted);
                self.feed_greeted(link, remote, greeted);
            }
            DriverInput::Dialled { link, greeted } => {
                self.dials.remove(&link);
                let remote = self.peer.address.to_string();
                self.feed_greeted(link, remote, greeted);
            }
            DriverInput::DialFailed { link, error } => {
                self.dials.remove(&link);
                self.feed(Input::DialFailed { link, error: error.clone() });
                self.dial_told(link, &error);
            }
            DriverInput::Closed { link, reason } => {
                self.candidates.remove(&link);
                self.feed(Input::Lost { link, reason });
                self.last.take_if(|(last, _)| *last == link);
            }
            DriverInput::Broken { link, reason } => {
                // They may be why.
                self.take_faults();
                self.broken(link, reason);
            }
        }
    }

    fn feed_greeted(&mut self, link: LinkId, remote: String, greeted: Box<Greeted<B::Link>>) {
        self.watch(link, greeted.link.clone());
        let (instance, attempt) = (greeted.greeting.instance, greeted.greeting.attempt);
        self.candidates.insert(link, Candidate { greeted, remote });
        self.feed(match link {
            LinkId::Dialled(_) => Input::Greeted { link, instance, attempt },
            LinkId::Accepted(_) => Input::Incoming { link, instance, attempt },
        });
    }

    /// Reports the link's end, whenever it comes.
    fn watch(&self, link: LinkId, handle: B::Link) {
        let inbox = self.inbox.clone();
        let watch = async move {
            let reason = handle.closed().await;
            let _ = inbox.send(DriverInput::Closed { link, reason }).await;
        };
        tokio::spawn(watch.in_current_span());
    }

    /// A task of the active link found that it must end, or that it has ended.
    fn broken(&mut self, link: LinkId, reason: AssociationError) {
        if self.association.active() != Some(link) {
            return;
        }
        match &self.session {
            // It waits for our last acknowledgements.
            Some(_) if reason == AssociationError::Goodbye => {}
            Some(session) => session.link().close(&reason),
            None => {}
        }
        self.feed(Input::Lost { link, reason });
    }

    fn woken(&mut self) {
        self.take_faults();
        let quarantine = self.peer.status().quarantine.take();
        if let Some(incarnation) = quarantine {
            self.quarantine(incarnation);
        }
        if std::mem::take(&mut self.peer.status().disconnect) {
            self.feed(Input::Disconnect);
        }
        self.attach_writers();
        let connect = std::mem::take(&mut self.peer.status().connect);
        if connect || self.peer.has_pending() {
            self.feed(Input::Wanted);
        }
    }

    /// Whether one more line about this peer may be logged.
    fn may_log(&mut self) -> bool {
        let now = Instant::now().into_std();
        self.log.line(now) && self.node.may_log(now)
    }

    fn take_faults(&mut self) {
        for fault in self.peer.take_faults() {
            self.fault(fault);
        }
    }

    fn fault(&mut self, fault: Fault) {
        let peer = self.peer.address.clone();
        match fault {
            Fault::SinkPanicked(lane) => {
                say!(self, warn, %lane, "the sink panicked on a tell");
                self.node.emit(Event::SinkPanicked { peer, lane });
            }
            Fault::Frame { lane, error, epoch } => {
                say!(self, warn, %lane, %error, "a frame was refused");
                let reason = AssociationError::Protocol(format!("{lane} lane: {error}"));
                self.node.emit(Event::FrameRefused { peer, lane, error });
                // One from a queue that outlived its connection is not the present one's fault.
                if let Some(link) = self.association.active()
                    && epoch == self.peer.inbound.epoch()
                {
                    self.broken(link, reason);
                }
            }
        }
    }

    fn feed(&mut self, input: Input) {
        let mut outputs = VecDeque::from(self.association.handle(Instant::now().into_std(), input));
        while let Some(output) = outputs.pop_front() {
            if let Err(input) = self.perform(output) {
                outputs.extend(self.association.handle(Instant::now().into_std(), input));
            }
        }
    }

    fn report_losses(&mut self, losses: Vec<(u8, Loss)>) {
        for (n, loss) in &losses {
            let (peer, lane) = (self.peer.address.clone(), Lane::Tell(*n));
            let Loss { frames, bytes, reason, .. } = *loss;
            say!(self, warn, %lane, frames, bytes, ?reason, "tells lost");
            self.node.emit(Event::TellsLost { peer, lane, frames, bytes, reason });
        }
        self.giving_back.push(&self.node, &self.peer.address, losses.into_iter().map(|(_, l)| l));
    }
}

async fn closing(phase: &mut watch::Receiver<Phase>) -> Instant {
    let closing = phase.wait_for(|phase| matches!(phase, Phase::Closing { .. })).await;
    match closing.as_deref() {
        Ok(Phase::Closing { deadline }) => Instant::from_std(*deadline),
        _ => Instant::now(),
    }
}
