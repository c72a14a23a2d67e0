//! Errors, one enum per operation.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::address::{Address, Incarnation};
use crate::tls::CertificateFailure;

/// An address that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Not of the form `akka.quic://system@host:port`.
    #[error("`{text}` is not an address of the form akka.quic://system@host:port")]
    #[non_exhaustive]
    Malformed {
        /// What was given (shortened).
        text: String,
    },
    /// Another transport's scheme.
    #[error("scheme `{scheme}`: this transport's addresses begin with akka.quic://")]
    #[non_exhaustive]
    Scheme {
        /// The scheme given.
        scheme: String,
    },
    /// System names are 1 to 255 letters, digits, `-`, `_` and `.`.
    #[error("system name `{system}` must be 1 to 255 letters, digits, `-`, `_` or `.`")]
    #[non_exhaustive]
    System {
        /// The name given (shortened).
        system: String,
    },
    /// Neither a DNS name nor an IP address.
    #[error("host `{host}` is neither a DNS name nor an IP address")]
    #[non_exhaustive]
    Host {
        /// The host given (shortened).
        host: String,
    },
    /// A numeric IPv6 address without brackets.
    #[error("an IPv6 address stands in brackets: akka.quic://system@[::1]:4000")]
    Brackets,
    /// Port 0 cannot be reached.
    #[error("port 0 cannot be reached")]
    PortZero,
    /// A wildcard or multicast IP address.
    #[error("{ip} can be bound, not reached: advertise an address that the other nodes can dial")]
    #[non_exhaustive]
    NotReachable {
        /// The address given.
        ip: IpAddr,
    },
    /// No host, or no port: an address that names a system in this process alone.
    #[error("`{address}` has no host and port, so no other node can reach it")]
    #[non_exhaustive]
    Local {
        /// The address given.
        address: String,
    },
}

/// Bytes that are not a frame, or a value that does not become one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Longer than [`MAX_FRAME`](crate::MAX_FRAME).
    #[error("a frame of {len} bytes is over the limit of {max}")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A length prefix of 0.
    #[error("an empty frame")]
    Empty,
    /// An enum tag that this version does not know.
    #[error("unknown frame variant {tag}")]
    UnknownVariant {
        /// The tag.
        tag: u32,
    },
    /// Bytes after the frame's end.
    #[error("{bytes} bytes after the end of the frame's content")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A frame of another lane's kind.
    #[error("{what} in a lane that does not carry it")]
    WrongLane {
        /// What came.
        what: &'static str,
    },
    /// The content cannot be decoded: truncated, a length beyond the limit, text that is not UTF-8.
    #[error("cannot be decoded: {0}")]
    Decode(String),
    /// The content nests deeper than any gossip needs, and might use up the stack.
    #[error("nested deeper than {max} levels")]
    TooDeep {
        /// Levels allowed.
        max: usize,
    },
    /// The content claims more elements of sequences and maps than its bytes can pay for.
    #[error("more elements than the frame has bytes for")]
    TooManyElements,
    /// The elements of the content's sequences and maps would take more memory than twice
    /// [`MAX_FRAME`](crate::MAX_FRAME).
    #[error("elements of more than {} bytes in memory", 2 * crate::MAX_FRAME)]
    TooMuchMemory,
    /// The value's own serialization failed.
    #[error("cannot be encoded: {0}")]
    Encode(String),
}

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value out of its range.
    #[error("{field} is {value}, but must be {must}")]
    #[non_exhaustive]
    OutOfRange {
        /// The setting.
        field: &'static str,
        /// Its value.
        value: String,
        /// The range.
        must: String,
    },
    /// The tell lanes could fill the connection's send window, and gossip would wait for them.
    #[error(
        "tell lanes could hold {needed} bytes of the send window ({lanes} lanes x (window \
         {stream_window} + chunk {chunk}) x 1.5), but only {available} are left for them beside \
         gossip: raise send_window, or lower tell_lanes or stream_window"
    )]
    #[non_exhaustive]
    SendWindow {
        /// What the lanes could hold, in bytes.
        needed: u64,
        /// What they may, in bytes.
        available: u64,
        /// The number of tell lanes.
        lanes: u8,
        /// A lane's window in bytes.
        stream_window: u64,
        /// The largest chunk of small frames, in bytes.
        chunk: u64,
    },
    /// The node's own address cannot be built.
    #[error("the node's own address: {0}")]
    Address(#[from] AddressError),
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The socket could not be opened: the port is in use, the address is not this machine's, …
    #[error("cannot open UDP socket {address}: {source}")]
    #[non_exhaustive]
    Socket {
        /// The address of the socket.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// The configuration does not fit the socket.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] crate::tls::IdentityError),
    /// The node's own certificate does not cover the address that it would advertise, so that every
    /// peer would refuse it.
    #[error("the node would advertise {address}, but {mismatch}")]
    #[non_exhaustive]
    OwnName {
        /// The advertised address.
        address: Address,
        /// What the certificate covers.
        mismatch: crate::tls::NameMismatch,
    },
    /// The folder for qlog files could not be made.
    #[cfg(feature = "qlog")]
    #[error("cannot make the folder {} for qlog files: {source}", folder.display())]
    #[non_exhaustive]
    Qlog {
        /// The folder.
        folder: std::path::PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The runtime's threads could not be started.
    #[error("cannot start the transport's own runtime: {0}")]
    Runtime(std::io::Error),
    /// Called outside a tokio runtime, and no runtime of its own configured.
    #[error("no tokio runtime here: call from within one, or configure Runtime::Dedicated")]
    NoRuntime,
    /// Another node of the in-process network has this address.
    #[error("address {0} is taken by another node of this network")]
    AddressTaken(Address),
}

/// Why a peer cannot be addressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The node's own address: a node keeps no association with itself.
    #[error("{0} is this node's own address")]
    Own(Address),
    /// The limit `max_peers` is reached.
    #[error("{limit} peers are known, which is the limit of max_peers")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The transport shuts down.
    #[error("the transport shuts down")]
    ShuttingDown,
}

/// Whose budget it is that is used up; displays as the setting's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BudgetScope {
    /// What one lane to one peer may hold: other lanes have room.
    Lane,
    /// What all tell lanes to one peer may hold together: other peers have room.
    Peer,
    /// What all tell lanes of the node may hold together.
    Node,
}

impl fmt::Display for BudgetScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lane => "lane_budget",
            Self::Peer => "peer_budget",
            Self::Node => "node_budget",
        })
    }
}

/// A tell (or gossip) that was not accepted; it comes back as it was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The lane's, the peer's or the node's budget is used up: wait ([`tell_when_ready`]), retry, or shed load.
    ///
    /// [`tell_when_ready`]: crate::Peer::tell_when_ready
    #[error("the lane is full: {scope} is used up")]
    #[non_exhaustive]
    Full {
        /// What was to be sent.
        message: T,
        /// Whose budget it is.
        scope: BudgetScope,
    },
    /// The frame would be longer than [`MAX_FRAME`](crate::MAX_FRAME).
    #[error("a frame of {len} bytes is over the limit of {max}", max = crate::frame::MAX_FRAME)]
    #[non_exhaustive]
    TooLarge {
        /// What was to be sent.
        message: T,
        /// The length of its frame in bytes.
        len: usize,
    },
    /// It could not be serialized.
    #[error("cannot be encoded: {error}")]
    #[non_exhaustive]
    Encode {
        /// What was to be sent.
        message: T,
        /// What its serialization said.
        error: String,
    },
    /// The transport shuts down and takes nothing new.
    #[error("the transport shuts down")]
    ShuttingDown(T),
    /// The peer is quarantined, until it comes back as another incarnation.
    #[error("the peer is quarantined")]
    Quarantined(T),
    /// The peer cannot be addressed.
    #[error("{source}")]
    #[non_exhaustive]
    Peer {
        /// What was to be sent.
        message: T,
        /// Why not.
        #[source]
        source: PeerError,
    },
}

impl<T> SendError<T> {
    /// What was to be sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::ShuttingDown(message)
            | Self::Quarantined(message)
            | Self::Full { message, .. }
            | Self::TooLarge { message, .. }
            | Self::Encode { message, .. }
            | Self::Peer { message, .. } => message,
        }
    }

    /// Whether waiting may help.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

/// A flush that could not end with everything acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// Some of it was reported lost; each loss is an [`Event::TellsLost`](crate::Event::TellsLost).
    #[error("{frames} tells were lost while waiting for their acknowledgement")]
    Lost {
        /// Tells to this peer that were reported lost since the call.
        frames: u64,
    },
    /// The peer cannot be addressed.
    #[error(transparent)]
    Peer(#[from] PeerError),
}

/// [`start`](crate::ClusterTransport::start) or
/// [`dead_letters`](crate::ClusterTransport::dead_letters) was called before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("called before: inbox, sink and dead letters' hook are set once")]
#[non_exhaustive]
pub struct AlreadyStarted;

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
