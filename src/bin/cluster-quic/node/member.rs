//! The cluster node itself: transport, daemon, gossip, sink.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atomr_cluster::{
    ClusterDaemonHandle, ClusterEventBus, DaemonConfig, GossipPdu, Member, MemberStatus,
    MembershipState, VectorClock, spawn_daemon,
};
use atomr_core::actor::Address as AtomrAddress;
use cluster_quic::atomr::{JoinError, down_lost_members, join_through};
use cluster_quic::{Address, ClusterTransport, Config, Events, IdentityFiles, gossip_inbox};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};

use super::counter::Counter;
use super::gossip::Gossiping;
use super::sample::Sample;
use crate::failure::Failure;

/// How often the daemon gossips.
const GOSSIP: Duration = Duration::from_millis(500);

/// Gossip that waits for the daemon's task; more waits at the senders.
const INBOX: usize = 1024;

/// Its daemon makes it Up at its first round.
const UP: Duration = Duration::from_secs(10);

/// How long the others are given to hear that this node leaves.
const LEAVING: Duration = Duration::from_secs(5);

/// A node that runs.
pub(crate) struct ClusterNode {
    pub(crate) transport: ClusterTransport,
    daemon: Arc<ClusterDaemonHandle>,
    gossip: Arc<Gossiping>,
    counter: Arc<Counter>,
    own: AtomrAddress,
    /// Seeds that this node has announced itself to: they know it, whether it knows them or not.
    announced: Mutex<HashSet<Address>>,
}

impl ClusterNode {
    /// Starts a node that is a member of a cluster of its own; also returns its events and gossip's round
    /// trips. What is changed in `files` it takes.
    pub(crate) async fn start(
        config: Config,
        files: IdentityFiles,
        down_after: Option<Duration>,
    ) -> Result<(Self, Events, UnboundedReceiver<Duration>), Failure> {
        let identity = files.load().map_err(Failure::wrong)?;
        let transport = ClusterTransport::bind(config, &identity).map_err(Failure::wrong)?;
        // At once: that the certificate expires soon may be the first.
        let events = transport.events();
        transport.watch_identity(files, IdentityFiles::PERIOD).detach();
        let own = AtomrAddress::from(transport.address());
        let gossip = Gossiping::new(transport.clone());
        let daemon = Arc::new(spawn_daemon(
            own.clone(),
            gossip.clone(),
            ClusterEventBus::new(),
            DaemonConfig { gossip_interval: GOSSIP },
        ));
        let (inbox, received) = gossip_inbox(INBOX);
        let (delays_in, delays) = unbounded_channel();
        tokio::spawn(Arc::clone(&gossip).receive(received, daemon.gossip_inbox(), delays_in));
        let counter = Counter::new();
        daemon.join(Member::new(own.clone(), vec![]));
        // Nobody is to hear of it before it is Up: who learns of a member that is Joining repeats that, and
        // the last writer wins.
        let up = async {
            while !is_up(&daemon, &own) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = timeout(UP, up).await;
        transport.start::<GossipPdu>(inbox, Arc::clone(&counter)).map_err(Failure::wrong)?;
        if let Some(after) = down_after {
            down_lost_members(&transport, &daemon, after);
        }
        let announced = Mutex::default();
        let node = Self { transport, daemon, gossip, counter, own, announced };
        let (gossip, daemon, own) =
            (node.gossip.clone(), Arc::downgrade(&node.daemon), node.own.clone());
        tokio::spawn(gossip.probe_members(move || {
            daemon.upgrade().map(|daemon| others(&daemon, &own)).unwrap_or_default()
        }));
        Ok((node, events, delays))
    }

    /// Joins the cluster of `seed`. Cancel-safe.
    pub(crate) async fn join(&self, seed: &Address, within: Duration) -> Result<(), JoinError> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner).insert(seed.clone());
        join_through(&self.transport, &self.daemon, &seed.into(), within).await
    }

    /// The figures of this moment.
    pub(crate) fn sample(&self) -> Sample {
        let (load, others) = self.counter.read();
        let sample = Sample::new(&self.transport.peers(), &self.daemon.snapshot());
        Sample { load, others, gossip_waits: self.gossip.waiting(), ..sample }
    }

    /// Tells the other members that this one leaves, so that they need not find out. They take it off
    /// their lists at their daemons' next round.
    pub(crate) async fn leave(&self) {
        let mut members = others(&self.daemon, &self.own);
        let announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for seed in announced {
            if !members.contains(&seed) {
                members.push(seed);
            }
        }
        let mut state = MembershipState::new();
        let mut own = Member::new(self.own.clone(), vec![]);
        own.status = MemberStatus::Exiting;
        state.add_or_update(own);
        // Of the clocks its own alone, as in `join_through`.
        let mut version = VectorClock::new();
        version.tick(&self.own.to_string());
        let goodbye = GossipPdu::Envelope { from: self.own.to_string(), version, state };
        self.daemon.leave(self.own.clone());
        // Others' envelopes may still call this node Up, and its daemon would repeat it (the last writer
        // wins): it is not heard after this.
        self.gossip.last_word(&members, &goodbye, LEAVING).await;
    }
}

fn is_up(daemon: &ClusterDaemonHandle, own: &AtomrAddress) -> bool {
    let members = daemon.snapshot().state.members;
    members.iter().any(|member| member.address == *own && member.status == MemberStatus::Up)
}

/// The members but this one.
fn others(daemon: &ClusterDaemonHandle, own: &AtomrAddress) -> Vec<Address> {
    let members = daemon.snapshot().state.members.into_iter();
    members
        .filter(|m| m.address != *own)
        .filter_map(|m| Address::try_from(&m.address).ok())
        .collect()
}
