//! Errors, one enum per operation.

mod association;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::address::Address;

pub use association::AssociationError;

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
