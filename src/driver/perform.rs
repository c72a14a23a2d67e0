//! What the association says, done: dials, activations, closings.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{Instrument, debug, warn};

use super::one_way::OneWay;
use super::{Candidate, Driver, DriverInput};
use crate::address::Incarnation;
use crate::association::{Input, LinkId, Output};
use crate::control::{Control, GoodbyeReason, Instance};
use crate::error::AssociationError;
use crate::event::Event;
use crate::greet;
use crate::lane::Lane;
use crate::link::{Backend, Link};
use crate::outbound::TellLane;
use crate::peer::LinkProbe;
use crate::session::Session;
use crate::stats::{ConnectionInfo, LinkStats};

/// How long a peer that said goodbye has for taking our last acknowledgements.
const ANSWER: Duration = Duration::from_secs(1);

impl<B: Backend> Driver<B> {
    /// Does what the association says; what fails at once comes back as the next input.
    pub(super) fn perform(&mut self, output: Output) -> Result<(), Input> {
        match output {
            Output::Dial { link } => self.dial(link),
            Output::Activate { link, instance } => self.activate(link, instance)?,
            Output::Deactivate { link, reason } => self.deactivate(link, reason),
            Output::Close { link, reason } => self.close_link(link, &reason),
            Output::ReportDialFailed { error, retry_in } => self.dial_failed(error, retry_in),
            Output::ReportRefused { error } => {
                self.node.refused(self.peer.address.to_string(), error);
            }
        }
        Ok(())
    }

    pub(super) fn dial(&mut self, link: LinkId) {
        debug!(attempt = self.association.attempt(), "dialling");
        let (hub, peer, inbox) =
            (Arc::clone(&self.hub), Arc::clone(&self.peer), self.inbox.clone());
        let attempt = self.association.attempt();
        let dial = async move {
            let result = greet::dial(&hub.node, &hub.backend, &peer, attempt).await;
            let input = match result {
                Ok(greeted) => DriverInput::Dialled { link, greeted: Box::new(greeted) },
                Err(error) => DriverInput::DialFailed { link, error },
            };
            let _ = inbox.send(input).await;
        };
        let span = tracing::debug_span!("dial", attempt);
        self.dials.insert(link, tokio::spawn(dial.instrument(span.or_current())).abort_handle());
    }

    pub(super) fn activate(&mut self, link: LinkId, instance: Instance) -> Result<(), Input> {
        let Some(Candidate { greeted, remote }) = self.candidates.remove(&link) else {
            // It ended in the very moment; its end is in the inbox.
            return Err(Input::Lost { link, reason: AssociationError::Superseded });
        };
        let peer = Arc::clone(&self.peer);
        // The old connection's readers first: what they hold is resent after what we say now.
        let epoch = peer.inbound.fence();
        peer.inbound.adopt(instance);
        self.adopt(instance);
        if peer.status().quarantined.take().is_some() {
            peer.lanes.iter().for_each(TellLane::admit);
        }
        let (greeting, handle) = (greeted.greeting.clone(), greeted.link.clone());
        if let Err(reason) = handle.admit(greeting.lanes, greeting.stream_window) {
            handle.close(&reason);
            return Err(Input::Lost { link, reason });
        }
        let attempt = self.association.attempt();
        let accept = || Control::Accepted(greet::greeting(&self.node, &peer, attempt));
        let mut session =
            Session::start(&self.node, &peer, link, epoch, *greeted, accept, self.inbox.clone());
        session.note_remote(&remote);
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
        self.one_way = OneWay::default();
        self.note_certificate(&handle);
        if let Err(reason) = result {
            handle.close(&reason);
            return Err(Input::Lost { link, reason });
        }
        say!(self, info, %remote, incarnation = %instance.incarnation, "peer up");
        let mut status = peer.status();
        status.associations += 1;
        status.incarnation = Some(instance.incarnation);
        status.last_error = None;
        status.end_link();
        status.link = Some(Box::new(Probed {
            link: handle,
            version: greeting.version,
            lanes: greeting.lanes,
            window: greeting.stream_window,
        }));
        drop(status);
        self.up = true;
        let (peer, incarnation) = (peer.address.clone(), instance.incarnation);
        self.node.emit(Event::PeerUp { peer, incarnation });
        self.attach_writers();
        Ok(())
    }

    /// The user wants nothing to do with this life of the peer any more.
    pub(super) fn quarantine(&mut self, incarnation: Incarnation) {
        self.feed(Input::Quarantine { incarnation });
        if self.association.quarantined() != Some(incarnation) {
            // It came back as another before this was said, and that one is not meant.
            if self.association.quarantined().is_none() {
                self.peer.lanes.iter().for_each(TellLane::admit);
            }
            return;
        }
        warn!(%incarnation, "peer quarantined");
        self.peer.status().quarantined = Some(incarnation);
        let peer = self.peer.address.clone();
        self.node.emit(Event::PeerQuarantined { peer, incarnation });
        let give_up = |(n, lane): (u8, &TellLane)| Some((n, lane.quarantine()?));
        let losses = (0..).zip(self.peer.lanes.iter()).filter_map(give_up).collect();
        self.report_losses(losses);
    }

    /// What was sent to another instance of the peer is lost: it may have handled it.
    pub(super) fn adopt(&mut self, instance: Instance) {
        let old = self.instance.replace(instance);
        if old == Some(instance) {
            return;
        }
        let new = instance.incarnation;
        let restart = |(n, lane): (u8, &TellLane)| Some((n, lane.restart(new)?));
        let losses: Vec<_> = (0..).zip(self.peer.lanes.iter()).filter_map(restart).collect();
        if let Some(old) = old.map(|old| old.incarnation).filter(|old| *old != new) {
            say!(self, info, %old, %new, "peer restarted");
            self.node.emit(Event::PeerRestarted { peer: self.peer.address.clone(), old, new });
        }
        self.report_losses(losses);
    }

    /// Gives a writer to every lane that has something to send and none.
    pub(super) fn attach_writers(&mut self) {
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

    pub(super) fn deactivate(&mut self, link: LinkId, reason: AssociationError) {
        let now = Instant::now().into_std();
        self.note_silence(now);
        let since = self.silence.link_ended(now);
        self.peer.lanes.iter().for_each(|lane| lane.detach(since));
        self.peer.gossip.detach();
        self.peer.inbound.fence();
        self.peer.status().end_link();
        if let Some(session) = self.session.take() {
            self.end_session(link, session, &reason);
        }
        self.report_end(link, reason);
        // Before the next tick another link may be in their way.
        self.expire(now);
    }

    fn end_session(&mut self, link: LinkId, session: Session<B::Link>, reason: &AssociationError) {
        debug_assert_eq!(session.id(), link);
        session.note_end(reason);
        match reason {
            AssociationError::Idle => {
                debug!("peer released");
                let limit = self.node.config.dial_timeout;
                let (why, close) = (GoodbyeReason::Idle, AssociationError::Idle);
                tokio::spawn(session.say_goodbye(why, close, limit).in_current_span());
            }
            AssociationError::Goodbye => {
                self.answer = Some(tokio::spawn(session.answer_goodbye(ANSWER)));
            }
            _ => self.last = Some((link, session.link().clone())),
        }
    }

    /// Says that the association has ended, or that none came of a link.
    fn report_end(&mut self, link: LinkId, reason: AssociationError) {
        let superseded = reason == AssociationError::Superseded;
        if self.up {
            let mut status = self.peer.status();
            *status.ended.entry(reason.kind()).or_default() += 1;
            status.last_error = Some(reason.clone());
            drop(status);
            // Of one whose place another takes, no more is said.
            if !superseded {
                self.say_down(reason);
            }
            return;
        }
        if superseded || reason == AssociationError::ShuttingDown {
            return;
        }
        match link {
            LinkId::Dialled(_) => {
                let wake_at = self.association.wake_at().map(Instant::from_std);
                let retry_in = wake_at.map_or(Duration::ZERO, |at| at - Instant::now());
                self.dial_failed(reason, retry_in);
            }
            LinkId::Accepted(_) => {
                self.peer.status().last_error = Some(reason.clone());
                self.node.refused(self.peer.address.to_string(), reason);
            }
        }
    }

    fn say_down(&mut self, reason: AssociationError) {
        self.up = false;
        say!(self, info, %reason, "peer down");
        self.node.emit(Event::PeerDown { peer: self.peer.address.clone(), reason });
    }

    pub(super) fn close_link(&mut self, link: LinkId, reason: &AssociationError) {
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

    pub(super) fn dial_failed(&mut self, error: AssociationError, retry_in: Duration) {
        if self.up && self.session.is_none() {
            // The peer closed the link for another's sake, and that one has not come.
            self.say_down(error.clone());
        }
        let mut status = self.peer.status();
        *status.failed_dials.entry(error.kind()).or_default() += 1;
        let known = status.last_error.replace(error.clone());
        drop(status);
        if known.as_ref() == Some(&error) || !self.may_log() {
            debug!(%error, ?retry_in, "dial failed again");
        } else {
            warn!(%error, ?retry_in, "dial failed");
        }
        let peer = self.peer.address.clone();
        self.node.emit(Event::DialFailed { peer, error, retry_in });
    }
}

/// An active link, for its figures, with what the peer's greeting said of its side.
struct Probed<L> {
    link: L,
    version: u16,
    lanes: u8,
    window: u64,
}

impl<L: Link> LinkProbe for Probed<L> {
    fn stats(&self) -> LinkStats {
        self.link.stats()
    }

    fn info(&self) -> ConnectionInfo {
        ConnectionInfo {
            wire_version: self.version,
            tell_lanes: self.lanes,
            stream_window: self.window,
            ..self.link.info()
        }
    }
}
