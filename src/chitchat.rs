//! Cluster state and membership by [`chitchat`] (Scuttlebutt reconciliation, a phi accrual
//! failure detector) on the gossip lane (feature `chitchat`).
//!
//! [`ChitchatTransport`] is what `spawn_chitchat` takes in place of its `UdpTransport`. It starts the
//! transport itself, in place of [`ClusterTransport::start`]; tells are sent and received as ever.
//!
//! ```
//! use std::time::Duration;
//! use chitchat::{ChitchatConfig, spawn_chitchat};
//! use cluster_quic::chitchat::ChitchatTransport;
//! use cluster_quic::{ClusterTransport, Config, InProcessNetwork, RecordingSink};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = InProcessNetwork::new();
//! let node = ClusterTransport::in_process(Config::builder("demo").build()?, &network, "10.0.0.1")?;
//! let transport = ChitchatTransport::new(&node, RecordingSink::new())?;
//! let config = ChitchatConfig {
//!     chitchat_id: transport.chitchat_id("node-1"),
//!     listen_addr: transport.address(),
//!     cluster_id: "demo".into(),
//!     gossip_interval: Duration::from_millis(500),
//!     seed_nodes: vec!["10.0.0.2:1".into()],
//!     failure_detector_config: Default::default(),
//!     marked_for_deletion_grace_period: Duration::from_secs(3600),
//!     catchup_callback: None,
//!     extra_liveness_predicate: None,
//! };
//! let handle = spawn_chitchat(config, vec![("color".into(), "red".into())], &transport).await?;
//! handle.shutdown().await?; // and then shut the transport down
//! # Ok(())
//! # }
//! ```
//!
//! # Addresses
//!
//! chitchat knows nodes by socket address, so a node must advertise a numeric IP address, and its
//! certificate name it. All nodes of a cluster have one system name. chitchat resolves seeds that are given
//! by name, to the same effect.
//!
//! # What the gossip lane does to Scuttlebutt
//!
//! A message is up to 64 KiB long, and is not cut into datagrams. Messages to one peer wait in a queue of
//! [`gossip_budget`](crate::ConfigBuilder::gossip_budget) bytes, in which the newest displace the oldest:
//! with the default of 256 KiB at least three of the largest fit, where a node has one exchange of three
//! messages with a peer at a time. A message that is lost is made good by the next exchange, as over UDP.
//! chitchat goes on gossiping to nodes that are dead; what waits for them is bounded likewise.
//!
//! # The version of chitchat
//!
//! 0.11. In 0.12 and 0.13 a message's encoding is no longer public, so that no transport outside of
//! chitchat can carry one.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, ensure};
use async_trait::async_trait;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatId, ChitchatMessage, Deserializable, Serializable};
use serde_bytes::{ByteBuf, Bytes};
use tokio::sync::mpsc;

use crate::address::Address;
use crate::error::{AlreadyStarted, SendError};
use crate::sink::{Gossip, TellSink, gossip_inbox};
use crate::transport::{ClusterTransport, WeakTransport};

/// Messages that wait for the engine; beyond, they wait at their senders.
const INBOX: usize = 64;

/// A [`ClusterTransport`] as chitchat takes it: for one node, and to be opened once.
///
/// It and what it opens do not keep the node alive. When the node has ended, so does chitchat.
pub struct ChitchatTransport {
    transport: WeakTransport,
    own: SocketAddr,
    system: String,
    incarnation: u64,
    packets: std::sync::Mutex<Option<mpsc::Receiver<Gossip<ByteBuf>>>>,
}

impl fmt::Debug for ChitchatTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChitchatTransport({})", self.own)
    }
}

impl ChitchatTransport {
    /// Starts `transport`, with `sink` for its tells: [`ClusterTransport::start`] must not be called as
    /// well.
    ///
    /// # Errors
    /// [`ChitchatError`].
    pub fn new(
        transport: &ClusterTransport,
        sink: impl Into<TellSink>,
    ) -> Result<Self, ChitchatError> {
        let address = transport.address();
        let own =
            socket_address(address).ok_or_else(|| ChitchatError::Name { own: address.clone() })?;
        let (inbox, packets) = gossip_inbox(INBOX);
        transport.start::<ByteBuf>(inbox, sink)?;
        Ok(Self {
            transport: transport.downgrade(),
            own,
            system: address.system().to_owned(),
            incarnation: transport.incarnation().0,
            packets: std::sync::Mutex::new(Some(packets)),
        })
    }

    /// This node's address: chitchat's `listen_addr` and `gossip_advertise_addr`.
    pub fn address(&self) -> SocketAddr {
        self.own
    }

    /// An identity for this node: its generation is the node's incarnation, so that a process that is
    /// started anew is known for another.
    pub fn chitchat_id(&self, node_id: &str) -> ChitchatId {
        ChitchatId::new(node_id.to_owned(), self.incarnation, self.own)
    }
}

fn socket_address(address: &Address) -> Option<SocketAddr> {
    let ip: IpAddr = address.host().parse().ok()?;
    Some(SocketAddr::new(ip, address.port()))
}

#[async_trait]
impl Transport for ChitchatTransport {
    async fn open(&self, listen_addr: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        ensure!(
            listen_addr == self.own,
            "listen_addr is {listen_addr}, but the node's address is {}",
            self.own
        );
        let packets = self.packets.lock().ok().and_then(|mut packets| packets.take());
        Ok(Box::new(Lane {
            transport: self.transport.clone(),
            system: self.system.clone(),
            packets: packets.context("the node's gossip lane is in use by another chitchat")?,
        }))
    }
}

/// The gossip lanes to and from all peers.
struct Lane {
    transport: WeakTransport,
    system: String,
    packets: mpsc::Receiver<Gossip<ByteBuf>>,
}

#[async_trait]
impl Socket for Lane {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let transport = self.transport.upgrade().context("the node has ended")?;
        // As with a datagram: an address that cannot be reached is no fault of the transport's.
        let sent = Address::new(&*self.system, to.ip().to_string(), to.port())
            .map(|to| transport.send_gossip(&to, Bytes::new(&message.serialize_to_vec())));
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(SendError::ShuttingDown(()))) => anyhow::bail!("the node is shutting down"),
            Ok(Err(error)) => tracing::debug!(%to, %error, "message not sent"),
            Err(error) => tracing::debug!(%to, %error, "message not sent"),
        }
        Ok(())
    }

    /// Cancel-safe, as chitchat wants it.
    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            let packet = self.packets.recv().await.context("the node has ended")?;
            let Some(from) = socket_address(&packet.from) else {
                tracing::debug!(peer = %packet.from, "message of a node without a numeric address");
                continue;
            };
            match ChitchatMessage::deserialize(&mut &packet.message[..]) {
                Ok(message) => return Ok((from, message)),
                Err(error) => {
                    tracing::debug!(peer = %packet.from, %error, "not a message of chitchat's")
                }
            }
        }
    }
}

/// Why a node cannot carry chitchat.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChitchatError {
    /// The node advertises a name. chitchat knows nodes by socket address.
    #[error(
        "{own} has a name for a host: chitchat needs a node that advertises a numeric IP address"
    )]
    Name {
        /// The node's address.
        own: Address,
    },
    /// The node was started before.
    #[error(transparent)]
    AlreadyStarted(#[from] AlreadyStarted),
}
