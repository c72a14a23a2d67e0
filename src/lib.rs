//! A cluster transport over QUIC: the nodes of a cluster (an actor system, a database, anything with
//! gossip membership) share **one connection per pair of nodes**, with a separate stream, a *lane*,
//! for each kind of traffic. A backlog of tells (messages to actors on the other node) never holds up
//! gossip, so a busy node is not taken for a dead one.
//!
//! ```text
//!        node A                   one QUIC connection, mutual TLS                  node B
//!  ┌───────────────┐                                                        ┌────────────────┐
//!  │               │  control  ── greeting, acknowledgements, goodbye ───►  │                │
//!  │ send_gossip ──┼─ gossip   ── latest wins ──────────────────────────►  ─┼─► gossip inbox │
//!  │ tell ─────────┼─ tell 0   ── in order per target, exactly once ────►  ─┼─► sink         │
//!  │ (hash of the  │  tell 1   ── ... ──────────────────────────────────►   │   (a thread    │
//!  │  target path) │  ...                                                   │    per lane)   │
//!  └───────────────┘      and the same lanes from B to A                    └────────────────┘
//! ```
//!
//! * **Gossip** is any `serde` type. It is bounded, the latest wins, and it is never resent.
//! * **Tells** arrive in order per target and exactly once while both processes live, over any number
//!   of connection failures. Each is acknowledged when the receiver's sink has returned, and what
//!   cannot be delivered is reported with its reason ([`Event::TellsLost`]), never dropped in silence.
//! * **Memory** is bounded in bytes: a full lane refuses ([`SendError::Full`] hands the tell back), or
//!   waits ([`Peer::tell_when_ready`]).
//!
//! Start at [`ClusterTransport`]. The in-process backend has the same queues, limits and errors:
//!
//! ```
//! use std::time::Duration;
//! use cluster_quic::{ClusterTransport, Config, InProcessNetwork, RecordingSink, RemoteTell, gossip_inbox};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = InProcessNetwork::new();
//! let config = || Config::builder("demo").build();
//! let a = ClusterTransport::in_process(config()?, &network, "node-a")?;
//! let b = ClusterTransport::in_process(config()?, &network, "node-b")?;
//!
//! // What b receives.
//! let (inbox, mut gossip) = gossip_inbox::<String>(64);
//! let sink = RecordingSink::new();
//! b.start(inbox, sink.clone())?;
//!
//! // a sends; the association comes up by itself.
//! let peer = a.peer(b.address())?;
//! peer.send_gossip("node-a is up")?;
//! peer.tell(RemoteTell {
//!     target_path: "/user/greeter".into(),
//!     manifest: "text".into(),
//!     payload: b"hello".to_vec(),
//!     sender_path: None,
//! })?;
//! peer.flush().await?; // b's sink has returned
//!
//! assert_eq!(gossip.recv().await.unwrap().message, "node-a is up");
//! assert_eq!(sink.records()[0].1.payload, b"hello");
//! assert!(a.shutdown(Duration::from_secs(5)).await.is_clean());
//! # Ok(())
//! # }
//! ```
//!
//! Over the network a node needs an [`Identity`] (certificates from PEM files; [`DevCa`] makes some for
//! development) and [`ClusterTransport::bind`] in place of `in_process`; everything else is the same.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `atomr` (the default one) | `atomr`: the drop-in for atomr-cluster's transports; `default-features = false` does without |
//! | `metrics` | `metrics`: counters and gauges through the `metrics` facade |
//! | `qlog` | `ConfigBuilder::qlog`: a qlog file for each connection |
//! | `foca`, `chitchat` | `foca`, `chitchat`: adapters for these gossip engines |
//! | `custom-socket` | `ClusterTransport::bind_socket`: QUIC over a socket of your own; ties you to quinn's version |
//! | `cli` | the command-line tool `cluster-quic` |
//!
//! # Errors
//!
//! One type for each operation; each variant says what to do, or what was wrong.
//!
//! | of | error | note |
//! |---|---|---|
//! | [`Config::builder`] | [`ConfigError`] | names the setting and its range |
//! | [`Identity`], [`DevCa`] | [`IdentityError`], [`DevCertError`] | name the file and what is wrong with it |
//! | [`ClusterTransport::bind`], [`renew`](ClusterTransport::renew) | [`BindError`] | the socket, the identity, the address; a failed `renew` changes nothing |
//! | [`ClusterTransport::start`] | [`AlreadyStarted`] | |
//! | addresses, [`ClusterTransport::peer`] | [`AddressError`], [`PeerError`] | |
//! | [`Peer::tell`], [`Peer::tell_when_ready`], [`Peer::send_gossip`] | [`SendError`] | hands back the tell that was not accepted |
//! | [`Peer::flush`] | [`FlushError`] | some tells were lost meanwhile |
//! | [`ClusterFrame`] | [`FrameError`] | what is no frame |
//!
//! What happens to an association later is no call's error: why it failed or ended is an [`AssociationError`], in
//! [`Event::PeerDown`], [`Event::DialFailed`], [`Event::IncomingRefused`] and [`PeerStats::last_error`], and tells
//! that were accepted and are lost are [`Event::TellsLost`] and come back by
//! [`dead_letters`](ClusterTransport::dead_letters). [`kind`](AssociationError::kind) names a reason in one word,
//! [`is_misconfiguration`](AssociationError::is_misconfiguration) tells what only a person can mend.
//!
//! # Guides
//!
//! In the package and in the repository, not on these pages: `docs/operations.md` (certificates, networks, containers,
//! what an error means), `docs/settings.md`, `docs/observability.md`, `docs/rotation.md`, `docs/rolling-upgrade.md`,
//! `docs/tool.md`, `docs/wire.md`, `docs/reliability.md`, `docs/architecture.md`.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    feature = "atomr",
    doc = "Users of `atomr-cluster` find the drop-in for its `TcpClusterTransport` in [`atomr`]."
)]

mod address;
#[cfg(test)]
mod architecture;
mod association;
#[cfg(feature = "atomr")]
pub mod atomr;
mod backend;
#[doc(hidden)]
pub mod bench_support;
#[cfg(feature = "chitchat")]
pub mod chitchat;
mod codec;
mod config;
mod congestion;
mod control;
mod dead_letters;
mod delivery;
mod dev_certs;
mod driver;
mod error;
mod event;
#[cfg(feature = "foca")]
pub mod foca;
mod frame;
#[doc(hidden)]
pub mod fuzz_support;
mod greet;
mod greetings;
mod hub;
mod lane;
mod link;
mod log_limit;
mod memory;
#[cfg(feature = "metrics")]
pub mod metrics;
mod node;
mod outbound;
mod peer;
mod rotation;
mod session;
mod sink;
mod stats;
mod stream;
mod tls;
mod transport;
mod wall_clock;

pub use address::{Address, Incarnation, SCHEME};
pub use backend::in_process::InProcessNetwork;
#[cfg(feature = "custom-socket")]
pub use backend::quic::CustomSocket;
pub use config::{Config, ConfigBuilder, Congestion, OnExpiry, Runtime};
pub use dead_letters::DeadLetter;
#[doc(hidden)]
pub use dev_certs::DevCertOptions;
pub use dev_certs::{DevCa, DevCertError, DevCertificate, DevFiles};
pub use error::{
    AddressError, AlreadyStarted, AssociationError, BindError, BudgetScope, ConfigError,
    FlushError, FrameError, PeerError, SendError,
};
pub use event::{CertificateOf, Event, LostReason};
pub use frame::{ClusterFrame, MAX_FRAME, RemoteTell, RemoteTellRef, Tell};
pub use lane::{Lane, MAX_TELL_LANES, UnknownLane};
pub use peer::Peer;
pub use rotation::{IdentityFiles, IdentityWatch};
pub use sink::{Gossip, GossipInbox, RecordingSink, RemoteMessageSink, TellSink, gossip_inbox};
pub use stats::{
    ConnectionInfo, GossipStats, LaneStats, LinkStats, Lost, PairStats, PeerState, PeerStats,
    ReceivedStats, ShutdownReport,
};
pub use tls::{
    CertificateFailure, CertificateProblem, Identity, IdentityError, KeyLog, NameMismatch, Side,
};
pub use transport::{ClusterTransport, Events, WeakTransport};

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The profiles are in order, and need as much memory as the page says.
#[cfg(doctest)]
#[doc = include_str!("../docs/settings.md")]
struct Settings;

/// The sizes are what the configurations give.
#[cfg(doctest)]
#[doc = include_str!("../docs/operations.md")]
struct Operations;
