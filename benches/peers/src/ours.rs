//! This crate's transport over QUIC, with its defaults.

use std::sync::Arc;

use cluster_quic::{
    Address, ClusterTransport, Config, DevCa, Peer, RemoteMessageSink, RemoteTellRef, SendError,
    gossip_inbox,
};
use serde_bytes::{ByteBuf, Bytes};

use crate::Error;
use crate::counter::{Load, target_path};
use crate::subject::{MANIFEST, Probe, Receiver, Sending, Subject};

pub(crate) struct Ours {
    peer: Peer,
    receiver: Arc<Receiver>,
    /// Kept alive.
    _nodes: [ClusterTransport; 2],
}

struct Sink(Arc<Receiver>);

impl RemoteMessageSink for Sink {
    fn deliver(&self, _: &Address, tell: RemoteTellRef<'_>) {
        self.0.tells.record(tell.target_path, tell.payload);
    }
}

impl Ours {
    pub(crate) async fn new(ca: &DevCa) -> Result<Self, Error> {
        let identity = ca.identity(&["127.0.0.1"])?;
        let node = || {
            ClusterTransport::bind(Config::builder("bench").build()?, &identity)
                .map_err(Error::from)
        };
        let (from, to) = (node()?, node()?);
        let receiver = Receiver::new();
        for node in [&from, &to] {
            let (inbox, mut gossip) = gossip_inbox::<ByteBuf>(64);
            node.start(inbox, Arc::new(Sink(Arc::clone(&receiver))))?;
            let receiver = Arc::clone(&receiver);
            tokio::spawn(async move {
                while let Some(gossip) = gossip.recv().await {
                    receiver.hear(&gossip.message);
                }
            });
        }
        let peer = from.peer(to.address())?;
        peer.connect().await?;
        Ok(Self { peer, receiver, _nodes: [from, to] })
    }

    async fn send_all(&self, load: Load) -> Result<(), Error> {
        let target_path = target_path(0);
        let mut payload = vec![0x5a; load.payload];
        for sequence in 0..load.tells {
            payload[..8].copy_from_slice(&sequence.to_le_bytes());
            let tell = RemoteTellRef {
                target_path: &target_path,
                manifest: MANIFEST,
                payload: &payload,
                sender_path: None,
            };
            let sent = match self.peer.tell(tell) {
                Err(SendError::Full { message: tell, .. }) => self.peer.tell_when_ready(tell).await,
                sent => sent,
            };
            sent.map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

impl Subject for Ours {
    fn send(self: Arc<Self>, load: Load) -> Sending {
        Box::pin(async move { self.send_all(load).await })
    }

    fn gossip(&self, probe: Probe) -> Result<(), Error> {
        self.peer.send_gossip(Bytes::new(&probe)).map_err(|e| e.to_string().into())
    }

    fn receiver(&self) -> &Receiver {
        &self.receiver
    }
}
