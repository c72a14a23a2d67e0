//! From `TcpClusterTransport` to QUIC, node by node, while the cluster runs.
//!
//! [`BothTransports`] is a node that speaks both: QUIC to peers whose address is `akka.quic://`, atomr's own
//! TCP to those whose address is `akka.tcp://`. The nodes that are still to be upgraded need not know of it:
//! atomr's TCP transport dials a member's host and port whatever its scheme, and a node that speaks both
//! listens on one port number, TCP and UDP. `docs/rolling-upgrade.md`, in the package and the repository, has the
//! procedure.
//!
//! While TCP is on, a node is as open as atomr's transport makes it: whoever reaches the port can send
//! gossip and tells in anybody's name, and a hostile frame of ten bytes ends the process.
//! [`end_tcp`](BothTransports::end_tcp) turns it off.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use atomr_cluster::{
    ClusterDaemonHandle, GossipPdu, GossipTransport, MemberStatus, MembershipState,
    RemoteMessageSink, TcpClusterTransport, VectorClock,
};
use atomr_core::actor::Address as AtomrAddress;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::SendRemoteError;
use crate::config::Config;
use crate::error::{AddressError, AlreadyStarted, BindError};
use crate::frame::RemoteTell;
use crate::stats::ShutdownReport;
use crate::tls::Identity;
use crate::transport::ClusterTransport;

/// The scheme of `TcpClusterTransport`'s addresses.
const TCP: &str = "akka.tcp";

/// How often it is looked whether a retired address has come back.
const AGAIN: Duration = Duration::from_millis(20);

/// How often a node that is dropped tells its TCP listener to end.
const DROP_TRIES: u32 = 50;

/// How long it is tried to close the TCP port.
const END_WITHIN: Duration = Duration::from_secs(5);

/// A node of an atomr cluster that speaks QUIC and atomr's TCP, for as long as there are nodes that know
/// only the latter.
///
/// Its address is the QUIC one. Its old one, with the same host and port, goes on working: what is sent
/// there arrives here.
///
/// [`shutdown`](Self::shutdown) ends it in order; dropping it ends it at once, and closes the TCP port.
/// TCP connections that others have opened live until they close them.
pub struct BothTransports {
    quic: ClusterTransport,
    tcp: Arc<TcpClusterTransport>,
    /// Where this process reaches its own TCP port.
    listening: SocketAddr,
    tcp_ended: AtomicBool,
    /// Where the TCP listener runs.
    runtime: Handle,
}

impl fmt::Debug for BothTransports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BothTransports({})", self.quic.address())
    }
}

impl BothTransports {
    /// Binds QUIC as [`ClusterTransport::bind`] does, and listens for TCP at the same address and port.
    /// `config` has the system name and the port that the node had for TCP, and where it advertised another
    /// host, that one too. Both ports must be reached at the advertised one (containers, NAT).
    ///
    /// # Errors
    /// [`UpgradeError`]; nothing is left bound.
    pub async fn bind(config: Config, identity: &Identity) -> Result<Self, UpgradeError> {
        let bind = config.bind;
        if bind.port() == 0 {
            return Err(UpgradeError::NoPort);
        }
        let quic = ClusterTransport::bind(config, identity)?;
        let old = tcp_address(&quic);
        let tcp = TcpClusterTransport::with_advertised(old.clone(), bind, old.host.clone());
        if let Err(error) = tcp.listen().await {
            // Dropped, it would free the port a moment later.
            quic.shutdown(Duration::ZERO).await;
            return Err(UpgradeError::Tcp(error));
        }
        let mut listening = bind;
        match bind.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => listening.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => listening.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        let (tcp, runtime) = (Arc::new(tcp), Handle::current());
        Ok(Self { quic, tcp, listening, tcp_ended: AtomicBool::new(false), runtime })
    }

    /// Sets where received gossip and tells go, whichever way they come; once. What comes by TCP and
    /// what comes by QUIC have no order among each other.
    ///
    /// # Errors
    /// [`AlreadyStarted`].
    pub fn start(
        &self,
        inbox: mpsc::UnboundedSender<GossipPdu>,
        sink: Arc<dyn RemoteMessageSink>,
    ) -> Result<(), AlreadyStarted> {
        self.quic.start(inbox.clone(), Arc::clone(&sink))?;
        self.tcp.start(inbox, sink);
        Ok(())
    }

    /// The QUIC side: its address is this node's, and its events, statistics and quarantine are at hand.
    /// [`down_lost_members`](super::down_lost_members) works with it.
    pub fn quic(&self) -> &ClusterTransport {
        &self.quic
    }

    /// This node's address: `akka.quic://`.
    pub fn address(&self) -> AtomrAddress {
        self.quic.address().into()
    }

    /// The address that this node had when it spoke TCP alone.
    pub fn old_address(&self) -> AtomrAddress {
        tcp_address(&self.quic)
    }

    /// A tell, by QUIC or TCP as `target`'s scheme says. By TCP it is best effort: `Ok` says nothing of its
    /// arrival. Call within a tokio runtime: atomr's TCP sends on a task.
    ///
    /// # Errors
    /// [`SendRemoteError`]: another scheme, an `akka.tcp` address after [`end_tcp`](Self::end_tcp), or what
    /// [`ClusterTransport::send_remote`] has.
    pub fn send_remote(
        &self,
        target: &AtomrAddress,
        target_path: String,
        manifest: String,
        payload: Vec<u8>,
        sender_path: Option<String>,
    ) -> Result<(), SendRemoteError> {
        if !self.goes_by_tcp(target) {
            return self.quic.send_remote(target, target_path, manifest, payload, sender_path);
        }
        // atomr's own would dial anything, and leave it at that.
        if target.host.is_none() || target.port.is_none() {
            let error = AddressError::Local { address: target.to_string() };
            let tell = Box::new(RemoteTell { target_path, manifest, payload, sender_path });
            return Err(SendRemoteError::Address { error, tell });
        }
        self.tcp.send_remote(target, target_path, manifest, payload, sender_path);
        Ok(())
    }

    /// Takes the old address out of the cluster, on the other nodes too, whichever transport they speak:
    /// [`retire`](Self::retire) of [`old_address`](Self::old_address). Call it when the node has joined.
    ///
    /// The old process is gone, or it would have the port; and nobody else notices its end.
    pub fn retire_old_address(
        self: &Arc<Self>,
        daemon: &Arc<ClusterDaemonHandle>,
    ) -> JoinHandle<()> {
        self.retire(daemon, self.old_address())
    }

    /// Takes `gone` out of the cluster, on the other nodes too: tells every member that it is down, and again
    /// whenever it comes back by gossip. (atomr's merge takes whatever comes last, so a member that is
    /// downed on one node is brought back by another. That all are told at once is what makes it stay away.)
    ///
    /// Only for an address where nobody lives: one that does is downed as well, again and again.
    ///
    /// The task ends with the daemon, with the transport, or by aborting the handle. Call within a tokio
    /// runtime.
    pub fn retire(
        self: &Arc<Self>,
        daemon: &Arc<ClusterDaemonHandle>,
        gone: AtomrAddress,
    ) -> JoinHandle<()> {
        tokio::spawn(keep_away(Arc::downgrade(self), Arc::downgrade(daemon), gone))
    }

    /// Stops to speak TCP, once no member's address is `akka.tcp` any more: the port is closed, and what
    /// is sent to such an address is refused. Connections that others opened stay until they close them.
    /// Cancel-safe; call again to be sure that the port is closed.
    pub async fn end_tcp(&self) {
        self.tcp_ended.store(true, Ordering::Relaxed);
        let begin = Instant::now();
        // atomr's listener does not hear of its end if somebody connects in the same moment.
        loop {
            self.tcp.shutdown().await;
            sleep(AGAIN).await;
            if TcpStream::connect(self.listening).await.is_err() {
                return;
            }
            if begin.elapsed() > END_WITHIN {
                return tracing::warn!(port = self.listening.port(), "TCP port still open");
            }
            // So that the connection was accepted before the next try.
            sleep(AGAIN).await;
        }
    }

    /// Ends the node within `deadline`: TCP at once, QUIC in order, as [`ClusterTransport::shutdown`] does. The
    /// report is of QUIC alone; TCP counts nothing.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let begin = Instant::now();
        if timeout(deadline, self.end_tcp()).await.is_err() {
            tracing::warn!(port = self.listening.port(), "TCP port may still be open");
        }
        self.quic.shutdown(deadline.saturating_sub(begin.elapsed())).await
    }

    fn goes_by_tcp(&self, target: &AtomrAddress) -> bool {
        target.protocol == TCP && !self.tcp_ended.load(Ordering::Relaxed)
    }
}

impl Drop for BothTransports {
    fn drop(&mut self) {
        // atomr's listener would go on for ever, and it hears of its end only while it waits for somebody to
        // connect. Whether it has cannot be seen: by now the port may be another's.
        let tcp = Arc::clone(&self.tcp);
        self.runtime.spawn(async move {
            for _ in 0..DROP_TRIES {
                tcp.shutdown().await;
                sleep(AGAIN).await;
            }
        });
    }
}

/// Best effort, as the trait has it.
impl GossipTransport for BothTransports {
    fn send(&self, target: &AtomrAddress, pdu: GossipPdu) {
        match self.goes_by_tcp(target) {
            true => self.tcp.send(target, pdu),
            false => self.quic.send(target, pdu),
        }
    }
}

fn tcp_address(quic: &ClusterTransport) -> AtomrAddress {
    let own = quic.address();
    AtomrAddress::remote(TCP, own.system(), own.host(), own.port())
}

async fn keep_away(
    transport: Weak<BothTransports>,
    daemon: Weak<ClusterDaemonHandle>,
    gone: AtomrAddress,
) {
    loop {
        let (Some(transport), Some(daemon)) = (transport.upgrade(), daemon.upgrade()) else {
            return;
        };
        let members = daemon.snapshot().state.members;
        let there = |status| {
            use MemberStatus::{Joining, Leaving, Up, WeaklyUp};
            matches!(status, Joining | WeaklyUp | Up | Leaving)
        };
        let entry = members.iter().find(|member| member.address == gone && there(member.status));
        if let Some(entry) = entry {
            tracing::info!(address = %gone, "retired address is a member: telling all that it is down");
            let mut state = MembershipState::new();
            state.add_or_update(entry.copy_with_status(MemberStatus::Down));
            let from = daemon.address().to_string();
            // No clock: nothing else that it would stand for is in this envelope.
            let envelope = GossipPdu::Envelope { from, version: VectorClock::new(), state };
            for member in members.iter().filter(|member| member.address != gone) {
                match &member.address == daemon.address() {
                    true => daemon.apply_gossip(envelope.clone()),
                    false => GossipTransport::send(&*transport, &member.address, envelope.clone()),
                }
            }
        }
        drop((transport, daemon));
        sleep(AGAIN).await;
    }
}

/// Why a node could not start to speak both.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The configuration leaves the port to the system. It must be the one that the node had for TCP.
    #[error("the port must be the one that the node had for TCP, not 0")]
    NoPort,
    /// QUIC could not be bound.
    #[error(transparent)]
    Quic(#[from] BindError),
    /// The TCP port could not be bound: the old process may still run.
    #[error("TCP port: {0}")]
    Tcp(#[source] io::Error),
}
