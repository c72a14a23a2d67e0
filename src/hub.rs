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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime::Handle;
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;
    use crate::association::LinkId;
    use crate::backend::in_process::{InProcessBackend, InProcessNetwork};
    use crate::config::Config;

    const LIMIT: Duration = Duration::from_secs(20);

    fn hub(network: &InProcessNetwork, host: &str) -> Arc<Hub<InProcessBackend>> {
        let address = Address::new("sys", host, 1).unwrap();
        let config = Config::builder("sys").build().unwrap();
        let backend = InProcessBackend::register(network, &address, 1 << 18).unwrap();
        let node = Arc::new(Node::new(address, config, None, Handle::current()));
        Arc::new(Hub { node, backend, inboxes: DashMap::new() })
    }

    #[tokio::test]
    async fn a_peer_is_not_forgotten_while_something_is_on_its_way_to_its_driver() {
        let network = InProcessNetwork::new();
        let (a, b) = (hub(&network, "a"), hub(&network, "b"));
        // Known without a driver; the test is it.
        let peer = b.node.peer(&a.node.address).unwrap();
        let (inbox, mut inputs) = mpsc::channel(1);
        b.inboxes.insert(peer.address.clone(), inbox.clone());
        let waiting =
            DriverInput::Closed { link: LinkId::Dialled(1), reason: AssociationError::TimedOut };
        assert!(inbox.send(waiting).await.is_ok());
        assert!(!b.forget(&peer, &inbox, 1, || inputs.is_empty()), "in the inbox");

        let dialler = Arc::clone(&a);
        let to = a.node.peer(&b.node.address).unwrap();
        let dial = tokio::spawn(async move {
            greet::dial(&dialler.node, &dialler.backend, &to, 1).await.err()
        });
        let incoming = b.backend.accept().await.unwrap();
        let place = Greetings::default().place(incoming.origin()).await.unwrap();
        let hub = Arc::clone(&b);
        let handed_over = tokio::spawn(async move { hub.incoming(incoming, place).await });
        let on_its_way = async {
            while Arc::strong_count(&peer) < 3 {
                yield_now().await;
            }
        };
        timeout(LIMIT, on_its_way).await.expect("whoever hands it over holds the peer");
        assert!(!b.forget(&peer, &inbox, 1, || true), "on its way");

        assert!(matches!(inputs.recv().await, Some(DriverInput::Closed { .. })));
        let greeted = timeout(LIMIT, inputs.recv()).await.expect("handed over");
        assert!(matches!(greeted, Some(DriverInput::Incoming { .. })));
        handed_over.await.unwrap();
        drop(greeted);
        dial.await.unwrap();
        assert!(b.forget(&peer, &inbox, 1, || inputs.is_empty()));
        assert!(b.node.peers.is_empty() && b.inboxes.is_empty());
    }
}
