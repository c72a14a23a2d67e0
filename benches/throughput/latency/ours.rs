//! This crate's transport, over QUIC and in process.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use cluster_quic::{
    Address, ClusterTransport, DevCa, InProcessNetwork, Peer, RemoteMessageSink, RemoteTellRef,
    gossip_inbox,
};

use super::{Clock, Pinger};
use crate::Error;
use crate::measure::{SET_UP, within};
use crate::ours::{config, identity};

pub(super) struct Ours {
    peer: Peer,
    clock: Arc<Clock>,
    /// Kept alive.
    _nodes: [ClusterTransport; 2],
}

/// There: tells back.
struct Echo {
    clock: Arc<Clock>,
    back: OnceLock<Peer>,
    may_block: bool,
}

/// Here.
struct Returned {
    clock: Arc<Clock>,
    may_block: bool,
}

fn tell<'a>(target_path: &'a str, payload: &'a [u8]) -> RemoteTellRef<'a> {
    RemoteTellRef { target_path, manifest: "bench", payload, sender_path: None }
}

impl RemoteMessageSink for Echo {
    fn deliver(&self, _: &Address, received: RemoteTellRef<'_>) {
        self.clock.arrived();
        if let Some(back) = self.back.get() {
            // What does not come back is found missing.
            let _ = back.tell(tell(received.target_path, received.payload));
        }
    }

    fn may_block(&self) -> bool {
        self.may_block
    }
}

impl RemoteMessageSink for Returned {
    fn deliver(&self, _: &Address, _: RemoteTellRef<'_>) {
        self.clock.returned();
    }

    fn may_block(&self) -> bool {
        self.may_block
    }
}

pub(super) async fn quic(ca: &DevCa, may_block: bool) -> Result<Ours, Error> {
    let identity = identity(ca)?;
    let node = || Ok::<_, Error>(ClusterTransport::bind(config()?, &identity)?);
    between([node()?, node()?], may_block).await
}

pub(super) async fn in_process() -> Result<Ours, Error> {
    let network = InProcessNetwork::new();
    let node = |host| Ok::<_, Error>(ClusterTransport::in_process(config()?, &network, host)?);
    between([node("a")?, node("b")?], true).await
}

async fn between(nodes: [ClusterTransport; 2], may_block: bool) -> Result<Ours, Error> {
    let [here, there] = &nodes;
    let clock = Clock::new();
    let echo = Arc::new(Echo { clock: Arc::clone(&clock), back: OnceLock::new(), may_block });
    let returned = Arc::new(Returned { clock: Arc::clone(&clock), may_block });
    here.start(gossip_inbox::<()>(1).0, returned)?;
    there.start(gossip_inbox::<()>(1).0, Arc::clone(&echo))?;
    let peer = here.peer(there.address())?;
    let _ = echo.back.set(there.peer(here.address())?);
    within(SET_UP, "an association", peer.connect()).await??;
    Ok(Ours { peer, clock, _nodes: nodes })
}

impl Pinger for Ours {
    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn send(&self) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + '_>> {
        let sent = self.peer.tell(tell("/user/echo", &[0x5a; 64])).map_err(|e| e.to_string());
        Box::pin(std::future::ready(sent.map_err(Into::into)))
    }
}
