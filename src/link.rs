//! The seam between associations and what carries them: a backend dials and accepts links, a link
//! opens and accepts lanes, a lane carries whole encoded chunks.
//!
//! Limits, queues, order, acknowledgements and errors all lie above it, so they are the same for
//! every backend.

use std::net::IpAddr;

use bytes::Bytes;

use crate::address::Address;
use crate::config::Config;
use crate::error::{AssociationError, BindError};
use crate::lane::Lane;
use crate::stats::{ConnectionInfo, LinkStats};
use crate::tls::{Certificate, CertificateFailure, CertificateProblem, Identity, Side};

/// A way to reach other nodes, and to be reached.
pub(crate) trait Backend: Send + Sync + 'static {
    type Link: Link;
    type Incoming: Incoming<Link = Self::Link>;

    /// Connects to `peer`: with a handshake that proves both sides' certificates, where the backend
    /// has such. Dropping the future gives the attempt up.
    fn dial(
        &self,
        peer: &Address,
    ) -> impl Future<Output = Result<Self::Link, AssociationError>> + Send;

    /// The next connection from somebody; `None` once closed. Cancel-safe.
    fn accept(&self) -> impl Future<Output = Option<Self::Incoming>> + Send;

    /// New connections are made with `identity` from now on; an error changes nothing.
    /// `own`: the address that it must cover.
    fn renew(&self, own: &Address, config: &Config, identity: &Identity) -> Result<(), BindError>;

    /// Takes nothing more, and waits until closed links' last words are on their way.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// A connection whose handshake is under way.
pub(crate) trait Incoming: Send + 'static {
    type Link: Link;

    /// Who it seems to be, for messages.
    fn remote(&self) -> String;

    /// The host that it comes from, where the backend has such.
    fn origin(&self) -> Option<IpAddr>;

    /// Leaves it unanswered, so that it asks again.
    fn put_off(self);

    /// Completes the handshake.
    fn complete(self) -> impl Future<Output = Result<Self::Link, AssociationError>> + Send;
}

/// A connection between two nodes. Clones are handles of the same one.
pub(crate) trait Link: Clone + Send + Sync + 'static {
    type Writer: LaneWriter;
    type Reader: LaneReader;

    fn open_lane(
        &self,
        lane: Lane,
    ) -> impl Future<Output = Result<Self::Writer, AssociationError>> + Send;

    /// The next stream that the peer opened. Cancel-safe.
    fn accept_lane(&self) -> impl Future<Output = Result<Self::Reader, AssociationError>> + Send;

    /// Closes at once; what was not acknowledged by the peer's transport may be lost.
    fn close(&self, reason: &AssociationError);

    /// Why it ended; waits until it has. Cancel-safe.
    fn closed(&self) -> impl Future<Output = AssociationError> + Send;

    /// Whether the peer may claim this address.
    fn may_claim(&self, address: &Address) -> Result<(), AssociationError>;

    /// The peer reads each of `lanes` tell lanes with `window` bytes unread at most: sees to it that
    /// they cannot use up what gossip needs.
    fn admit(&self, lanes: u8, window: u64) -> Result<(), AssociationError>;

    /// Whether it was made with the identity that the node has now.
    fn is_current(&self) -> bool;

    /// What the peer showed; `None` where the backend has no certificates.
    fn certificate(&self) -> Option<Certificate>;

    /// Whether the CA bundle that the node has now vouches for it. Its dates are as good as they were.
    fn is_trusted(&self) -> Result<(), CertificateFailure>;

    fn stats(&self) -> LinkStats;

    /// What the backend's own handshake has shown; the greeting's part is left at its default.
    fn info(&self) -> ConnectionInfo;

    fn echo(&self) -> Echo;
}

/// What tells whether both ways of a link carry something: counts that grow. All zero where a backend's
/// links break both ways at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Echo {
    /// What was sent that the peer's transport is to acknowledge.
    pub(crate) asked: u64,
    /// What it has acknowledged.
    pub(crate) answered: u64,
    /// Packets from the peer.
    pub(crate) heard: u64,
}

/// A lane to the peer.
pub(crate) trait LaneWriter: Send + 'static {
    /// Hands a chunk over; waits while the peer's window is full. Not cancel-safe: a dropped call
    /// may have written a part.
    fn write(&mut self, chunk: Bytes) -> impl Future<Output = Result<(), AssociationError>> + Send;

    /// Ends the lane, and waits until the peer's transport has all of it.
    fn finish(&mut self) -> impl Future<Output = Result<(), AssociationError>> + Send;
}

/// A lane from the peer.
pub(crate) trait LaneReader: Send + 'static {
    /// Whether a piece may keep more memory than it has bytes, so that it must not wait for long as it is.
    const PINS: bool;

    /// Appends what has arrived to `chunks`, waiting for something; returns `false` at the lane's
    /// end. Cancel-safe: a dropped call has appended nothing, and the next one finds what it would have found.
    fn read(
        &mut self,
        chunks: &mut Vec<Bytes>,
    ) -> impl Future<Output = Result<bool, AssociationError>> + Send;
}

/// The application error code and text that a link is closed with.
pub(crate) fn to_wire(reason: &AssociationError) -> (u32, String) {
    use AssociationError as E;
    match reason {
        E::Goodbye | E::ShuttingDown => (0, String::new()),
        E::Idle => (1, String::new()),
        E::Superseded => (2, String::new()),
        E::Disconnected => (3, String::new()),
        E::GreetingTimeout(_) | E::NoAnswer(_) | E::TimedOut => (4, String::new()),
        E::Protocol(text) => (5, text.clone()),
        E::Version(text) => (6, text.clone()),
        E::Cluster(text) => (7, text.clone()),
        E::Claim(text) => (8, text.clone()),
        E::Stale { claimed, known } => {
            (9, format!("incarnation {claimed} is older than the known {known}"))
        }
        E::Outdated(text) => (9, text.clone()),
        E::Refused(text) => (10, text.clone()),
        E::Quarantined => (12, String::new()),
        E::Certificate(CertificateFailure { problem: CertificateProblem::Expired, .. }) => {
            (13, String::new())
        }
        E::Certificate(_) => (14, String::new()),
        other => (11, other.to_string()),
    }
}

/// What the peer closed a link with.
pub(crate) fn from_wire(code: u64, text: &str) -> AssociationError {
    use AssociationError as E;
    // The peer's words go into our logs: one line, of bounded length.
    let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    match code {
        0 => E::Goodbye,
        1 => E::Idle,
        2 => E::Superseded,
        3 => E::Disconnected,
        4 => E::Refused("it waited too long for our greeting".into()),
        5 => E::Protocol(format!("the peer says: {text}")),
        6 => E::Version(format!("the peer says: {text}")),
        7 => E::Cluster(format!("the peer says: {text}")),
        8 => E::Claim(format!("the peer says: {text}")),
        9 => E::Outdated(text),
        10 => E::Refused(text),
        11 => E::Refused(format!("the peer says: {text}")),
        12 => E::Quarantined,
        13 => refused_by_peer(CertificateProblem::Expired),
        14 => refused_by_peer(CertificateProblem::UnknownIssuer),
        code => E::Refused(format!("code {code} {text}")),
    }
}

/// The peer ended a connection over the certificate that this node had shown on it.
fn refused_by_peer(problem: CertificateProblem) -> AssociationError {
    CertificateFailure { by: Side::Peer, problem, detail: None }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Incarnation;

    #[test]
    fn a_node_hears_that_it_is_the_older_one() {
        let stale = AssociationError::Stale { claimed: Incarnation(4), known: Incarnation(7) };
        let (code, text) = to_wire(&stale);
        assert_eq!(code, 9);
        let heard = from_wire(code.into(), &text);
        assert_eq!((heard.kind(), heard.is_misconfiguration()), ("outdated", true));
        let told = "the peer knows a newer incarnation of this node: incarnation #4 is older than \
                    the known #7";
        assert_eq!(heard.to_string(), told);
        assert_eq!(to_wire(&heard), (code, text));
    }
}
