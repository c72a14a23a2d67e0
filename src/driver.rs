//! One task per peer: gives the association its inputs, and does what it says. The only clock, and
//! the only place where a peer's tasks are spawned.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{Instrument, debug, info, warn};

use crate::association::{Association, Input, LinkId, Output, Timing};
use crate::control::{Control, GoodbyeReason, Instance};
use crate::delivery::Fault;
use crate::error::AssociationError;
use crate::event::Event;
use crate::greet::{self, Greeted};
use crate::hub::Hub;
use crate::lane::Lane;
use crate::link::{Backend, Link};
use crate::node::{Node, Phase};
use crate::outbound::Loss;
use crate::peer::PeerCore;
use crate::session::Session;
use crate::stats::PeerState;

/// How often slow things are looked after: retention, idleness, progress of a slow sink.
const TICK: Duration = Duration::from_millis(250);

/// What a driver is told by its tasks.
pub(crate) enum DriverInput<L: Link> {
    /// Somebody with the peer's address has greeted.
    Incoming {
        remote: String,
        greeted: Greeted<L>,
    },
    /// Our dial was accepted.
    Dialled {
        link: LinkId,
        greeted: Greeted<L>,
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
    /// The link that was active last, until it is closed.
    last: Option<(LinkId, B::Link)>,
    accepted: u64,
    /// Whom the lanes' sent frames went to.
    instance: Option<Instance>,
    activity: Activity,
    /// Since when nothing is under way, if nothing is.
    idle_since: Instant,
}

struct Candidate<L: Link> {
    greeted: Greeted<L>,
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
        let seed = node.incarnation.0 ^ (u64::from(peer.address.port()) << 48);
        Self {
            association: Association::new(node.address < peer.address, timing, seed),
            hub,
            node,
            peer,
            inbox,
            inputs,
            dials: HashMap::new(),
            candidates: HashMap::new(),
            session: None,
            last: None,
            accepted: 0,
            instance: None,
            activity: Activity { seen: 0, at: Instant::now() },
            idle_since: Instant::now(),
        }
    }

    pub(crate) async fn run(self, phase: watch::Receiver<Phase>) {
        let span = tracing::debug_span!("peer", peer = %self.peer.address);
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
        self.close(deadline).await;
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
                self.feed(Input::DialFailed { link, error });
            }
            DriverInput::Closed { link, reason } => {
                self.candidates.remove(&link);
                self.feed(Input::Lost { link, reason });
                self.last.take_if(|(last, _)| *last == link);
            }
            DriverInput::Broken { link, reason } => self.broken(link, reason),
        }
    }

    fn feed_greeted(&mut self, link: LinkId, remote: String, greeted: Greeted<B::Link>) {
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
        tokio::spawn(async move {
            let reason = handle.closed().await;
            let _ = inbox.send(DriverInput::Closed { link, reason }).await;
        });
    }

    /// A task of the active link found that it must end, or that it has ended.
    fn broken(&mut self, link: LinkId, reason: AssociationError) {
        if self.association.active() != Some(link) {
            return;
        }
        if let Some(session) = &self.session {
            session.link().close(&reason);
        }
        self.feed(Input::Lost { link, reason });
    }

    fn woken(&mut self) {
        for fault in self.peer.take_faults() {
            self.fault(fault);
        }
        if std::mem::take(&mut self.peer.status().disconnect) {
            self.feed(Input::Disconnect);
        }
        self.attach_writers();
        if self.peer.has_pending() {
            self.feed(Input::Wanted);
        }
    }

    fn fault(&mut self, fault: Fault) {
        let peer = self.peer.address.clone();
        match fault {
            Fault::SinkPanicked(lane) => {
                warn!(%lane, "the sink panicked on a tell");
                self.node.emit(Event::SinkPanicked { peer, lane });
            }
            Fault::Frame(lane, error) => {
                warn!(%lane, %error, "a frame was refused");
                let reason = AssociationError::Protocol(format!("{lane} lane: {error}"));
                self.node.emit(Event::FrameRefused { peer, lane, error });
                if let Some(link) = self.association.active() {
                    self.broken(link, reason);
                }
            }
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.peer.inbound.owes_acknowledgement() {
            // A slow sink's progress, short of a whole batch.
            self.peer.inbound.delivered.notify_one();
        }
        let mut losses = Vec::new();
        for (n, lane) in (0..).zip(self.peer.lanes.iter()) {
            lane.mark(now.into_std(), self.node.config.retention);
            let loss = lane.expire(now.into_std(), self.node.config.retention);
            losses.extend(loss.map(|loss| (n, loss)));
        }
        self.report_losses(losses);
        self.release_if_idle(now);
        // What was pushed while a writer was on its way out woke nobody who is still there.
        if self.peer.has_pending() {
            self.attach_writers();
            self.feed(Input::Wanted);
        }
    }

    /// Ends a driver whose peer has not been needed for long and is nobody's concern any more.
    fn forget(&mut self) -> bool {
        // Held by this driver and by its loop.
        const HELD: usize = 2;
        let unneeded = self.association.is_idle()
            && !self.peer.has_pending()
            && self.peer.inbound.is_settled()
            && self.idle_since.elapsed() >= self.node.config.retention;
        if !unneeded || !self.hub.forget(&self.peer, &self.inbox, HELD) {
            return false;
        }
        debug!("peer forgotten");
        let acknowledged: u64 =
            self.peer.lanes.iter().map(|lane| lane.stats().acknowledged_frames).sum();
        self.node.forgotten.fetch_add(acknowledged, std::sync::atomic::Ordering::Relaxed);
        true
    }

    fn release_if_idle(&mut self, now: Instant) {
        let stats = |lane: &crate::outbound::TellLane| lane.positions().1;
        let received = self.peer.inbound.stats();
        let seen = self.peer.lanes.iter().map(stats).sum::<u64>()
            + self.peer.gossip.stats().accepted
            + self.peer.inbound.gossip_received.load(std::sync::atomic::Ordering::Relaxed)
            + received.iter().map(|(_, lane)| lane.delivered_frames).sum::<u64>();
        if seen != self.activity.seen || self.association.active().is_none() {
            self.activity = Activity { seen, at: now };
            return;
        }
        let Some(limit) = self.node.config.idle_release else { return };
        let settled = self.peer.is_settled() && self.peer.inbound.is_settled();
        if settled && now.duration_since(self.activity.at) >= limit {
            debug!("idle: releasing the connection");
            self.feed(Input::Release);
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

    /// Does what the association says; what fails at once comes back as the next input.
    fn perform(&mut self, output: Output) -> Result<(), Input> {
        match output {
            Output::Dial { link } => self.dial(link),
            Output::Activate { link, instance } => self.activate(link, instance)?,
            Output::Deactivate { link, reason } => self.deactivate(link, reason),
            Output::Close { link, reason } => self.close_link(link, &reason),
            Output::ReportDialFailed { error, retry_in } => self.dial_failed(error, retry_in),
            Output::ReportRefused { error, .. } => {
                self.node.refused(self.peer.address.to_string(), error);
            }
        }
        Ok(())
    }

    fn dial(&mut self, link: LinkId) {
        debug!(attempt = self.association.attempt(), "dialling");
        let (hub, peer, inbox) =
            (Arc::clone(&self.hub), Arc::clone(&self.peer), self.inbox.clone());
        let attempt = self.association.attempt();
        let dial = async move {
            let result = greet::dial(&hub.node, &hub.backend, &peer, attempt).await;
            let input = match result {
                Ok(greeted) => DriverInput::Dialled { link, greeted },
                Err(error) => DriverInput::DialFailed { link, error },
            };
            let _ = inbox.send(input).await;
        };
        self.dials.insert(link, tokio::spawn(dial.in_current_span()).abort_handle());
    }

    fn activate(&mut self, link: LinkId, instance: Instance) -> Result<(), Input> {
        let Some(Candidate { greeted, remote }) = self.candidates.remove(&link) else {
            // It ended in the very moment; its end is in the inbox.
            return Err(Input::Lost { link, reason: AssociationError::Superseded });
        };
        let peer = Arc::clone(&self.peer);
        // The old connection's readers first: what they hold is resent after what we say now.
        let epoch = peer.inbound.fence();
        peer.inbound.adopt(instance);
        self.adopt(instance);
        let (greeting, handle) = (greeted.greeting.clone(), greeted.link.clone());
        if let Err(reason) = handle.admit(greeting.lanes, greeting.stream_window) {
            handle.close(&reason);
            return Err(Input::Lost { link, reason });
        }
        let accepted = matches!(link, LinkId::Accepted(_)).then(|| {
            Control::Accepted(greet::greeting(&self.node, &peer, self.association.attempt()))
        });
        let mut session =
            Session::start(&self.node, &peer, link, epoch, greeted, accepted, self.inbox.clone());
        let mut attach = || {
            for (n, lane) in (0..).zip(peer.lanes.iter()).filter(|(_, lane)| lane.needs_writer()) {
                let resume = greet::resume_for(&greeting, peer.instance, Lane::Tell(n));
                let attached = lane.attach(resume).map_err(AssociationError::Protocol)?;
                session.write_tells(n, attached);
            }
            Ok(())
        };
        let result = attach();
        self.session = Some(session);
        if let Err(reason) = result {
            handle.close(&reason);
            return Err(Input::Lost { link, reason });
        }
        info!(%remote, incarnation = %instance.incarnation, "peer up");
        let mut status = peer.status();
        status.associations += 1;
        status.incarnation = Some(instance.incarnation);
        status.last_error = None;
        status.link = Some(Box::new(move || handle.stats()));
        drop(status);
        let (peer, incarnation) = (peer.address.clone(), instance.incarnation);
        self.node.emit(Event::PeerUp { peer, incarnation });
        self.attach_writers();
        Ok(())
    }

    /// What was sent to another instance of the peer is lost: it may have handled it.
    fn adopt(&mut self, instance: Instance) {
        let Some(old) = self.instance.replace(instance).filter(|old| *old != instance) else {
            return;
        };
        let restart = |(n, lane): (u8, &crate::outbound::TellLane)| Some((n, lane.restart()?));
        let losses: Vec<_> = (0..).zip(self.peer.lanes.iter()).filter_map(restart).collect();
        let (old, new) = (old.incarnation, instance.incarnation);
        if old != new {
            info!(%old, %new, "peer restarted");
            self.node.emit(Event::PeerRestarted { peer: self.peer.address.clone(), old, new });
        }
        self.report_losses(losses);
    }

    /// Gives a writer to every lane that has something to send and none.
    fn attach_writers(&mut self) {
        let Some(session) = &mut self.session else { return };
        for (n, lane) in (0..).zip(self.peer.lanes.iter()).filter(|(_, lane)| lane.needs_writer()) {
            // All that was sent is acknowledged, or it would have had a writer from the start.
            if let Ok(attached) = lane.attach(None) {
                session.write_tells(n, attached);
            }
        }
        if self.peer.gossip.needs_writer() {
            session.write_gossip(self.peer.gossip.attach());
        }
    }

    fn deactivate(&mut self, link: LinkId, reason: AssociationError) {
        let now = Instant::now().into_std();
        self.peer.lanes.iter().for_each(|lane| lane.detach(now));
        self.peer.gossip.detach();
        self.peer.inbound.fence();
        let Some(session) = self.session.take() else { return };
        debug_assert_eq!(session.id(), link);
        let mut status = self.peer.status();
        status.link = None;
        status.last_error = Some(reason.clone());
        drop(status);
        match reason {
            AssociationError::Idle => {
                debug!("peer released");
                let limit = self.node.config.dial_timeout;
                let (why, close) = (GoodbyeReason::Idle, AssociationError::Idle);
                tokio::spawn(session.say_goodbye(why, close, limit));
            }
            _ => self.last = Some((link, session.link().clone())),
        }
        if reason != AssociationError::Superseded {
            info!(%reason, "peer down");
            self.node.emit(Event::PeerDown { peer: self.peer.address.clone(), reason });
        }
    }

    fn close_link(&mut self, link: LinkId, reason: &AssociationError) {
        if let Some(dial) = self.dials.remove(&link) {
            // Dropping the attempt closes what it has, as superseded.
            dial.abort();
        }
        if let Some(candidate) = self.candidates.remove(&link) {
            candidate.greeted.link.close(reason);
        }
        if let Some((_, last)) = self.last.take_if(|(last, _)| *last == link) {
            last.close(reason);
        }
    }

    fn dial_failed(&mut self, error: AssociationError, retry_in: Duration) {
        let known = self.peer.status().last_error.replace(error.clone());
        if known.as_ref() == Some(&error) {
            debug!(%error, ?retry_in, "dial failed again");
        } else {
            warn!(%error, ?retry_in, "dial failed");
        }
        let peer = self.peer.address.clone();
        self.node.emit(Event::DialFailed { peer, error, retry_in });
    }

    fn report_losses(&self, losses: Vec<(u8, Loss)>) {
        for (n, Loss { frames, bytes, reason }) in losses {
            let (peer, lane) = (self.peer.address.clone(), Lane::Tell(n));
            warn!(%lane, frames, bytes, ?reason, "tells lost");
            self.node.emit(Event::TellsLost { peer, lane, frames, bytes, reason });
        }
    }

    fn note_status(&mut self) {
        let state = match (self.association.active(), self.association.is_idle()) {
            (Some(_), _) => PeerState::Connected,
            (None, true) => PeerState::Idle,
            (None, false) => PeerState::Connecting,
        };
        if state != PeerState::Idle {
            self.idle_since = Instant::now();
        }
        let mut status = self.peer.status();
        status.state = Some(state);
        match state {
            PeerState::Connecting => {
                status.wanted_since.get_or_insert_with(Instant::now);
            }
            PeerState::Connected | PeerState::Idle => status.wanted_since = None,
        }
    }

    /// The end: what is received goes to the sink and is acknowledged, then goodbye.
    async fn close(mut self, deadline: Instant) {
        self.attach_writers();
        self.peer.close();
        self.peer.inbound.fence();
        let _ = tokio::time::timeout_at(deadline, self.peer.inbound.settled()).await;
        if let Some(session) = self.session.take() {
            self.last = None;
            self.peer.status().link = None;
            let limit = deadline.saturating_duration_since(Instant::now()).max(LAST_WORDS);
            let (why, close) = (GoodbyeReason::ShutDown, AssociationError::ShuttingDown);
            session.say_goodbye(why, close, limit).await;
            let (peer, reason) = (self.peer.address.clone(), AssociationError::ShuttingDown);
            self.node.emit(Event::PeerDown { peer, reason });
        }
        self.feed(Input::Shutdown);
        self.peer.gossip.abandon();
        let abandon = |(n, lane): (u8, &crate::outbound::TellLane)| Some((n, lane.abandon()?));
        let losses = (0..).zip(self.peer.lanes.iter()).filter_map(abandon).collect();
        self.report_losses(losses);
        self.note_status();
    }
}

/// What a goodbye gets even after the deadline: the peer should not have to wait for its timeout.
const LAST_WORDS: Duration = Duration::from_millis(50);

async fn closing(phase: &mut watch::Receiver<Phase>) -> Instant {
    let closing = phase.wait_for(|phase| matches!(phase, Phase::Closing { .. })).await;
    match closing.as_deref() {
        Ok(Phase::Closing { deadline }) => Instant::from_std(*deadline),
        _ => Instant::now(),
    }
}
