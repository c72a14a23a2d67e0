//! Where received messages go: the user's sink for tells, and an inbox for gossip.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::address::Address;
use crate::error::FrameError;
use crate::frame::{self, RemoteTell, RemoteTellRef};

/// Takes the tells that arrive.
///
/// Called on blocking threads, one at a time per peer and lane, in the order of sending per target
/// path; lanes call concurrently. They are tokio's, of which a runtime has 512 unless it is built with
/// more (4096 in a runtime of the transport's own): as many calls can block at a time.
///
/// A sink that sends holds a [`Peer`](crate::Peer) or a [`WeakTransport`](crate::WeakTransport): the
/// node holds the sink, and with a `ClusterTransport` in it would never end by being dropped.
///
/// A tell is acknowledged to its sender when the call returns, so
/// whoever must not lose a tell handles it before. A call that blocks delays its lane, and after the
/// lane's buffers are full its sender: nothing else. A panic is caught and reported
/// ([`Event::SinkPanicked`](crate::Event::SinkPanicked)), and counts as a return.
pub trait RemoteMessageSink: Send + Sync + 'static {
    /// Takes one tell. It borrows from the receive buffer: copy what is to be kept.
    fn deliver(&self, from: &Address, tell: RemoteTellRef<'_>);

    /// Whether a call of [`deliver`](Self::deliver) may wait: for a lock that is held for long, for room
    /// in a queue, for a disk. `true` unless a sink says otherwise.
    ///
    /// A sink that only puts the tell into an unbounded or lossy queue may say `false`. Tells are then
    /// handed over where they are received, without a thread's waking up, which saves about half of a
    /// single tell's delay, and at full load up to a quarter of the time. Asked once, by [`start`](crate::ClusterTransport::start). A sink that says `false`
    /// and blocks holds up everything on its worker of the runtime, gossip too, but only once: after a
    /// call of more than 20 ms a warning is logged, and threads are used from then on.
    fn may_block(&self) -> bool {
        true
    }
}

/// A sink that keeps all it gets, for tests.
#[derive(Debug, Default)]
pub struct RecordingSink {
    records: Mutex<Vec<(Address, RemoteTell)>>,
}

impl RecordingSink {
    /// An empty one, ready to be shared.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// What has arrived, in order of arrival.
    pub fn records(&self) -> Vec<(Address, RemoteTell)> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How much has arrived.
    pub fn len(&self) -> usize {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nothing has arrived.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl RemoteMessageSink for RecordingSink {
    fn deliver(&self, from: &Address, tell: RemoteTellRef<'_>) {
        let record = (from.clone(), tell.to_owned());
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }
}

/// A sink in the form that [`start`](crate::ClusterTransport::start) takes; made by `into()` from an
/// `Arc` of any [`RemoteMessageSink`], and with the feature `atomr` from an
/// `Arc<dyn atomr_cluster::RemoteMessageSink>`.
#[derive(Clone)]
pub struct TellSink(pub(crate) Arc<dyn RemoteMessageSink>);

impl TellSink {
    /// Says that its calls never block, as [`may_block`](RemoteMessageSink::may_block) does for a sink of one's
    /// own: for `atomr-cluster`'s, whose trait has no such method, when all that they do is to put a tell
    /// into a mailbox.
    ///
    /// ```
    /// # use cluster_quic::{RecordingSink, TellSink};
    /// let sink = TellSink::from(RecordingSink::new()).never_blocks();
    /// ```
    #[must_use]
    pub fn never_blocks(self) -> Self {
        Self(Arc::new(NeverBlocks(self.0)))
    }
}

struct NeverBlocks(Arc<dyn RemoteMessageSink>);

impl RemoteMessageSink for NeverBlocks {
    fn deliver(&self, from: &Address, tell: RemoteTellRef<'_>) {
        self.0.deliver(from, tell);
    }

    fn may_block(&self) -> bool {
        false
    }
}

impl fmt::Debug for TellSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TellSink")
    }
}

impl<S: RemoteMessageSink> From<Arc<S>> for TellSink {
    fn from(sink: Arc<S>) -> Self {
        Self(sink)
    }
}

impl From<Arc<dyn RemoteMessageSink>> for TellSink {
    fn from(sink: Arc<dyn RemoteMessageSink>) -> Self {
        Self(sink)
    }
}

/// Gossip as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gossip<G> {
    /// The peer whose connection it came on: authenticated, whatever the message says.
    pub from: Address,
    /// The message.
    pub message: G,
}

/// Where received gossip of type `G` goes; made by [`gossip_inbox`], or by `into()` from a tokio
/// sender of `G` (such as `atomr-cluster`'s daemon gives).
pub struct GossipInbox<G>(Inbox<G>);

enum Inbox<G> {
    Bounded(mpsc::Sender<Gossip<G>>),
    Plain(mpsc::UnboundedSender<G>),
}

impl<G> fmt::Debug for GossipInbox<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GossipInbox")
    }
}

/// An inbox that holds up to `capacity` gossip messages (at least 1). While it is full the peers'
/// gossip lanes wait, and at their senders newer gossip displaces older: so what waits is bounded on
/// both sides, and the latest arrives.
pub fn gossip_inbox<G>(capacity: usize) -> (GossipInbox<G>, mpsc::Receiver<Gossip<G>>) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    (GossipInbox(Inbox::Bounded(sender)), receiver)
}

/// The receiver decides how much it holds: an unbounded channel is not bounded here either.
impl<G> From<mpsc::UnboundedSender<G>> for GossipInbox<G> {
    fn from(sender: mpsc::UnboundedSender<G>) -> Self {
        Self(Inbox::Plain(sender))
    }
}

/// A gossip inbox whose type is erased, since lanes carry bytes.
pub(crate) trait GossipReceiver: Send + Sync + 'static {
    /// Decodes one frame and hands it over; waits where the inbox is full.
    fn receive<'a>(&'a self, from: &'a Address, frame: &'a [u8]) -> Handover<'a>;
}

pub(crate) type Handover<'a> =
    std::pin::Pin<Box<dyn Future<Output = Result<(), FrameError>> + Send + 'a>>;

impl<G: DeserializeOwned + Send + 'static> GossipReceiver for GossipInbox<G> {
    fn receive<'a>(&'a self, from: &'a Address, frame: &'a [u8]) -> Handover<'a> {
        Box::pin(async move {
            // The user's code, on a worker: its panic must not take the lane with it.
            let message = catch_unwind(AssertUnwindSafe(|| frame::decode_gossip(frame)))
                .unwrap_or_else(|_| Err(FrameError::Decode("its decoding panicked".into())))?;
            // A receiver that is gone wants no more gossip: no fault of the peer's.
            match &self.0 {
                Inbox::Bounded(sender) => {
                    let _ = sender.send(Gossip { from: from.clone(), message }).await;
                }
                Inbox::Plain(sender) => {
                    let _ = sender.send(message);
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_sink_changes_nothing_else() {
        let records = RecordingSink::new();
        let sink = TellSink::from(Arc::clone(&records));
        assert!(sink.0.may_block());
        let sink = sink.never_blocks();
        assert!(!sink.0.may_block());
        let tell =
            RemoteTellRef { target_path: "/t", manifest: "m", payload: &[7], sender_path: None };
        let from: Address = "akka.quic://s@h:1".parse().unwrap();
        sink.0.deliver(&from, tell);
        assert_eq!(records.records(), [(from, tell.to_owned())]);
    }
}
