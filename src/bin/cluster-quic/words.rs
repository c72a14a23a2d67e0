//! Events and reasons in words.

use cluster_quic::{Address, AssociationError, Event, LostReason};

use crate::figures::{bytes, thousands};
use crate::report::tame;

/// How an entry is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Good,
    Plain,
    Bad,
}

impl Level {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Plain => "plain",
            Self::Bad => "bad",
        }
    }
}

/// What an event of the transport means to an operator.
pub(crate) fn describe(event: &Event) -> Option<(Level, String)> {
    let (level, text) = say(event)?;
    Some((level, tame(&text)))
}

fn say(event: &Event) -> Option<(Level, String)> {
    Some(match event {
        Event::PeerUp { peer, incarnation } => {
            (Level::Good, format!("connected to {}, incarnation {incarnation}", short(peer)))
        }
        // As it should be, once one of the two has been told to end.
        Event::PeerDown { peer, reason } => {
            let in_order = matches!(
                reason,
                AssociationError::Goodbye | AssociationError::ShuttingDown | AssociationError::Idle
            );
            let level = if in_order { Level::Plain } else { Level::Bad };
            (level, format!("connection to {} ended: {reason}", short(peer)))
        }
        Event::PeerRestarted { peer, old, new } => (
            Level::Plain,
            format!("{} was started anew: incarnation {old} is now {new}", short(peer)),
        ),
        Event::PeerQuarantined { peer, incarnation } => {
            (Level::Bad, format!("{} is quarantined, incarnation {incarnation}", short(peer)))
        }
        Event::DialFailed { peer, error, .. } => {
            (Level::Bad, format!("cannot connect to {}: {error}", short(peer)))
        }
        Event::IncomingRefused { remote, error } => {
            (Level::Bad, format!("connection from {} refused: {error}", host_of(remote)))
        }
        Event::TellsLost { peer, lane, frames, bytes: length, reason } => (
            Level::Bad,
            format!(
                "{} tells ({}) to {} lost in lane {lane}: {}",
                thousands(*frames),
                bytes(*length),
                short(peer),
                lost_because(*reason)
            ),
        ),
        Event::FrameRefused { peer, lane, error } => {
            (Level::Bad, format!("frame of {} in lane {lane} refused: {error}", short(peer)))
        }
        Event::SinkPanicked { peer, lane } => {
            (Level::Bad, format!("the sink panicked on a tell of {} in lane {lane}", short(peer)))
        }
        Event::Missed { events } => {
            (Level::Plain, format!("{} events more than could be shown", thousands(*events)))
        }
        _ => return None,
    })
}

/// In plain words.
pub(crate) fn lost_because(reason: LostReason) -> &'static str {
    match reason {
        LostReason::Expired => "the node could not be reached for too long",
        LostReason::PeerRestarted => "the node was started anew, and may have handled them",
        LostReason::ShutDown => "this node ended before they were acknowledged",
        LostReason::Quarantined => "the node is quarantined",
        _ => "for another reason",
    }
}

/// An address without its scheme, which is the same everywhere.
pub(crate) fn short(address: &Address) -> String {
    let full = address.to_string();
    full.split_once("://").map_or(full.clone(), |(_, rest)| rest.to_owned())
}

/// Without the port, which is another one at each try.
fn host_of(remote: &str) -> &str {
    remote.rsplit_once(':').map_or(remote, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_in_a_line() {
        let peer = "akka.quic://sys@host:1".parse().unwrap();
        let reason = LostReason::Expired;
        let lane = cluster_quic::Lane::Tell(3);
        let event = Event::TellsLost { peer, lane, frames: 1200, bytes: 34_000, reason };
        let (level, text) = describe(&event).unwrap();
        assert_eq!(level, Level::Bad);
        let expected = "1,200 tells (34.0 kB) to sys@host:1 lost in lane tell 3: the node could not be \
                        reached for too long";
        assert_eq!(text, expected);
    }
}
