//! The writing side of a session: tells, gossip, and the control lane's acknowledgements.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Opening, SIGN_OF_LIFE, Shared};
use crate::control::{Control, GoodbyeReason, stream_header};
use crate::error::AssociationError;
use crate::greet;
use crate::lane::Lane;
use crate::link::{LaneWriter, Link};
use crate::outbound::{Attached, Taken};

/// How long a writer whose lane is full of small segments waits for more to go with the next.
const COALESCE: Duration = Duration::from_millis(1);

pub(super) async fn write_tells<L: Link>(
    shared: &Shared<L>,
    n: u8,
    attached: Attached,
) -> Result<(), AssociationError> {
    shared.greeted.wait().await;
    let id = Lane::Tell(n);
    let mut writer = shared.link.open_lane(id).await?;
    writer.write(stream_header(id, attached.first)).await?;
    let lane = &shared.peer.lanes[usize::from(n)];
    loop {
        match lane.take(attached.epoch) {
            Taken::Chunk { bytes, crowded } => {
                writer.write(bytes).await?;
                if crowded {
                    // Many small segments are slow in quinn, under a lock that gossip needs too.
                    sleep(COALESCE).await;
                }
            }
            Taken::Nothing => lane.ready.notified().await,
            Taken::Closed => return Ok(()),
            Taken::Detached => {
                // The wake-up may have been meant for the writer that took over.
                lane.ready.notify_one();
                return Ok(());
            }
        }
    }
}

pub(super) async fn write_gossip<L: Link>(
    shared: &Shared<L>,
    epoch: u64,
) -> Result<(), AssociationError> {
    shared.greeted.wait().await;
    let mut writer = shared.link.open_lane(Lane::Gossip).await?;
    writer.write(stream_header(Lane::Gossip, 0)).await?;
    let gossip = &shared.peer.gossip;
    loop {
        match gossip.take(epoch) {
            Taken::Chunk { bytes, .. } => writer.write(bytes).await?,
            Taken::Nothing => gossip.ready.notified().await,
            Taken::Detached => {
                gossip.ready.notify_one();
                return Ok(());
            }
            Taken::Closed => return writer.finish().await,
        }
    }
}

/// Writes acknowledgements, coalesced, until it is time to say goodbye; the same ones again as a sign of life.
pub(super) async fn write_control<L: Link>(
    shared: &Shared<L>,
    opening: Opening<L::Writer>,
    mut goodbye: oneshot::Receiver<GoodbyeReason>,
) -> Result<(), AssociationError> {
    let mut writer = match opening {
        Opening::Open(writer) => writer,
        Opening::Answer(accepted) => greet::open_control(&shared.link, &accepted).await?,
    };
    let _ = shared.greeted.set(());
    let inbound = &shared.peer.inbound;
    let delay = shared.node.config.ack_delay;
    let mut acked = Vec::new();
    let mut tick = interval(SIGN_OF_LIFE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Since the last tick.
    let mut wrote = true;
    // What was delivered over an earlier connection may not have been acknowledged there.
    inbound.delivered.notify_one();
    loop {
        let mut sign = false;
        let leaving = tokio::select! {
            biased;
            reason = &mut goodbye => match reason {
                Ok(reason) => Some(reason),
                // The session is over, and nothing was to be said.
                Err(_) => return Ok(()),
            },
            () = inbound.delivered.notified() => None,
            _ = tick.tick() => {
                let quiet = !std::mem::take(&mut wrote);
                if !quiet || !shared.receives.load(Ordering::Relaxed) {
                    continue;
                }
                sign = true;
                None
            }
        };
        if leaving.is_none() && !inbound.ack_is_urgent() {
            tokio::select! {
                () = sleep(delay) => {}
                () = inbound.ack_now.notified() => {}
            }
        }
        let mut buf = BytesMut::new();
        let positions = inbound.positions();
        let refused = |e: crate::error::FrameError| AssociationError::Protocol(e.to_string());
        let news = |position: &&(Lane, u64)| sign || !acked.contains(*position);
        for (lane, next) in positions.iter().filter(news) {
            Control::Ack { lane: *lane, next: *next }.encode(&mut buf).map_err(refused)?;
        }
        if sign && positions.is_empty() {
            // Nothing was received whole: says nothing but that somebody is there.
            Control::Ack { lane: Lane::Tell(0), next: 0 }.encode(&mut buf).map_err(refused)?;
        }
        acked = positions;
        if let Some(reason) = leaving {
            Control::Goodbye { reason }.encode(&mut buf).map_err(refused)?;
        }
        if !buf.is_empty() {
            wrote = true;
            writer.write(buf.freeze()).await?;
        }
        if leaving.is_some() {
            return writer.finish().await;
        }
    }
}
