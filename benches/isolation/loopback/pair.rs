//! Two nodes on 127.0.0.1, and what the one sends to the other.

use std::sync::Arc;
use std::time::Duration;

use cluster_quic::{
    ClusterTransport, Config, DevCa, Peer, RemoteTellRef, Runtime, SendError, gossip_inbox,
};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use super::case::Subject;
use super::places::{Place, Places};
use super::sink::{Sink, TARGETS, target_path};
use super::tcp::Tcp;
use crate::Error;
use crate::probe::{self, Delay, Probe};

const SET_UP: Duration = Duration::from_secs(10);

/// Gossip that waits for the receiving daemon.
const INBOX: usize = 1024;

/// The sending node's view.
#[derive(Clone)]
pub(super) enum Pair {
    Ours {
        peer: Peer,
        /// Kept alive.
        _nodes: [ClusterTransport; 2],
    },
    Tcp(Arc<Tcp>),
}

/// What a pair needs beside its subject.
pub(super) struct Setting<'a> {
    pub(super) ca: &'a DevCa,
    pub(super) places: &'a Places,
    pub(super) place: Place,
    pub(super) sink: Arc<Sink>,
    pub(super) epoch: Instant,
    pub(super) heard: mpsc::UnboundedSender<Delay>,
    /// Bytes that one tell lane takes; the default without.
    pub(super) lane_budget: Option<usize>,
}

impl Pair {
    pub(super) async fn connect(subject: Subject, setting: Setting<'_>) -> Result<Self, Error> {
        match subject {
            Subject::Tcp => Ok(Self::Tcp(Arc::new(Tcp::connect(setting).await?))),
            _ => Self::ours(subject, setting).await,
        }
    }

    async fn ours(subject: Subject, setting: Setting<'_>) -> Result<Self, Error> {
        let Setting { ca, places, place, sink, epoch, heard, lane_budget } = setting;
        let mut config = Config::builder("bench").congestion(subject.congestion());
        if let Some(bytes) = lane_budget {
            config = config.lane_budget(bytes);
        }
        if place == Place::Hogged {
            config = config.runtime(Runtime::Dedicated { threads: 2 });
        }
        let (config, identity) = (config.build()?, ca.identity(&["127.0.0.1"])?);
        // Each is bound in the runtime that it is to be on.
        let bind = |at: &Handle| {
            let _entered = at.enter();
            ClusterTransport::bind(config.clone(), &identity)
        };
        let nodes = [bind(&places.from)?, bind(&places.to)?];
        let (inbox, gossip) = gossip_inbox::<Probe>(INBOX);
        nodes[1].start(inbox, Arc::clone(&sink))?;
        places.daemons[1].spawn(probe::receive(gossip, epoch, heard));
        nodes[0].start(gossip_inbox::<Probe>(1).0, sink)?;
        let peer = nodes[0].peer(nodes[1].address())?;
        timeout(SET_UP, peer.connect()).await??;
        Ok(Self::Ours { peer, _nodes: nodes })
    }

    pub(super) fn gossip(&self, probe: &Probe) {
        match self {
            Self::Ours { peer, .. } => drop(peer.send_gossip(probe)),
            Self::Tcp(tcp) => tcp.gossip(probe),
        }
    }

    /// Tells as fast as it goes, until the end. `full` is told when it goes no faster.
    pub(super) async fn saturate(self, sink: Arc<Sink>, payload: usize, full: Arc<Notify>) {
        match self {
            Self::Ours { peer, .. } => {
                let paths: Vec<_> = (0..TARGETS).map(target_path).collect();
                let payload = vec![0x5a; payload];
                for path in paths.iter().cycle() {
                    let sent = match peer.tell(tell(path, &payload)) {
                        Err(SendError::Full { message: tell, .. }) => {
                            full.notify_one();
                            peer.tell_when_ready(tell).await
                        }
                        sent => sent,
                    };
                    if sent.is_err() {
                        return;
                    }
                }
            }
            Self::Tcp(tcp) => tcp.saturate(&sink, payload, &full).await,
        }
    }

    /// Tells so many, at once; there must be room.
    pub(super) fn queue(&self, tells: usize, payload: usize) -> Result<(), Error> {
        let bytes = vec![0x5a; payload];
        for n in 0..tells {
            let path = target_path(n);
            match self {
                Self::Ours { peer, .. } => {
                    peer.tell(tell(&path, &bytes)).map_err(|error| error.to_string())?;
                }
                Self::Tcp(tcp) => tcp.tell(path, bytes.clone()),
            }
        }
        Ok(())
    }
}

fn tell<'a>(target_path: &'a str, payload: &'a [u8]) -> RemoteTellRef<'a> {
    RemoteTellRef { target_path, manifest: "bench", payload, sender_path: None }
}
