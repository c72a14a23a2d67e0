//! Why an association could not be had, or ended.

use std::time::Duration;

use crate::address::Incarnation;
use crate::tls::CertificateFailure;

/// Why an association could not be had, or ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssociationError {
    /// The host name has no usable address.
    #[error("cannot resolve `{host}`: {reason}")]
    #[non_exhaustive]
    Resolve {
        /// The host.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// No answer in time: nobody there, or UDP is blocked on the way.
    #[error("no answer within {0:?}: nobody listens there, or UDP is blocked on the way")]
    NoAnswer(Duration),
    /// The peer answered the handshake, but its greeting did not come in time.
    #[error("no greeting within {0:?}")]
    GreetingTimeout(Duration),
    /// One side refused the other's certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateFailure),
    /// The peer speaks another version of the protocol.
    #[error("the peer speaks another wire version: {0}")]
    Version(String),
    /// The peer belongs to another cluster.
    #[error("the peer belongs to another cluster: {0}")]
    Cluster(String),
    /// The address claimed in the greeting is not covered by the certificate, or not the one dialled.
    #[error("claimed address refused: {0}")]
    Claim(String),
    /// An incarnation older than the one known.
    #[error("incarnation {claimed} of the peer is older than the known {known}")]
    #[non_exhaustive]
    Stale {
        /// What was claimed.
        claimed: Incarnation,
        /// What is known.
        known: Incarnation,
    },
    /// The peer knows a newer incarnation of this node: its clock went back over a restart, or another
    /// process has its address. What the peer says of it.
    #[error("the peer knows a newer incarnation of this node: {0}")]
    Outdated(String),
    /// The node that dialled or was dialled has quarantined this incarnation of the other: only a
    /// restart helps.
    #[error("quarantined, until it comes back as another incarnation")]
    Quarantined,
    /// A frame or message that breaks the protocol.
    #[error("protocol violation: {0}")]
    Protocol(String),
    /// The peer refused, for a reason of its own.
    #[error("refused by the peer: {0}")]
    Refused(String),
    /// Nothing was heard for the idle timeout: crash, partition, or power loss.
    #[error("nothing heard from the peer for the idle timeout")]
    TimedOut,
    /// The peer was heard, but acknowledged nothing for about the idle timeout: one way of the path is
    /// cut.
    #[error("the peer is heard, but does not hear this node: one way of the path is cut")]
    Unheard,
    /// The connection stands, but tells have waited for so long, and the peer neither acknowledged any nor gave
    /// another sign that it reads them. One whose sink only blocks does.
    #[error("the peer takes no notice of tells: no acknowledgement and no sign of life for {0:?}")]
    Unresponsive(Duration),
    /// The peer's process is gone and a new one, which does not know the connection, has its port.
    #[error("the peer's process was replaced (stateless reset)")]
    Reset,
    /// The peer said goodbye: a clean shutdown.
    #[error("the peer shut down")]
    Goodbye,
    /// Closed since nothing was sent for `idle_release`; the next send opens it again.
    #[error("released after being idle")]
    Idle,
    /// Closed by [`disconnect`](crate::Peer::disconnect), on one side or the other.
    #[error("disconnected on request")]
    Disconnected,
    /// Another connection of the same pair took its place. As the reason of failed dials, over and over: the
    /// peer knows later dials of this node, which was started again with an
    /// [incarnation](crate::ConfigBuilder::incarnation) that is not greater.
    #[error("superseded by another connection of the same pair")]
    Superseded,
    /// This node shuts down.
    #[error("this node shuts down")]
    ShuttingDown,
    /// The connection failed otherwise.
    #[error("connection failed: {0}")]
    Connection(String),
}

impl AssociationError {
    /// The variant's name in snake case: one of a few fixed words, for labels of metrics (`reason`) and
    /// attributes of spans (`error.type`), where the message with its details does not belong.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "resolve",
            Self::NoAnswer(_) => "no_answer",
            Self::GreetingTimeout(_) => "greeting_timeout",
            Self::Certificate(_) => "certificate",
            Self::Version(_) => "version",
            Self::Cluster(_) => "cluster",
            Self::Claim(_) => "claim",
            Self::Stale { .. } => "stale",
            Self::Outdated(_) => "outdated",
            Self::Quarantined => "quarantined",
            Self::Protocol(_) => "protocol",
            Self::Refused(_) => "refused",
            Self::TimedOut => "timed_out",
            Self::Unheard => "unheard",
            Self::Unresponsive(_) => "unresponsive",
            Self::Reset => "reset",
            Self::Goodbye => "goodbye",
            Self::Idle => "idle",
            Self::Disconnected => "disconnected",
            Self::Superseded => "superseded",
            Self::ShuttingDown => "shutting_down",
            Self::Connection(_) => "connection",
        }
    }

    /// Whether this is an association's orderly end, on which nothing is to be done.
    pub fn is_orderly(&self) -> bool {
        matches!(
            self,
            Self::Goodbye | Self::Idle | Self::Disconnected | Self::Superseded | Self::ShuttingDown
        )
    }

    /// Whether dialling again soon is pointless: somebody has to change a certificate or a
    /// configuration first.
    pub fn is_misconfiguration(&self) -> bool {
        matches!(
            self,
            Self::Certificate(_)
                | Self::Version(_)
                | Self::Cluster(_)
                | Self::Claim(_)
                | Self::Stale { .. }
                | Self::Outdated(_)
                | Self::Quarantined
        )
    }

    /// The kinds of all [misconfigurations](Self::is_misconfiguration).
    #[cfg(feature = "metrics")]
    pub(crate) const MISCONFIGURED: [&str; 7] =
        ["certificate", "version", "cluster", "claim", "stale", "outdated", "quarantined"];

    /// The kinds for which connections of others are refused.
    #[cfg(feature = "metrics")]
    pub(crate) const REFUSALS: [&str; 13] = [
        "certificate",
        "version",
        "cluster",
        "claim",
        "stale",
        "quarantined",
        "no_answer",
        "greeting_timeout",
        "protocol",
        "refused",
        "timed_out",
        "reset",
        "connection",
    ];
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use super::*;
    use crate::tls::{CertificateProblem, Side};

    #[test]
    fn the_kinds_that_metrics_begin_with_are_those_of_errors() {
        use AssociationError as E;
        let text = String::new;
        let certificate =
            CertificateFailure { by: Side::Us, problem: CertificateProblem::Expired, detail: None };
        let all = [
            E::Resolve { host: text(), reason: text() },
            E::NoAnswer(Duration::ZERO),
            E::GreetingTimeout(Duration::ZERO),
            E::Certificate(certificate),
            E::Version(text()),
            E::Cluster(text()),
            E::Claim(text()),
            E::Stale { claimed: Incarnation(1), known: Incarnation(2) },
            E::Outdated(text()),
            E::Quarantined,
            E::Protocol(text()),
            E::Refused(text()),
            E::TimedOut,
            E::Unheard,
            E::Unresponsive(Duration::ZERO),
            E::Reset,
            E::Goodbye,
            E::Idle,
            E::Disconnected,
            E::Superseded,
            E::ShuttingDown,
            E::Connection(text()),
        ];
        let kinds: Vec<_> = all.iter().map(E::kind).collect();
        let misconfigured = all.iter().filter(|error| error.is_misconfiguration()).map(E::kind);
        assert_eq!(misconfigured.collect::<Vec<_>>(), E::MISCONFIGURED);
        assert!(E::REFUSALS.iter().all(|kind| kinds.contains(kind)));
    }
}
