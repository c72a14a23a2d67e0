//! The greeting: what both sides say and check on the control lane before any payload flows.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::timeout;

use crate::control::{Control, Greeting, Instance, WIRE_VERSION, stream_header};
use crate::error::AssociationError;
use crate::lane::{Lane, MAX_TELL_LANES};
use crate::link::{Backend, Incoming, LaneWriter, Link};
use crate::node::Node;
use crate::peer::PeerCore;
use crate::stream::ControlReader;

/// A link whose peer has greeted and may claim what it claims.
pub(crate) struct Greeted<L: Link> {
    pub(crate) link: L,
    pub(crate) greeting: Greeting,
    pub(crate) reader: ControlReader<L::Reader>,
    /// Our control lane: open already on a link that we dialled.
    pub(crate) writer: Option<L::Writer>,
}

/// This node's greeting to a peer.
pub(crate) fn greeting(node: &Node, peer: &PeerCore, attempt: u64) -> Greeting {
    Greeting {
        version: WIRE_VERSION,
        cluster: node.config.cluster.clone(),
        address: node.address.clone(),
        to: peer.address.clone(),
        instance: peer.instance,
        attempt,
        lanes: node.config.tell_lanes,
        stream_window: node.config.stream_window,
        resume: peer.inbound.resume(),
    }
}

/// Opens our control lane, and says `first` on it.
pub(crate) async fn open_control<L: Link>(
    link: &L,
    first: &Control,
) -> Result<L::Writer, AssociationError> {
    let mut writer = link.open_lane(Lane::Control).await?;
    let mut buf = BytesMut::from(&stream_header(Lane::Control, 0)[..]);
    first.encode(&mut buf).map_err(|e| AssociationError::Protocol(e.to_string()))?;
    writer.write(buf.freeze()).await?;
    Ok(writer)
}

/// Dials `peer` and greets it. Dropping the future closes what there is.
pub(crate) async fn dial<B: Backend>(
    node: &Node,
    backend: &B,
    peer: &Arc<PeerCore>,
    attempt: u64,
) -> Result<Greeted<B::Link>, AssociationError> {
    let limit = node.config.dial_timeout;
    let link = match timeout(limit, backend.dial(&peer.address)).await {
        Ok(link) => CloseOnDrop::new(link?),
        Err(_) => return Err(AssociationError::NoAnswer(limit)),
    };
    let hello = Control::Hello(greeting(node, peer, attempt));
    let exchange = async {
        let writer = open_control(link.link(), &hello).await?;
        let mut reader = ControlReader::open(link.link().accept_lane().await?).await?;
        match reader.next().await? {
            Some(Control::Accepted(greeting)) => Ok((greeting, reader, writer)),
            Some(_) => Err(AssociationError::Protocol("an answer other than `Accepted`".into())),
            None => Err(AssociationError::Protocol("the control lane ended at once".into())),
        }
    };
    // The peer may be dialling us, and answer only when that has failed: a whole limit of its own after
    // it began, which may be a little later than we did.
    let limit = limit + limit / 4;
    let result = async {
        let exchanged = timeout(limit, exchange).await;
        let (greeting, reader, writer) =
            exchanged.map_err(|_| AssociationError::GreetingTimeout(limit))??;
        check(node, &greeting)?;
        if greeting.address != peer.address {
            let text = format!("{} answered in place of {}", greeting.address, peer.address);
            return Err(AssociationError::Claim(text));
        }
        link.link().may_claim(&greeting.address)?;
        Ok((greeting, reader, writer))
    };
    match result.await {
        Ok((greeting, reader, writer)) => {
            Ok(Greeted { link: link.keep(), greeting, reader, writer: Some(writer) })
        }
        Err(error) => {
            let link = link.keep();
            link.close(&error);
            Err(error)
        }
    }
}

/// Completes a connection from somebody up to its `Hello`; whether it is accepted is for the
/// association to say.
pub(crate) async fn receive<I: Incoming>(
    node: &Node,
    incoming: I,
) -> Result<Greeted<I::Link>, AssociationError> {
    let limit = node.config.dial_timeout;
    let link = match timeout(limit, incoming.complete()).await {
        Ok(link) => CloseOnDrop::new(link?),
        Err(_) => return Err(AssociationError::NoAnswer(limit)),
    };
    let hello = async {
        let mut reader = ControlReader::open(link.link().accept_lane().await?).await?;
        match reader.next().await? {
            Some(Control::Hello(greeting)) => Ok((greeting, reader)),
            Some(_) => Err(AssociationError::Protocol("something other than `Hello`".into())),
            None => Err(AssociationError::Protocol("the control lane ended at once".into())),
        }
    };
    let result = async {
        let received = timeout(limit, hello).await;
        let (greeting, reader) =
            received.map_err(|_| AssociationError::GreetingTimeout(limit))??;
        check(node, &greeting)?;
        if greeting.address == node.address {
            return Err(AssociationError::Claim(format!("{} is this node", node.address)));
        }
        link.link().may_claim(&greeting.address)?;
        Ok((greeting, reader))
    };
    let result = result.await;
    let link = link.keep();
    match result {
        Ok((greeting, reader)) => Ok(Greeted { link, greeting, reader, writer: None }),
        Err(error) => {
            link.close(&error);
            Err(error)
        }
    }
}

fn check(node: &Node, greeting: &Greeting) -> Result<(), AssociationError> {
    let ours = &node.config.cluster;
    if greeting.cluster != *ours {
        let theirs: String =
            greeting.cluster.chars().filter(|c| !c.is_control()).take(60).collect();
        return Err(AssociationError::Cluster(format!("`{theirs}`, and this node to `{ours}`")));
    }
    if greeting.to != node.address {
        let text = format!("dialled as {}, but this is {}", greeting.to, node.address);
        return Err(AssociationError::Claim(text));
    }
    if !(1..=MAX_TELL_LANES).contains(&greeting.lanes) {
        return Err(AssociationError::Protocol(format!("{} tell lanes", greeting.lanes)));
    }
    Ok(())
}

/// The peer's positions in our lanes, if they are about this life of ours.
pub(crate) fn resume_for(greeting: &Greeting, ours: Instance, lane: Lane) -> Option<u64> {
    let resume = greeting.resume.as_ref().filter(|resume| resume.of == ours)?;
    resume.next.iter().find(|(named, _)| *named == lane).map(|(_, next)| *next)
}

/// A dial that is given up says so to the peer, which may be parking its own for it.
struct CloseOnDrop<L: Link>(Option<L>);

impl<L: Link> CloseOnDrop<L> {
    fn new(link: L) -> Self {
        Self(Some(link))
    }

    fn link(&self) -> &L {
        match &self.0 {
            Some(link) => link,
            None => unreachable!("taken by `keep` alone, which consumes"),
        }
    }

    fn keep(mut self) -> L {
        match self.0.take() {
            Some(link) => link,
            None => unreachable!("taken here alone"),
        }
    }
}

impl<L: Link> Drop for CloseOnDrop<L> {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.close(&AssociationError::Superseded);
        }
    }
}
