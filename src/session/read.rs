//! The reading side of a session: the control lane, and the lanes that the peer opens.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{Instrument, Span};

use super::pace::{HOLD_BYTES, Pace, is_enough};
use super::{Shared, spans, work};
use crate::config::Runtime;
use crate::control::{Control, GoodbyeReason};
use crate::delivery::{self, InboundLane, Pushed};
use crate::error::AssociationError;
use crate::frame::next_frame;
use crate::lane::{Lane, MAX_STREAMS};
use crate::link::{LaneReader, Link};
use crate::stream::{ControlReader, Intake};

/// Received bytes that may wait for a lane's sink where they came in; what comes on top is copied. A
/// frame in place keeps a batch of packets of up to 64 KiB, which a lane that stands still would keep for
/// as long.
const PINNED: usize = HOLD_BYTES;

pub(super) async fn read_control<L: Link>(
    shared: &Shared<L>,
    mut reader: ControlReader<L::Reader>,
) -> Result<(), AssociationError> {
    while let Some(message) = reader.next().await? {
        match message {
            Control::Ack { lane: Lane::Tell(n), next } => {
                shared.signs.fetch_add(1, Ordering::Relaxed);
                let lane = shared.peer.lanes.get(usize::from(n));
                let lane = lane.ok_or_else(|| unknown(Lane::Tell(n)))?;
                lane.ack(next).map_err(AssociationError::Protocol)?;
            }
            Control::Ack { lane, .. } => return Err(unknown(lane)),
            Control::Goodbye { reason } => {
                // It waits a moment for what was handled of its tells.
                shared.peer.inbound.ack_soon();
                return Err(match reason {
                    GoodbyeReason::ShutDown => AssociationError::Goodbye,
                    GoodbyeReason::Idle => AssociationError::Idle,
                });
            }
            Control::Hello(_) | Control::Accepted(_) => {
                return Err(AssociationError::Protocol("a second greeting".into()));
            }
        }
    }
    Err(AssociationError::Protocol("the control lane ended without a goodbye".into()))
}

fn unknown(lane: Lane) -> AssociationError {
    AssociationError::Protocol(format!("acknowledges the {lane} lane, which nothing was sent in"))
}

/// Accepts the peer's lanes, each read by a task of its own: one that never sends its header holds up
/// nobody.
pub(super) async fn accept_lanes<L: Link>(shared: Arc<Shared<L>>) -> Result<(), AssociationError> {
    let open = Arc::new(Mutex::new(HashSet::new()));
    let mut readers = JoinSet::new();
    // A lane is opened once; streams that are opened and reset over and over give their credit back.
    for _ in 0..MAX_STREAMS {
        let reader = shared.link.accept_lane().await?;
        let open = Arc::clone(&open);
        let span = spans::receive(&shared.span, None);
        readers.spawn(work(&shared, span, |shared| async move {
            read_lane(&shared, Intake::new(reader), &open).await
        }));
    }
    Err(AssociationError::Protocol("more streams than there are lanes".into()))
}

async fn read_lane<L: Link>(
    shared: &Shared<L>,
    mut intake: Intake<L::Reader>,
    open: &Mutex<HashSet<Lane>>,
) -> Result<(), AssociationError> {
    let limit = shared.node.config.dial_timeout;
    let (lane, first) = timeout(limit, intake.header())
        .await
        .map_err(|_| AssociationError::Protocol(format!("no stream header within {limit:?}")))??;
    spans::name_lane(&Span::current(), lane);
    if !open.lock().unwrap_or_else(PoisonError::into_inner).insert(lane) {
        return Err(AssociationError::Protocol(format!("a second {lane} lane")));
    }
    match lane {
        Lane::Control => Err(AssociationError::Protocol("a second control lane".into())),
        Lane::Gossip => read_gossip(shared, intake).await,
        Lane::Tell(_) => {
            shared.receives.store(true, Ordering::Relaxed);
            read_tells(shared, intake, lane, first).await
        }
    }
}

async fn read_gossip<L: Link>(
    shared: &Shared<L>,
    mut intake: Intake<L::Reader>,
) -> Result<(), AssociationError> {
    let handlers = shared.node.handlers.wait().await;
    while let Some(run) = intake.run().await? {
        for piece in &run.pieces {
            let mut rest = &piece[..];
            while let Some(frame) = next_frame(&mut rest) {
                if let Err(error) = handlers.gossip.receive(&shared.peer.address, frame).await {
                    let (lane, epoch) = (Lane::Gossip, shared.inbound_epoch);
                    let reason = AssociationError::Protocol(format!("{lane} lane: {error}"));
                    shared.peer.report(delivery::Fault::Frame { lane, error, epoch });
                    return Err(reason);
                }
            }
        }
        let received = &shared.peer.inbound.gossip_received;
        received.fetch_add(run.frames, Ordering::Relaxed);
    }
    Ok(())
}

async fn read_tells<L: Link>(
    shared: &Shared<L>,
    mut intake: Intake<L::Reader>,
    id: Lane,
    first: u64,
) -> Result<(), AssociationError> {
    // Before the user has set a sink, tells wait at their sender.
    let handlers = shared.node.handlers.wait().await;
    let inbound = &shared.peer.inbound;
    let Some(lane) = inbound.lane(shared.inbound_epoch, id) else {
        return Err(shared.link.closed().await);
    };
    intake.ask(inbound.large());
    let mut next = first;
    let mut pace = Pace::new(Instant::now());
    let mut kept = KeptBack { shared, lane: &lane, until: None };
    loop {
        let waiting = lane.room(inbound, shared.inbound_epoch).await;
        let run = match kept.until {
            None => intake.run().await?,
            Some(until) => match timeout_at(until, intake.run()).await {
                Ok(run) => run?,
                Err(_) => {
                    kept.deliver();
                    continue;
                }
            },
        };
        let Some(mut run) = run else { return Ok(()) };
        let waiting_then = waiting + run.len;
        let now = Instant::now();
        pace.received(run.len, now);
        if L::Reader::PINS && waiting > PINNED {
            run.compact();
        } else if L::Reader::PINS && run.in_place {
            inbound.settle(&mut run);
        }
        let frames = run.frames;
        let pushed = lane.push(shared.inbound_epoch, next, run);
        next += frames;
        match pushed.map_err(|e| AssociationError::Protocol(e.to_string()))? {
            Pushed::Fenced => {
                // What was taken before is delivered, and waited for by a shutdown.
                drop(kept);
                return Err(shared.link.closed().await);
            }
            Pushed::StartDelivery => {
                let hold = pace.hold(waiting_then, inbound.budget(), now);
                match hold.filter(|_| !handlers.may_call_directly()) {
                    Some(until) => kept.until = Some(until),
                    None => kept.deliver(),
                }
            }
            Pushed::Queued if kept.until.is_some() && is_enough(waiting_then, inbound.budget()) => {
                kept.deliver();
            }
            Pushed::Queued => {}
        }
    }
}

/// A delivery that was to start and is kept back. It starts when its reader ends, too, or is dropped: the
/// lane outlives the connection.
struct KeptBack<'a, L: Link> {
    shared: &'a Shared<L>,
    lane: &'a Arc<InboundLane>,
    until: Option<Instant>,
}

impl<L: Link> KeptBack<'_, L> {
    fn deliver(&mut self) {
        self.until = None;
        start_delivery(self.shared, Arc::clone(self.lane));
    }
}

impl<L: Link> Drop for KeptBack<'_, L> {
    fn drop(&mut self) {
        // Without a runtime the node is gone, and its sink with it.
        if self.until.is_some() && Handle::try_current().is_ok() {
            self.deliver();
        }
    }
}

/// Hands to the sink what waits in the lane, and whatever comes meanwhile: on a thread that the sink may
/// block, or, where it says that it does not, at once. Another thread takes tens of microseconds to wake
/// up, as long as the rest of a tell's way, and at full load competes with the workers for the cores. At
/// once is one read's frames, some 200 kB at most.
fn start_delivery<L: Link>(shared: &Shared<L>, lane: Arc<InboundLane>) {
    let (node, peer) = (Arc::clone(&shared.node), Arc::clone(&shared.peer));
    let deliver = move || {
        let handlers = node.handlers.get()?;
        let report = |fault| peer.report(fault);
        delivery::deliver(&peer.address, &peer.inbound, &lane, &*handlers.sink, &report);
        Some(())
    };
    if shared.node.config.runtime == Runtime::Simulated {
        tokio::spawn(async move { deliver() }.in_current_span());
        return;
    }
    let Some(handlers) = shared.node.handlers.get() else { return };
    if !handlers.may_call_directly() {
        // What the sink says, there too, is said of the lane.
        let span = Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(deliver));
        return;
    }
    let begun = Instant::now();
    deliver();
    handlers.took(begun.elapsed());
}
