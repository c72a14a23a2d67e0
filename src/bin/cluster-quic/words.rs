//! Events and reasons in words.

use std::time::SystemTime;

use cluster_quic::{Address, CertificateOf, Event, LostReason};

use crate::certificate::{day, valid_until};
use crate::figures::{bytes, span, thousands};
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
pub(crate) fn describe(event: &Event, now: SystemTime) -> Option<(Level, String)> {
    let (level, text) = say(event, now)?;
    Some((level, tame(&text)))
}

fn say(event: &Event, now: SystemTime) -> Option<(Level, String)> {
    Some(match event {
        Event::PeerUp { peer, incarnation } => {
            (Level::Good, format!("connected to {}, incarnation {incarnation}", short(peer)))
        }
        // As it should be, once one of the two has been told to end.
        Event::PeerDown { peer, reason } => {
            let level = if reason.is_orderly() { Level::Plain } else { Level::Bad };
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
        Event::LaneStuck { peer, lane, stuck_for, pending } => (
            Level::Bad,
            format!(
                "lane {lane} to {} stands still for {}, {} tells wait: the node is alive, so its sink \
                 blocks",
                short(peer),
                span(*stuck_for),
                thousands(*pending)
            ),
        ),
        Event::LaneUnstuck { peer, lane, stuck_for } => (
            Level::Good,
            format!("lane {lane} to {} stood still for {}", short(peer), span(*stuck_for)),
        ),
        Event::CertificateExpiring { whose, at } => {
            let whose = match whose {
                CertificateOf::ThisNode => "this node".into(),
                CertificateOf::Peer(peer) => short(peer),
                _ => "a node".into(),
            };
            let validity = valid_until(*at, now);
            (Level::Bad, format!("the certificate of {whose} is to be renewed: {validity}"))
        }
        Event::IdentityRenewed { fingerprint, expires } => (
            Level::Good,
            format!(
                "this node has another certificate or CA bundle, valid until {}, SHA-256 {:.16}...",
                day(*expires),
                fingerprint
            ),
        ),
        Event::IdentityRejected { reason } => {
            (Level::Bad, format!("the certificate files changed, and are not taken: {reason}"))
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
    use std::time::Duration;

    #[test]
    fn events_are_told_in_a_line() {
        let peer = "akka.quic://sys@host:1".parse().unwrap();
        let reason = LostReason::Expired;
        let lane = cluster_quic::Lane::Tell(3);
        let event = Event::TellsLost { peer, lane, frames: 1200, bytes: 34_000, reason };
        let (level, text) = describe(&event, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(level, Level::Bad);
        let expected = "1,200 tells (34.0 kB) to sys@host:1 lost in lane tell 3: the node could not be \
                        reached for too long";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_an_operator_has_to_act_on_is_told() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let peer: Address = "akka.quic://sys@host:1".parse().unwrap();
        let (lane, minute) = (cluster_quic::Lane::Tell(3), Duration::from_secs(60));
        let day = 24 * 60 * minute;
        let stuck =
            Event::LaneStuck { peer: peer.clone(), lane, stuck_for: minute / 2, pending: 1200 };
        let unstuck = Event::LaneUnstuck { peer: peer.clone(), lane, stuck_for: minute };
        let own = Event::CertificateExpiring { whose: CertificateOf::ThisNode, at: now + 2 * day };
        let theirs = Event::CertificateExpiring { whose: CertificateOf::Peer(peer), at: now - day };
        let renewed = Event::IdentityRenewed {
            fingerprint: "0123456789abcdef".repeat(4),
            expires: now + 30 * day,
        };
        let rejected = Event::IdentityRejected { reason: "key.pem: no \u{1b}[2J PEM".into() };
        for (event, level, expected) in [
            (
                stuck,
                Level::Bad,
                "lane tell 3 to sys@host:1 stands still for 30 s, 1,200 tells wait",
            ),
            (unstuck, Level::Good, "lane tell 3 to sys@host:1 stood still for 1:00 min"),
            (
                own,
                Level::Bad,
                "this node is to be renewed: valid until 2027-01-17 08:00 UTC (2 days",
            ),
            (
                theirs,
                Level::Bad,
                "sys@host:1 is to be renewed: expired on 2027-01-14 08:00 UTC, 24 hours ago",
            ),
            (renewed, Level::Good, "valid until 2027-02-14 08:00 UTC, SHA-256 0123456789abcdef..."),
            (rejected, Level::Bad, "and are not taken: key.pem: no ?[2J PEM"),
        ] {
            let (said, text) = describe(&event, now).unwrap();
            assert_eq!(said, level, "{text}");
            assert!(text.contains(expected), "{text}");
        }
    }
}
