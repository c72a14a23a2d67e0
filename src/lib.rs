//! cluster-quic

mod address;
mod association;
#[cfg(feature = "atomr")]
pub mod atomr;
mod backend;
mod codec;
mod config;
mod control;
mod delivery;
mod dev_certs;
mod driver;
mod error;
mod event;
mod frame;
mod greet;
mod hub;
mod lane;
mod link;
mod node;
mod outbound;
mod peer;
mod session;
mod sink;
mod stats;
mod stream;
mod tls;
mod transport;

pub use address::{Address, Incarnation, SCHEME};
pub use backend::in_process::InProcessNetwork;
pub use config::{Config, ConfigBuilder, Runtime};
#[doc(hidden)]
pub use dev_certs::DevCertOptions;
pub use dev_certs::{DevCa, DevCertError, DevCertificate, DevFiles};
pub use error::{
    AddressError, AlreadyStarted, AssociationError, BindError, ConfigError, FlushError, FrameError,
    PeerError, SendError,
};
pub use event::{Event, LostReason};
pub use frame::{ClusterFrame, MAX_FRAME, RemoteTell, RemoteTellRef, Tell};
pub use lane::{Lane, MAX_TELL_LANES};
pub use peer::Peer;
pub use sink::{Gossip, GossipInbox, RecordingSink, RemoteMessageSink, TellSink, gossip_inbox};
pub use stats::{
    GossipStats, LaneStats, LinkStats, Lost, PeerState, PeerStats, ReceivedStats, ShutdownReport,
};
pub use tls::{
    CertificateFailure, CertificateProblem, Identity, IdentityError, NameMismatch, Side,
};
pub use transport::{ClusterTransport, Events};
