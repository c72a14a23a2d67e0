//! The drop-in for `atomr-cluster`'s transports (feature `atomr`, on by default).
//!
//! [`ClusterTransport`] is an `atomr_cluster::GossipTransport`, `start` takes the sender that a
//! daemon's `gossip_inbox()` gives and any `atomr_cluster::RemoteMessageSink`, and addresses convert
//! both ways. [`join_through`] brings a daemon into a cluster through one member of it, and
//! [`down_lost_members`] tells a daemon of nodes that are gone; nothing else does either. [`upgrade`]
//! brings a cluster from `TcpClusterTransport` to QUIC while it runs.
//!
//! Numeric IPv6 addresses do not work with atomr: its `Address::parse`, which its daemons apply to
//! every gossip message's sender, cannot read them. Advertise a host name that resolves to IPv6.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use atomr_cluster::{
    ClusterDaemonHandle, GossipPdu, GossipTransport, Member, MemberStatus, MembershipState,
    VectorClock,
};
use atomr_core::actor::Address as AtomrAddress;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::address::{Address, SCHEME};
use crate::error::{AddressError, PeerError, SendError};
use crate::frame::{RemoteTell, RemoteTellRef};
use crate::sink::{RemoteMessageSink, TellSink};
use crate::stats::PeerState;
use crate::transport::ClusterTransport;

#[cfg(test)]
mod tests;
pub mod upgrade;

impl From<&Address> for AtomrAddress {
    fn from(address: &Address) -> Self {
        Self::remote(SCHEME, address.system(), address.host(), address.port())
    }
}

impl From<Address> for AtomrAddress {
    fn from(address: Address) -> Self {
        Self::from(&address)
    }
}

/// Fails for an address without host and port, and for another transport's scheme.
impl TryFrom<&AtomrAddress> for Address {
    type Error = AddressError;

    fn try_from(address: &AtomrAddress) -> Result<Self, AddressError> {
        let (Some(host), Some(port)) = (&address.host, address.port) else {
            return Err(AddressError::Local { address: address.to_string() });
        };
        if address.protocol != SCHEME {
            return Err(AddressError::Scheme { scheme: address.protocol.clone() });
        }
        Self::new(address.system.as_str(), host.as_str(), port)
    }
}

impl TryFrom<AtomrAddress> for Address {
    type Error = AddressError;

    fn try_from(address: AtomrAddress) -> Result<Self, AddressError> {
        Self::try_from(&address)
    }
}

/// Best effort, as the trait has it: what cannot be sent is logged. A daemon's gossip to itself is
/// left out.
impl GossipTransport for ClusterTransport {
    fn send(&self, target: &AtomrAddress, pdu: GossipPdu) {
        let to = match Address::try_from(target) {
            Ok(to) => to,
            Err(error) => return not_sent(self, target, &error),
        };
        match self.send_gossip(&to, &pdu) {
            Ok(())
            | Err(
                SendError::ShuttingDown(()) | SendError::Peer { source: PeerError::Own(_), .. },
            ) => {}
            Err(error) => not_sent(self, target, &error),
        }
    }
}

/// At every round of gossip, perhaps: limited as what is said of peers is.
fn not_sent(transport: &ClusterTransport, target: &AtomrAddress, error: &dyn fmt::Display) {
    match transport.node().may_log(std::time::Instant::now()) {
        true => tracing::warn!(%target, %error, "gossip not sent"),
        false => tracing::debug!(%target, %error, "gossip not sent"),
    }
}

/// An `atomr_cluster::RemoteMessageSink` does not learn the sending node.
impl From<Arc<dyn atomr_cluster::RemoteMessageSink>> for TellSink {
    fn from(sink: Arc<dyn atomr_cluster::RemoteMessageSink>) -> Self {
        Self(Arc::new(AtomrSink(sink)))
    }
}

struct AtomrSink(Arc<dyn atomr_cluster::RemoteMessageSink>);

impl RemoteMessageSink for AtomrSink {
    fn deliver(&self, _from: &Address, tell: RemoteTellRef<'_>) {
        self.0.deliver(tell.target_path, tell.manifest, tell.payload, tell.sender_path);
    }
}

impl ClusterTransport {
    /// A tell with the parameters of `TcpClusterTransport::send_remote`; unlike there, the caller
    /// learns of a tell that is not accepted, and gets it back.
    ///
    /// # Errors
    /// [`SendRemoteError`].
    pub fn send_remote(
        &self,
        target: &AtomrAddress,
        target_path: String,
        manifest: String,
        payload: Vec<u8>,
        sender_path: Option<String>,
    ) -> Result<(), SendRemoteError> {
        let tell = RemoteTell { target_path, manifest, payload, sender_path };
        match Address::try_from(target) {
            Ok(to) => self.tell(&to, tell).map_err(|e| SendRemoteError::Send(Box::new(e))),
            Err(error) => Err(SendRemoteError::Address { error, tell: Box::new(tell) }),
        }
    }
}

/// Why [`ClusterTransport::send_remote`] did not accept a tell.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendRemoteError {
    /// The target is not an address of this transport.
    #[error("{error}")]
    Address {
        /// What is wrong with it.
        error: AddressError,
        /// What was to be sent.
        tell: Box<RemoteTell>,
    },
    /// Not accepted.
    #[error(transparent)]
    Send(Box<SendError<RemoteTell>>),
}

/// Makes `daemon` a member of the cluster that `seed` belongs to: joins this node, tells the seed's daemon
/// of it, and asks the seed for what it knows. Returns once gossip flows both ways, which `within` limits. The
/// other members learn of the node by gossip. The first node of a cluster joins itself:
/// `daemon.join(Member::new(own_address, vec![]))`.
///
/// `seed` is the address that the member goes by now: one that a node had before it was upgraded to QUIC still
/// reaches it, but nothing is heard of it any more.
///
/// Joining the seed as a member is not enough: an atomr daemon counts its own clock up at every round,
/// so a seed that does not know this node finds their clocks concurrent, answers with what it knows,
/// and as a rule never asks back (over atomr's own transports just as well). So the seed is sent this
/// node's own entry, as the envelope that it does not ask for. Nor is it made a member here before it has
/// said itself what it is: an entry of this node's making, `Joining` and without roles, would reach the
/// others with the next envelope and win over what they know.
///
/// # Errors
/// [`JoinError`]. All but [`Own`](JoinError::Own) may go better with another call. Cancel-safe.
pub async fn join_through(
    transport: &impl GossipTransport,
    daemon: &ClusterDaemonHandle,
    seed: &AtomrAddress,
    within: Duration,
) -> Result<(), JoinError> {
    let own = daemon.address().clone();
    if *seed == own {
        return Err(JoinError::Own { address: own });
    }
    let was_up = AtomicBool::new(false);
    daemon.join(Member::new(own.clone(), vec![]));
    let (name, from) = (seed.to_string(), own.to_string());
    let heard = || daemon.snapshot().version.versions.get(&name).copied();
    // Not before it is Up: the last writer wins in atomr's merge, and `Joining` would win over it.
    let up = |member: &Member| member.address == own && member.status == MemberStatus::Up;
    let introductions = async {
        let mut last = None;
        // Twice: the first may have been displaced, or lost with a connection that lost a tie; the
        // second goes over one that has carried the seed's answer.
        for _ in 0..2 {
            let entry = loop {
                if let Some(entry) = daemon.snapshot().state.members.into_iter().find(up) {
                    break entry;
                }
                sleep(Duration::from_millis(1)).await;
            };
            was_up.store(true, Ordering::Relaxed);
            let mut state = MembershipState::new();
            state.add_or_update(entry);
            // Of the clocks its own alone: nothing else that they stand for is in this envelope.
            let mut version = VectorClock::new();
            version.tick(&from);
            let envelope = GossipPdu::Envelope { from: from.clone(), version, state };
            GossipTransport::send(transport, seed, envelope);
            let mut asked: Option<Instant> = None;
            while heard() <= last {
                if asked.is_none_or(|at| at.elapsed() >= ASK_AGAIN) {
                    let version = daemon.snapshot().version;
                    let status = GossipPdu::Status { from: from.clone(), version };
                    GossipTransport::send(transport, seed, status);
                    asked = Some(Instant::now());
                }
                sleep(Duration::from_millis(1)).await;
            }
            last = heard();
        }
    };
    timeout(within, introductions).await.map_err(|_| match was_up.load(Ordering::Relaxed) {
        true => JoinError::SeedSilent { seed: seed.clone(), within },
        false => JoinError::NotUp { within },
    })
}

/// How often a seed that does not answer is asked.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Why [`join_through`] did not bring a node into the cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The seed is this node itself, which makes no cluster with others. Nothing was done.
    #[error("{address} is this node's own address: a node joins through another one")]
    #[non_exhaustive]
    Own {
        /// The address.
        address: AtomrAddress,
    },
    /// The node's own daemon did not make it `Up`: it has ended, or has downed this address.
    #[error("this node's own daemon has not made it Up within {within:?}")]
    #[non_exhaustive]
    NotUp {
        /// How long it was waited for.
        within: Duration,
    },
    /// The seed was not heard of in time.
    #[error("no gossip from seed {seed} within {within:?}")]
    #[non_exhaustive]
    SeedSilent {
        /// The seed.
        seed: AtomrAddress,
        /// How long it was waited for.
        within: Duration,
    },
}

/// Downs members of `daemon` whose node could not be reached for `after`, for as long as they cannot.
///
/// An atomr daemon learns of dead nodes from nobody: a killed member stays `Up` until somebody calls
/// `down`. This task does, and [quarantines](crate::Peer::quarantine) the node: should the process live
/// after all, it is refused until it is started anew. It goes by what the transport knows: a member counts as lost from the moment its
/// association ended, or was first tried, without a new one. A member that gossip from another node
/// brings back (the daemon's merge is naive) is downed again, within a few milliseconds at first, until it
/// stays away.
///
/// Opt-in, since it decides by this node's view alone: in a partition each side downs the other. Put
/// `after` well above the idle timeout and the time of a restart.
///
/// The task ends with the daemon, with the transport, or by aborting the handle. Call within a tokio
/// runtime.
pub fn down_lost_members(
    transport: &ClusterTransport,
    daemon: &Arc<ClusterDaemonHandle>,
    after: Duration,
) -> JoinHandle<()> {
    let daemon = Arc::downgrade(daemon);
    tokio::spawn(watch(transport.downgrade(), daemon, after))
}

async fn watch(
    transport: crate::transport::WeakTransport,
    daemon: Weak<ClusterDaemonHandle>,
    after: Duration,
) {
    let period = (after / 4).clamp(Duration::from_millis(20), Duration::from_secs(1));
    let mut lost: HashMap<AtomrAddress, Lost> = HashMap::new();
    loop {
        let settling = |lost: &Lost| lost.downed.is_some_and(|at| at.elapsed() < SETTLING);
        sleep(if lost.values().any(settling) { AGAIN } else { period }).await;
        let (Some(transport), Some(daemon)) = (transport.upgrade(), daemon.upgrade()) else {
            return;
        };
        // By the transport, not by the list of members: one that gossip brings back is no news.
        lost.retain(|address, _| is_lost(&transport, address));
        for member in daemon.snapshot().state.members {
            if !is_lost(&transport, &member.address) {
                continue;
            }
            let lost = lost.entry(member.address.clone()).or_insert_with(Lost::now);
            let alive = matches!(
                member.status,
                MemberStatus::Up | MemberStatus::WeaklyUp | MemberStatus::Leaving
            );
            if alive && lost.since.elapsed() >= after {
                if lost.downed.is_none() {
                    tracing::warn!(member = %member.address, "unreachable for {after:?}: downing it");
                }
                lost.downed = Some(Instant::now());
                // It is out of the cluster whatever it thinks itself, until it is started anew.
                let address = Address::try_from(&member.address).ok();
                if let Some(peer) = address.and_then(|address| transport.peer(&address).ok()) {
                    peer.quarantine();
                }
                daemon.down(member.address);
            }
        }
    }
}

/// How soon a downed member is looked for again: well within a gossip interval, so that most rounds
/// carry it nowhere and its return dies out.
const AGAIN: Duration = Duration::from_millis(5);

/// For how long after a downing it is looked for that often.
const SETTLING: Duration = Duration::from_secs(5);

/// A node that cannot be reached.
struct Lost {
    since: Instant,
    /// When the daemon was last told.
    downed: Option<Instant>,
}

impl Lost {
    fn now() -> Self {
        Self { since: Instant::now(), downed: None }
    }
}

/// Whether the node was wanted and not had, when last heard of. A peer that was released as idle is
/// not lost; one that is not dialled any more since nobody sends to it still is.
fn is_lost(transport: &ClusterTransport, member: &AtomrAddress) -> bool {
    let stats = Address::try_from(member).ok().and_then(|address| transport.peer_stats(&address));
    stats.is_some_and(|peer| match peer.state {
        PeerState::Connected => false,
        PeerState::Connecting => true,
        PeerState::Idle => {
            !matches!(peer.last_error, None | Some(crate::error::AssociationError::Idle))
        }
    })
}
