//! One peer: what its driver and its users share ([`PeerCore`]), and the handle that users hold.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::coop;
use tokio::time::{Instant, timeout};

use crate::address::{Address, Incarnation};
use crate::control::Instance;
use crate::delivery::{Fault, Inbound};
use crate::error::{BudgetScope, FlushError, FrameError, PeerError, SendError};
use crate::frame::{RemoteTellRef, Tell};
use crate::lane::Lane;
use crate::node::{Node, within};
use crate::outbound::{Budget, CATCH_UP, GossipQueue, Patience, Refused, TellLane, Wake};
use crate::stats::{ConnectionInfo, LaneStats, PeerState, PeerStats};

mod status;

pub(crate) use status::LinkProbe;
use status::Status;

pub(crate) struct PeerCore {
    pub(crate) address: Address,
    /// This node, as the peer is to tell its lives apart.
    pub(crate) instance: Instance,
    pub(crate) lanes: Box<[TellLane]>,
    pub(crate) gossip: GossipQueue,
    pub(crate) inbound: Inbound,
    /// Wakes the driver.
    pub(crate) wake: Notify,
    /// The association's state has changed.
    pub(crate) changed: Notify,
    /// What all tell lanes hold, here and to all peers.
    budget: Arc<Budget>,
    /// The node's: a caller may have another, without timers, or none.
    runtime: Handle,
    node_budget: Arc<Budget>,
    status: Mutex<Status>,
}

impl PeerCore {
    pub(crate) fn new(address: Address, session: u64, node: &Node) -> Self {
        let config = &node.config;
        let budget = Arc::new(Budget::within(&node.budget, config.peer_budget));
        let lane = |_| TellLane::new(config.lane_budget, Arc::clone(&budget));
        Self {
            address,
            instance: Instance { incarnation: node.incarnation, session },
            lanes: (0..config.tell_lanes).map(lane).collect(),
            gossip: GossipQueue::new(config.gossip_budget),
            inbound: Inbound::new(
                usize::try_from(config.stream_window).unwrap_or(usize::MAX),
                config.large_budget,
            ),
            wake: Notify::new(),
            changed: Notify::new(),
            runtime: node.runtime.clone(),
            node_budget: Arc::clone(&node.budget),
            budget,
            status: Mutex::default(),
        }
    }

    /// It is known anew, and `life` of it was quarantined.
    pub(crate) fn refuse(&self, life: Incarnation) {
        let mut status = self.status();
        (status.incarnation, status.quarantined) = (Some(life), Some(life));
        drop(status);
        self.lanes.iter().for_each(|lane| drop(lane.quarantine()));
    }

    pub(crate) fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a fault for the driver.
    pub(crate) fn report(&self, fault: Fault) {
        self.status().note_fault(fault);
        self.wake.notify_one();
    }

    pub(crate) fn take_faults(&self) -> Vec<Fault> {
        std::mem::take(&mut self.status().faults)
    }

    /// Whether something waits to be sent or acknowledged.
    pub(crate) fn has_pending(&self) -> bool {
        self.gossip.needs_writer() || self.lanes.iter().any(|lane| !lane.is_settled())
    }

    /// Whether everything accepted was acknowledged or reported lost.
    pub(crate) fn is_settled(&self) -> bool {
        self.lanes.iter().all(TellLane::is_settled)
    }

    /// Takes nothing more.
    pub(crate) fn close(&self) {
        self.gossip.close();
        self.lanes.iter().for_each(TellLane::close);
        self.changed.notify_waiters();
    }

    /// (number of the lane, sequence number) and losses at this moment, for `flush`.
    fn positions(&self) -> (Vec<u64>, u64) {
        let positions = self.lanes.iter().map(TellLane::positions);
        let mut lost = 0;
        let next = positions.map(|(_, next, gone)| {
            lost += gone;
            next
        });
        (next.collect(), lost)
    }

    fn push<T: Tell>(&self, tell: T) -> Result<(), SendError<T>> {
        let parts = tell.as_tell();
        let lane = self.lane_of(parts.target_path);
        self.push_in(lane, &parts, Patience::None).map_err(|refused| refusal(refused, tell))
    }

    /// Lends the tell to its lane: it is moved when it goes back to the caller, and not for each try.
    fn push_in(
        &self,
        lane: &TellLane,
        tell: &RemoteTellRef<'_>,
        patience: Patience,
    ) -> Result<(), Refused> {
        let accepted = lane.push(tell, tell.encoded_len(), patience)?;
        if accepted.wake == Wake::Driver {
            self.wake.notify_one();
        }
        if accepted.unit && patience == Patience::Waits {
            use_up_unit();
        }
        Ok(())
    }

    /// Waits for its turn, and then for room.
    async fn push_in_turn(&self, lane: &TellLane, tell: &RemoteTellRef<'_>) -> Result<(), Refused> {
        // Never closed; and without a turn a call would still be right, only not fair.
        let _turn = lane.turn.acquire().await.ok();
        let mut full = false;
        loop {
            // Registered before the try, so that nothing in between is missed; for room only if that is what
            // was short, since every acknowledgement wakes all who wait for it.
            let caught_up = lane.caught_up.notified();
            let (room, peer, node) = (
                lane.progress.notified(),
                self.budget.freed.notified(),
                self.node_budget.freed.notified(),
            );
            tokio::pin!(caught_up, room, peer, node);
            caught_up.as_mut().enable();
            if full {
                room.as_mut().enable();
                peer.as_mut().enable();
                node.as_mut().enable();
            }
            match self.push_in(lane, tell, Patience::Waits) {
                Err(Refused::Full(_)) => {
                    lane.short.store(true, Ordering::Relaxed);
                    if std::mem::replace(&mut full, true) {
                        tokio::select! {
                            () = room => {}
                            () = peer => {}
                            () = node => {}
                        }
                    }
                }
                Err(Refused::Ahead) => {
                    full = false;
                    lane.short.store(false, Ordering::Relaxed);
                    let waits = within(&self.runtime, || timeout(CATCH_UP, caught_up));
                    if waits.await.is_err() {
                        lane.no_use_waiting();
                    }
                }
                done => return done,
            }
        }
    }

    fn lane_of(&self, target_path: &str) -> &TellLane {
        // There are 1 to 16 lanes: no narrowing, and never out of range.
        &self.lanes[usize::from(Lane::of_target(target_path, self.lanes.len() as u8))]
    }
}

/// Takes a unit off the budget of the task that is running, without waiting: the tell is sent, and a call
/// that is dropped must have sent nothing.
fn use_up_unit() {
    let unit = pin!(coop::consume_budget());
    let _ = unit.poll(&mut Context::from_waker(Waker::noop()));
}

fn refusal<T>(refused: Refused, message: T) -> SendError<T> {
    match refused {
        Refused::Full(scope) => SendError::Full { message, scope },
        // Said to nobody but who waits.
        Refused::Ahead => SendError::Full { message, scope: BudgetScope::Lane },
        Refused::Closed => SendError::ShuttingDown(message),
        Refused::Quarantined => SendError::Quarantined(message),
        Refused::Frame(FrameError::TooLarge { len, .. }) => SendError::TooLarge { message, len },
        Refused::Frame(error) => SendError::Encode { message, error: error.to_string() },
    }
}

/// One peer, for those who send to it often: a tell through it formats no address and looks up no
/// map. Made by [`ClusterTransport::peer`](crate::ClusterTransport::peer); clones are cheap.
///
/// It does not keep the transport alive: after a shutdown everything sent through it comes back as
/// [`SendError::ShuttingDown`].
#[derive(Clone)]
pub struct Peer(pub(crate) Arc<PeerCore>);

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({})", self.0.address)
    }
}

impl Peer {
    /// Where the peer is.
    pub fn address(&self) -> &Address {
        &self.0.address
    }

    /// Sends a tell: encodes it into its lane's queue and returns. Never blocks or waits. Connects
    /// to the peer where there is no association yet.
    ///
    /// # Errors
    /// The tell comes back: [`Full`](SendError::Full) when a budget is used up,
    /// [`TooLarge`](SendError::TooLarge), [`Quarantined`](SendError::Quarantined), or [`ShuttingDown`](SendError::ShuttingDown).
    pub fn tell<T: Tell>(&self, tell: T) -> Result<(), SendError<T>> {
        self.0.push(tell)
    }

    /// Sends a tell, waiting while its lane is full, or while more than 1 MiB of it waits for a
    /// connection that takes 100 MB/s: who can wait need not be further ahead.
    ///
    /// Calls that wait for the same lane are served in order of their coming, and before later ones. A
    /// loop of calls that never wait yields to the runtime now and then, as tokio's own do.
    ///
    /// There is no limit to the wait: a connected peer whose sink blocks keeps it waiting for as long as it
    /// blocks. Put one on it where that matters.
    ///
    /// Cancel-safe: a dropped call has sent nothing.
    ///
    /// # Errors
    /// As [`tell`](Self::tell), but never `Full`; [`Quarantined`](SendError::Quarantined) and
    /// [`ShuttingDown`](SendError::ShuttingDown) end a wait too.
    pub async fn tell_when_ready<T: Tell>(&self, tell: T) -> Result<(), SendError<T>> {
        if !coop::has_budget_remaining() {
            coop::consume_budget().await;
        }
        let core = &*self.0;
        let parts = tell.as_tell();
        let lane = core.lane_of(parts.target_path);
        if lane.turn.available_permits() > 0 || !lane.short.load(Ordering::Relaxed) {
            match core.push_in(lane, &parts, Patience::Waits) {
                Ok(()) => return Ok(()),
                Err(Refused::Full(_) | Refused::Ahead) => {}
                Err(refused) => return Err(refusal(refused, tell)),
            }
        }
        // Few come here, and a call that need not wait is to be small.
        let pushed = Box::pin(core.push_in_turn(lane, &parts)).await;
        pushed.map_err(|refused| refusal(refused, tell))
    }

    /// Sends gossip: latest wins, so it is always taken, and the oldest that waits is dropped where
    /// there is no room. Never blocks or waits.
    ///
    /// # Errors
    /// [`Encode`](SendError::Encode), [`TooLarge`](SendError::TooLarge),
    /// [`ShuttingDown`](SendError::ShuttingDown).
    pub fn send_gossip<G: Serialize + ?Sized>(&self, gossip: &G) -> Result<(), SendError<()>> {
        let wake = self.0.gossip.push(gossip).map_err(|refused| refusal(refused, ()))?;
        if wake == Wake::Driver {
            self.0.wake.notify_one();
        }
        Ok(())
    }

    /// Waits until every tell accepted so far for this peer is acknowledged: its sink has returned.
    /// Waits on while there is no association, until `retention` gives the tells up; and without limit while
    /// the peer is connected and its sink blocks: put a limit on it where that matters. Cancel-safe.
    ///
    /// # Errors
    /// [`FlushError::Lost`] if tells to this peer were reported lost meanwhile.
    pub async fn flush(&self) -> Result<(), FlushError> {
        let core = &*self.0;
        let (until, lost_before) = core.positions();
        for (lane, until) in core.lanes.iter().zip(until) {
            loop {
                let progress = lane.progress.notified();
                tokio::pin!(progress);
                progress.as_mut().enable();
                if lane.positions().0 >= until {
                    break;
                }
                progress.await;
            }
        }
        match core.positions().1 - lost_before {
            0 => Ok(()),
            frames => Err(FlushError::Lost { frames }),
        }
    }

    /// Connects without sending anything, and waits until lanes flow. Waits on over failed attempts,
    /// which [`events`](crate::ClusterTransport::events) and [`stats`](Self::stats) tell of: put a
    /// limit on it. Cancel-safe.
    ///
    /// # Errors
    /// [`PeerError::ShuttingDown`].
    pub async fn connect(&self) -> Result<(), PeerError> {
        let core = &*self.0;
        loop {
            let changed = core.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if core.gossip.is_closed() {
                return Err(PeerError::ShuttingDown);
            }
            {
                let mut status = core.status();
                match status.state.unwrap_or(PeerState::Idle) {
                    PeerState::Connected => return Ok(()),
                    PeerState::Idle => status.connect = true,
                    PeerState::Connecting => {}
                }
            }
            core.wake.notify_one();
            changed.await;
        }
    }

    /// Closes the connection, if there is one. Nothing is lost: what is not acknowledged is resent
    /// over the next one, which is dialled after a moment.
    pub fn disconnect(&self) {
        self.0.status().disconnect = true;
        self.0.wake.notify_one();
    }

    /// Ends all dealings with the peer's present life, as a cluster does with a member that it has downed:
    /// the association is closed, what is pending is reported lost
    /// ([`LostReason::Quarantined`](crate::LostReason::Quarantined)), tells are refused
    /// ([`SendError::Quarantined`]), and so are its connections, until it comes back as another
    /// incarnation. Gossip is still taken, and is what makes this node dial and find that one.
    ///
    /// It outlives the peer's being forgotten (after [`retention`](crate::ConfigBuilder::retention), with nothing
    /// to do), for the last [`max_peers`](crate::ConfigBuilder::max_peers) that were.
    ///
    /// Tells are refused when this returns; the rest follows at once, and is not waited for.
    ///
    /// Returns the incarnation: the one last associated with. `None`, without effect, if there was none
    /// yet. What was already received from it still goes to the sink.
    pub fn quarantine(&self) -> Option<Incarnation> {
        let core = &*self.0;
        let mut status = core.status();
        let incarnation = status.incarnation?;
        // With the lock held: should that life be over, the driver takes it back, and must do so afterwards.
        core.lanes.iter().for_each(TellLane::refuse);
        status.quarantine = Some(incarnation);
        drop(status);
        core.wake.notify_one();
        Some(incarnation)
    }

    pub(crate) fn tells(&self) -> LaneStats {
        self.0.lanes.iter().map(TellLane::stats).fold(LaneStats::default(), |mut sum, lane| {
            sum.add(&lane);
            sum
        })
    }

    /// What the peer has shown and agreed to over the present connection; `None` while there is none.
    pub fn connection(&self) -> Option<ConnectionInfo> {
        self.0.status().link.as_ref().map(|probe| probe.info())
    }

    /// The peer's figures at this moment.
    pub fn stats(&self) -> PeerStats {
        let core = &*self.0;
        let ledger = |(n, lane): (u8, &TellLane)| {
            let (all, pairs) = lane.ledger();
            ((Lane::Tell(n), all), (Lane::Tell(n), pairs))
        };
        let (mut lanes, pairs): (Vec<_>, _) = (0..).zip(core.lanes.iter()).map(ledger).unzip();
        let received = core.inbound.stats();
        let status = core.status();
        let elapsed = |since: Instant| -> Duration { since.elapsed() };
        for (n, stuck) in &status.stuck {
            if let Some((_, lane)) = lanes.get_mut(usize::from(*n)) {
                (lane.stuck_for, lane.stuck_episodes) = (stuck.since.map(elapsed), stuck.episodes);
            }
        }
        let (sent_packets, lost_packets) = status.packets();
        PeerStats {
            address: core.address.clone(),
            state: status.state.unwrap_or(PeerState::Idle),
            incarnation: status.incarnation,
            quarantined: status.quarantined,
            unreachable_for: status.wanted_since.map(elapsed),
            last_error: status.last_error.clone(),
            associations: status.associations,
            certificate_expires: status.certificate_expires,
            ended: status.ended.clone(),
            failed_dials: status.failed_dials.clone(),
            sent_packets,
            lost_packets,
            link: status.link.as_ref().map(|probe| probe.stats()),
            gossip: core.gossip.stats(),
            gossip_received: core.inbound.gossip_received.load(Ordering::Relaxed),
            lanes,
            pairs,
            received,
            session: core.instance.session,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClusterTransport, Config, InProcessNetwork, RecordingSink, gossip_inbox};

    /// A tell is encoded under its lane's lock, 16 MiB of it for milliseconds.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn gossip_waits_for_no_tell_lane_s_lock() {
        let network = InProcessNetwork::new();
        let node = |host| {
            let config = Config::builder("sys").build().unwrap();
            ClusterTransport::in_process(config, &network, host).unwrap()
        };
        let (a, b) = (node("a"), node("b"));
        let (inbox, mut gossip) = gossip_inbox::<u8>(1);
        b.start(inbox, RecordingSink::new()).unwrap();
        let peer = a.peer(b.address()).unwrap();
        // Opens the gossip lane, which is the driver's to do; that looks after the tell lanes too.
        peer.send_gossip(&1_u8).unwrap();
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, gossip.recv()).await.expect("an open lane");
        let held: Vec<_> = peer.0.lanes.iter().map(TellLane::hold).collect();
        let sender = peer.clone();
        let sent = std::thread::spawn(move || sender.send_gossip(&2_u8));
        let heard = tokio::time::timeout(limit, gossip.recv()).await;
        drop(held);
        sent.join().unwrap().unwrap();
        assert_eq!(heard.expect("gossip beside locked lanes").unwrap().message, 2);
    }
}
