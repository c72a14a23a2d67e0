//! A backend's node: accepts connections, and gives every peer a driver.

use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use tokio::sync::mpsc;

use crate::address::Address;
use crate::driver::{Driver, DriverInput};
use crate::error::{AssociationError, PeerError};
use crate::event::Event;
use crate::greet;
use crate::greetings::{Greetings, Place};
use crate::link::{Backend, Incoming, Link};
use crate::node::{Node, Phase};
use crate::peer::PeerCore;
use crate::rotation::warn_of_own;

/// Why a greeting is not waited for any longer.
const TAKEN_AWAY: &str = "its host has more greetings under way than any other, and others wait";

/// Inputs that wait for one driver; their senders wait beyond.
const DRIVER_INBOX: usize = 64;

pub(crate) struct Hub<B: Backend> {
    pub(crate) node: Arc<Node>,
    pub(crate) backend: B,
    inboxes: DashMap<Address, mpsc::Sender<DriverInput<B::Link>>>,
}

impl<B: Backend> Hub<B> {
    /// Starts the node's tasks on its runtime.
    pub(crate) fn start(node: &Arc<Node>, backend: B) {
        let hub = Arc::new(Self { node: Arc::clone(node), backend, inboxes: DashMap::new() });
        let weak = Arc::downgrade(&hub);
        node.set_driver(move |peer| spawn_driver(&weak, peer));
        let weak = Arc::downgrade(&hub);
        node.set_renew(move |identity| match weak.upgrade() {
            Some(hub) => hub.backend.renew(&hub.node.address, &hub.node.config, identity),
            None => Ok(()),
        });
        node.runtime.spawn(warn_of_own(Arc::clone(node)));
        node.runtime.spawn(accept(hub));
    }

    /// Ends the knowledge of a peer that nobody has a handle of; `false` if somebody has.
    /// `held`: how many the caller holds. `nothing_came`: whether the inbox is empty, which is asked when nobody
    /// is left who could put anything into it.
    pub(crate) fn forget(
        &self,
        peer: &Arc<PeerCore>,
        inbox: &mpsc::Sender<DriverInput<B::Link>>,
        held: usize,
        nothing_came: impl Fn() -> bool,
    ) -> bool {
        // The map's own counts too. Under its lock, so that nobody gets another meanwhile.
        let nobody = |_: &Address, known: &Arc<PeerCore>| {
            let nobody = Arc::strong_count(known) == held + 1;
            // What others did before they let go of theirs is seen from here on.
            fence(Ordering::Acquire);
            nobody && nothing_came()
        };
        if self.node.peers.remove_if(&peer.address, nobody).is_none() {
            return false;
        }
        self.inboxes.remove_if(&peer.address, |_, known| known.same_channel(inbox));
        true
    }

    /// Hands a link over to its peer's driver.
    async fn incoming(&self, incoming: B::Incoming, mut place: Place) {
        let remote = incoming.remote();
        let greeted = tokio::select! {
            greeted = greet::receive(&self.node, incoming) => greeted,
            () = place.taken_away() => Err(AssociationError::Refused(TAKEN_AWAY.into())),
        };
        let greeted = match greeted {
            Ok(greeted) => Box::new(greeted),
            // Nobody was refused.
            Err(AssociationError::Superseded) => {
                return tracing::debug!(remote, "a dial was given up");
            }
            Err(error) => return self.node.refused(remote, error),
        };
        let peer = &greeted.greeting.address;
        // Held until the link is handed over: its driver is not forgotten meanwhile.
        let known = self.node.peer(peer);
        let inbox_of = |peer: &Arc<PeerCore>| self.inboxes.get(&peer.address).map(|i| i.clone());
        let inbox = known.as_ref().map(inbox_of);
        let (link, error) = match inbox {
            Ok(Some(inbox)) => match inbox.send(DriverInput::Incoming { remote, greeted }).await {
                Ok(()) => return,
                Err(unsent) => match unsent.0 {
                    DriverInput::Incoming { greeted, .. } => {
                        (greeted.link, AssociationError::ShuttingDown)
                    }
                    _ => return,
                },
            },
            Err(e @ &PeerError::TooMany { .. }) => {
                let error = AssociationError::Refused(e.to_string());
                self.node.refused(remote, error.clone());
                (greeted.link, error)
            }
            Ok(None) | Err(_) => (greeted.link, AssociationError::ShuttingDown),
        };
        link.close(&error);
    }
}

fn spawn_driver<B: Backend>(hub: &Weak<Hub<B>>, peer: Arc<PeerCore>) {
    let Some(hub) = hub.upgrade() else { return };
    let (inbox, inputs) = mpsc::channel(DRIVER_INBOX);
    hub.inboxes.insert(peer.address.clone(), inbox.clone());
    let runtime = hub.node.runtime.clone();
    // Subscribed here: the end waits for all drivers, and this one counts from now on.
    let phase = hub.node.phase.subscribe();
    runtime.spawn(Driver::new(hub, peer, inbox, inputs).run(phase));
}

async fn accept<B: Backend>(hub: Arc<Hub<B>>) {
    let mut phase = hub.node.phase.subscribe();
    let greetings = Greetings::default();
    loop {
        let next = async {
            let incoming = hub.backend.accept().await?;
            // Who waits here holds up the others; the backend sheds what comes beyond its own limit.
            Some((greetings.place(incoming.origin()).await, incoming))
        };
        let next = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| matches!(phase, Phase::Closing { .. })) => break,
            next = next => next,
        };
        match next {
            Some((Some(place), incoming)) => {
                let hub = Arc::clone(&hub);
                tokio::spawn(async move { hub.incoming(incoming, place).await });
            }
            Some((None, incoming)) => incoming.put_off(),
            None => {
                tracing::error!(
                    address = %hub.node.address,
                    "the node's socket has failed: it reaches nobody any more, and nobody reaches it"
                );
                hub.node.emit(Event::SocketFailed);
                break;
            }
        }
    }
    // The drivers say goodbye over the backend, so it goes last.
    drop(phase);
    hub.node.phase.closed().await;
    hub.backend.close().await;
    hub.node.end();
}
