//! What time brings: expiry, release, forgetting, and the end of the node.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, interval, timeout_at};
use tracing::{debug, warn};

use super::stuck::{Change, Position};
use super::{Activity, Driver, TICK};
use crate::association::Input;
use crate::control::GoodbyeReason;
use crate::error::AssociationError;
use crate::event::Event;
use crate::lane::Lane;
use crate::link::{Backend, Link};
use crate::outbound::TellLane;
use crate::peer::PeerCore;
use crate::session::UNRESPONSIVE;
use crate::stats::PeerState;

/// What a goodbye gets even after the deadline: the peer should not have to wait for its timeout.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// The most that it gets, where the peer is far away.
const LONG_LAST_WORDS: Duration = Duration::from_millis(500);

impl<B: Backend> Driver<B> {
    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        if self.peer.inbound.owes_acknowledgement() {
            // A slow sink's progress, short of a whole batch.
            self.peer.inbound.delivered.notify_one();
        }
        let mark = |lane: &TellLane| lane.mark(now.into_std(), self.node.config.retention);
        self.peer.lanes.iter().for_each(mark);
        self.expire(now.into_std());
        self.give_up_one_way(now);
        self.note_stuck(now);
        self.give_up_silent(now);
        if let Some(left_out) = self.log.left_out(now.into_std()) {
            warn!(left_out, "lines about this peer were left out of the log");
        }
        self.release_if_idle(now);
        self.look_after_certificates(now);
        // What was pushed while a writer was on its way out woke nobody who is still there.
        if self.peer.has_pending() {
            self.attach_writers();
            self.feed(Input::Wanted);
        }
    }

    /// Ends a connection over which only one way carries anything, about when the peer, which hears
    /// nothing, gives it up.
    fn give_up_one_way(&mut self, now: Instant) {
        let Some(session) = &self.session else { return };
        let (link, echo) = (session.id(), session.link().echo());
        let config = &self.node.config;
        // The first that is not answered may be the next keep-alive.
        let limit = config.idle_timeout - config.keep_alive;
        if self.one_way.note(now.into_std(), echo) >= limit {
            self.broken(link, AssociationError::Unheard);
        }
    }

    /// Reports lanes that stand still although the peer is alive.
    pub(super) fn note_stuck(&mut self, now: Instant) {
        let echo = self.session.as_ref().map(|session| session.link().echo());
        let position = |lane: &TellLane| {
            let (acked, next, _) = lane.positions();
            Position { acked, pending: next - acked }
        };
        let positions = self.peer.lanes.iter().map(position);
        for change in self.stuck.note(now.into_std(), echo, positions) {
            self.report_stuck(now, change);
        }
    }

    fn report_stuck(&mut self, now: Instant, change: Change) {
        let peer = self.peer.address.clone();
        match change {
            Change::Stuck { lane, stuck_for, pending } => {
                self.peer.status().stuck.entry(lane).or_default().begin(now - stuck_for);
                let lane = Lane::Tell(lane);
                say!(self, warn, %lane, ?stuck_for, pending, "lane stuck, and the peer is alive");
                self.node.emit(Event::LaneStuck { peer, lane, stuck_for, pending });
            }
            Change::Over { lane, stuck_for } => {
                self.peer.status().stuck.entry(lane).or_default().since = None;
                let lane = Lane::Tell(lane);
                say!(self, info, %lane, ?stuck_for, "lane not stuck any more");
                self.node.emit(Event::LaneUnstuck { peer, lane, stuck_for });
            }
        }
    }

    /// Gives up what has waited for `retention` and has no link.
    pub(super) fn expire(&mut self, now: std::time::Instant) {
        let retention = self.node.config.retention;
        let expire = |(n, lane): (u8, &TellLane)| Some((n, lane.expire(now, retention)?));
        let losses = (0..).zip(self.peer.lanes.iter()).filter_map(expire).collect();
        self.report_losses(losses);
    }

    /// For how long tells have waited on the present link without a sign of life.
    pub(super) fn note_silence(&mut self, now: std::time::Instant) -> Duration {
        let waiting = !self.peer.is_settled();
        match &self.session {
            Some(session) => self.silence.note(now, waiting, session.signs()),
            None => {
                self.silence.no_link(waiting);
                Duration::ZERO
            }
        }
    }

    /// Ends a connection over which the peer takes no notice of tells; what has waited for `retention` is given
    /// up with it.
    fn give_up_silent(&mut self, now: Instant) {
        let now = now.into_std();
        if self.note_silence(now) < UNRESPONSIVE {
            return;
        }
        let Some(link) = self.association.active() else { return };
        self.silence.give_up();
        self.broken(link, AssociationError::Unresponsive(UNRESPONSIVE));
    }

    /// Ends a driver whose peer has not been needed for long and is nobody's concern any more.
    pub(super) fn forget(&mut self) -> bool {
        // Held by this driver and by its loop.
        const HELD: usize = 2;
        let unneeded = self.association.is_idle()
            && !self.peer.has_pending()
            && self.peer.inbound.is_settled()
            // Who sends to it next must not get these later than his own.
            && self.giving_back.is_over()
            && self.idle_since.elapsed() >= self.node.config.retention;
        if !unneeded || self.peer.status().quarantine.is_some() {
            return false;
        }
        // First, so that it is there for whoever makes the peer known anew.
        let refused = self.association.quarantined();
        if let Some(life) = refused {
            self.node.outcasts.put(&self.peer.address, life);
        }
        let nothing_came = || self.inputs.is_empty();
        if !self.hub.forget(&self.peer, &self.inbox, HELD, nothing_came) {
            if refused.is_some() {
                self.node.outcasts.take(&self.peer.address);
            }
            return false;
        }
        debug!("peer forgotten");
        let acknowledged: u64 =
            self.peer.lanes.iter().map(|lane| lane.stats().acknowledged_frames).sum();
        self.node.forgotten.fetch_add(acknowledged, Ordering::Relaxed);
        true
    }

    pub(super) fn release_if_idle(&mut self, now: Instant) {
        let stats = |lane: &TellLane| lane.positions().1;
        let received = self.peer.inbound.stats();
        let seen = self.peer.lanes.iter().map(stats).sum::<u64>()
            + self.peer.gossip.stats().accepted
            + self.peer.inbound.gossip_received.load(Ordering::Relaxed)
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

    pub(super) fn note_status(&mut self) {
        let state = match (self.association.active(), self.association.is_idle()) {
            (Some(_), _) => PeerState::Connected,
            (None, true) => PeerState::Idle,
            (None, false) => PeerState::Connecting,
        };
        if state != PeerState::Idle {
            self.idle_since = Instant::now();
        }
        let mut status = self.peer.status();
        if status.state.replace(state) != Some(state) {
            self.peer.changed.notify_waiters();
        }
        match state {
            PeerState::Connecting => {
                status.wanted_since.get_or_insert_with(Instant::now);
            }
            PeerState::Connected | PeerState::Idle => status.wanted_since = None,
        }
    }

    /// The end: what is received goes to the sink and is acknowledged, then goodbye.
    pub(super) async fn close(mut self, deadline: Instant) {
        self.attach_writers();
        self.peer.close();
        self.peer.inbound.fence();
        let _ = timeout_at(deadline, settled(&self.peer)).await;
        if let Some(answer) = self.answer.take() {
            let _ = timeout_at(deadline, answer).await;
        }
        if let Some(session) = self.session.take() {
            self.last = None;
            // There and back, when all was said at the deadline.
            let round_trips = (session.link().stats().rtt * 3).min(LONG_LAST_WORDS);
            let limit = deadline.saturating_duration_since(Instant::now());
            let limit = limit.max(LAST_WORDS).max(round_trips);
            let (why, close) = (GoodbyeReason::ShutDown, AssociationError::ShuttingDown);
            session.say_goodbye(why, close, limit).await;
            let mut status = self.peer.status();
            status.end_link();
            *status.ended.entry(AssociationError::ShuttingDown.kind()).or_default() += 1;
            drop(status);
            self.up = false;
            let (peer, reason) = (self.peer.address.clone(), AssociationError::ShuttingDown);
            self.node.emit(Event::PeerDown { peer, reason });
        }
        self.feed(Input::Shutdown);
        self.peer.gossip.abandon();
        let abandon = |(n, lane): (u8, &TellLane)| Some((n, lane.abandon()?));
        let losses = (0..).zip(self.peer.lanes.iter()).filter_map(abandon).collect();
        self.report_losses(losses);
        let limit = deadline.max(Instant::now() + LAST_WORDS);
        if timeout_at(limit, self.giving_back.over()).await.is_err() {
            warn!("lost tells are still being given back");
        }
        self.note_stuck(Instant::now());
        self.note_status();
    }
}

/// Waits until nothing received waits for the sink, and has its progress acknowledged meanwhile.
async fn settled(peer: &PeerCore) {
    let mut tick = interval(TICK);
    loop {
        tokio::select! {
            () = peer.inbound.settled() => return,
            _ = tick.tick() => peer.inbound.delivered.notify_one(),
        }
    }
}
