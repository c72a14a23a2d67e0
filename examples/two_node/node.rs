//! A cluster node: the transport, and the atomr daemon that gossips over it.
//!
//! This is the part to copy from.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atomr_cluster::{
    ClusterDaemonHandle, ClusterEventBus, DaemonConfig, Member, MemberStatus, RemoteMessageSink,
    spawn_daemon,
};
use cluster_quic::atomr::{down_lost_members, join_through};
use cluster_quic::{Address, BindError, ClusterTransport, Config, Identity};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::gauge::{self, Heard};
use crate::outcome::{Failure, because};

/// How long a seed may stay silent.
const PATIENCE: Duration = Duration::from_secs(20);

/// The name of the actor system: the same on both nodes, and part of their addresses.
pub(crate) const SYSTEM: &str = "demo";

/// A node that runs. Dropping it ends it.
pub(crate) struct Node {
    pub(crate) transport: ClusterTransport,
    pub(crate) daemon: Arc<ClusterDaemonHandle>,
}

impl Node {
    /// Starts a node. Received tells go to `sink`; received gossip to the daemon, by way of the
    /// gauge, which takes its own probes out.
    pub(crate) fn start(
        listen: SocketAddr,
        identity: &Identity,
        sink: Arc<dyn RemoteMessageSink>,
    ) -> Result<(Self, UnboundedReceiver<Heard>), Failure> {
        let config = Config::builder(SYSTEM).bind(listen).build()?;
        let transport = ClusterTransport::bind(config, identity).map_err(say_what_helps)?;

        let daemon = Arc::new(spawn_daemon(
            transport.address().into(),
            Arc::new(transport.clone()),
            ClusterEventBus::new(),
            DaemonConfig { gossip_interval: Duration::from_millis(200) },
        ));

        // Without a gauge: transport.start(daemon.gossip_inbox(), sink)?;
        let (inbox, heard) = gauge::tap(daemon.gossip_inbox());
        transport.start(inbox, sink)?;

        // The first node of a cluster joins itself; the others do that in `join_through`.
        daemon.join(Member::new(transport.address().into(), vec![]));
        // A daemon learns of dead nodes from nobody else.
        down_lost_members(&transport, &daemon, Duration::from_secs(20));
        Ok((Self { transport, daemon }, heard))
    }

    pub(crate) fn address(&self) -> &Address {
        self.transport.address()
    }

    /// Joins the cluster that `seed` is in. Returns once this node sees both Up; the other one soon
    /// will.
    pub(crate) async fn join(&self, seed: &Address) -> Result<(), Failure> {
        join_through(&self.transport, &self.daemon, &seed.into(), PATIENCE).await?;
        while self.members_up_with(seed).is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// How many members are `Up` in this node's eyes, if both this one and `other` are.
    pub(crate) fn members_up_with(&self, other: &Address) -> Option<usize> {
        let members = self.daemon.snapshot().state.members;
        let up = |address: &Address| {
            members.iter().any(|m| m.status == MemberStatus::Up && m.address == address.into())
        };
        (up(self.address()) && up(other))
            .then(|| members.iter().filter(|m| m.status == MemberStatus::Up).count())
    }
}

/// A node's certificate and what it trusts, as `cargo run --example dev_certs` writes them.
pub(crate) fn load_identity(dir: &Path, name: &str) -> Result<Identity, Failure> {
    let ca = dir.join("ca.pem");
    let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}-key.pem")));
    if let Some(missing) = [&ca, &certificate, &key].into_iter().find(|path| !path.exists()) {
        let to = if dir == Path::new("certs") {
            String::new()
        } else {
            format!(" --dir {}", dir.display())
        };
        let node = match name {
            "node-a" | "node-b" => String::new(),
            name => format!(" {name}=localhost,127.0.0.1"),
        };
        let options = if to.is_empty() && node.is_empty() { "" } else { " --" };
        return Err(because(format_args!(
            "there is no {}; make certificates with\n\n    \
             cargo run --example dev_certs{options}{to}{node}\n",
            missing.display()
        )));
    }
    Ok(Identity::from_pem_files(&certificate, &key, &ca)?)
}

fn say_what_helps(error: BindError) -> Failure {
    match &error {
        BindError::Socket { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
            because(format_args!("{error}; choose another port with --listen"))
        }
        _ => error.into(),
    }
}
