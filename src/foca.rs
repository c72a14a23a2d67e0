//! SWIM membership by [`foca`] on the gossip lane (feature `foca`): who is in the cluster, who
//! is new, and who is down, whatever backlog of tells there is.
//!
//! [`Swim::start`] takes the place of [`ClusterTransport::start`]; tells are sent and received as ever.
//!
//! ```
//! use cluster_quic::foca::{Change, Swim, lan};
//! use cluster_quic::{ClusterTransport, Config, InProcessNetwork, RecordingSink};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = InProcessNetwork::new();
//! let config = || Config::builder("demo").build();
//! let a = ClusterTransport::in_process(config()?, &network, "node-a")?;
//! let b = ClusterTransport::in_process(config()?, &network, "node-b")?;
//! let swim_a = Swim::start(&a, RecordingSink::new(), lan(2))?;
//! let swim_b = Swim::start(&b, RecordingSink::new(), lan(2))?;
//! let mut changes = swim_a.changes();
//! swim_b.join([a.address().clone()]);
//! let Some(Change::Up(member)) = changes.recv().await else { panic!("nobody came") };
//! assert_eq!(&member.address, b.address());
//! swim_b.leave().await; // and then shut the transport down
//! # Ok(())
//! # }
//! ```
//!
//! # What the gossip lane does to SWIM
//!
//! SWIM expects datagrams: unordered, lossy, of limited size. The gossip lane is better than that. A
//! packet to one peer waits in a queue of [`gossip_budget`](crate::ConfigBuilder::gossip_budget) bytes
//! (256 KiB), and **displaces others only when that is full**, the oldest first: with packets of 1400
//! bytes, when more than 186 of them wait for one peer. A node sends a peer a handful in each probe period, and they
//! wait only while there is no association or the link stands still, so a ping never displaces an ack.
//! Over an association nothing is lost or reordered; with a connection that breaks, what was on its way is.
//!
//! Packets that waited for a peer that was away reach it late. They say whom they are for and when they
//! were sent, by identity, incarnation and probe number, so foca disregards what is stale.
//!
//! A packet may be longer than the network's: `Config::max_packet_size` limits only how many members
//! foca tells of at a time. It must be the same on all nodes, since foca refuses longer packets than its
//! own, and should be a small part of `gossip_budget`. At 1400, as foca has it, a packet holds about
//! 25 members.
//!
//! # What a member cannot do
//!
//! Packets are taken only from the node that they say they are from, whose certificate was checked. What a
//! member says of *others* is believed, as everywhere in SWIM: members trust each other.
//!
//! # Down, and back
//!
//! A node that was declared down and is alive after all finds out, and comes back with another
//! [`renewal`](NodeId::renewal) of its identity: [`Change::Down`], then [`Change::Replaced`] and
//! [`Change::Up`]. Where a downed life must stay out, call [`Peer::quarantine`](crate::Peer::quarantine)
//! on [`Change::Down`]. Tells are not concerned: they wait for a peer for
//! [`retention`](crate::ConfigBuilder::retention), whatever SWIM says of it.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU32;
use std::time::Duration;

use foca::{Codec, Error, Foca, Header, Notification, PostcardCodec, Runtime, Timer};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

pub use foca::{Config, PeriodicParams};

use crate::address::{Address, Incarnation};
use crate::error::AlreadyStarted;
use crate::sink::{Gossip, TellSink, gossip_inbox};
use crate::transport::{ClusterTransport, WeakTransport};

/// Packets that wait for the engine; beyond, they wait at their senders.
const INBOX: usize = 256;

/// How long a node that leaves waits for its word to be on its way.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// Changes that a subscriber may lag behind.
const CHANGES: usize = 1024;

/// A configuration for a local network with about `nodes` nodes: foca's own `new_lan`. A dead node is
/// down after 4 to 10 seconds with up to ten nodes, and later with more.
pub fn lan(nodes: u32) -> Config {
    Config::new_lan(NonZeroU32::new(nodes).unwrap_or(NonZeroU32::MIN))
}

/// A member: a life of a node, as SWIM tells them apart. The greatest with one address is the present one.
///
/// Not `non_exhaustive`: it travels in every packet, and another field would be another format.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId {
    /// Where the node is.
    pub address: Address,
    /// Which process: that of the node's [`ClusterTransport::incarnation`].
    pub incarnation: Incarnation,
    /// How often the process was declared down and came back.
    pub renewal: u32,
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.address, self.incarnation)?;
        if self.renewal > 0 {
            write!(f, ".{}", self.renewal)?;
        }
        Ok(())
    }
}

impl foca::Identity for NodeId {
    type Addr = Address;

    fn renew(&self) -> Option<Self> {
        Some(Self { renewal: self.renewal.checked_add(1)?, ..self.clone() })
    }

    fn addr(&self) -> Address {
        self.address.clone()
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        (self.incarnation, self.renewal) > (other.incarnation, other.renewal)
    }
}

/// What a node learned of the cluster; received through [`Swim::changes`].
///
/// Its variants are not `non_exhaustive`: what handles changes can be tested with any of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A member is there.
    Up(NodeId),
    /// A member has left, or was found dead.
    Down(NodeId),
    /// A node is known by a new identity: it was started anew, or was down and came back. If it was down
    /// before, [`Up`](Change::Up) follows; if it was up, its old life was not noticed to end.
    Replaced {
        /// What it was known by.
        old: NodeId,
        /// What it is known by from now on.
        new: NodeId,
    },
    /// This node was declared down, and has come back with this identity.
    Rejoined(NodeId),
    /// The subscriber lagged behind, and this many changes before the next one are gone:
    /// [`Swim::members`] has their sum.
    Missed {
        /// How many.
        changes: u64,
    },
}

/// A node's part in a SWIM cluster. [`leave`](Self::leave) ends it in order; dropping it ends it without
/// a word, and the others find out by probing.
///
/// It does not keep the transport alive: it ends with it.
#[derive(Debug)]
pub struct Swim {
    commands: mpsc::UnboundedSender<Command>,
    changes: broadcast::WeakSender<Change>,
    members: watch::Receiver<Vec<NodeId>>,
}

#[derive(Debug)]
enum Command {
    Join(Vec<Address>),
    Leave(oneshot::Sender<()>),
}

impl Swim {
    /// Starts the engine, on a task of the current runtime, and the transport, with `sink` for its tells:
    /// [`ClusterTransport::start`] must not be called as well. The node is alone until it
    /// [joins](Self::join), or is joined by, another.
    ///
    /// # Errors
    /// [`AlreadyStarted`]: the transport was.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        transport: &ClusterTransport,
        sink: impl Into<TellSink>,
        config: Config,
    ) -> Result<Self, AlreadyStarted> {
        let (inbox, packets) = gossip_inbox(INBOX);
        transport.start::<ByteBuf>(inbox, sink)?;
        let identity = NodeId {
            address: transport.address().clone(),
            incarnation: transport.incarnation(),
            renewal: 0,
        };
        // Which members are probed first: different on each node, and no secret.
        let mut seed = DefaultHasher::new();
        identity.hash(&mut seed);
        let rng = SmallRng::seed_from_u64(seed.finish());
        let (commands, receiver) = mpsc::unbounded_channel();
        let (changes, _) = broadcast::channel(CHANGES);
        let (view, members) = watch::channel(Vec::new());
        let swim = Self { commands, changes: changes.downgrade(), members };
        let retry = config.probe_period;
        let engine = Engine {
            foca: Foca::new(identity, config, rng, PostcardCodec),
            outlet: Outlet {
                transport: transport.downgrade(),
                changes,
                timers: Timers::default(),
                changed: false,
                mute: false,
            },
            view,
            seeds: Vec::new(),
            retry,
            said_too_large: false,
        };
        tokio::spawn(engine.run(receiver, packets));
        Ok(swim)
    }

    /// Joins the cluster that one of `seeds` belongs to; one that is up is enough, and a node's own address
    /// among them does not matter. Returns at once. Whenever the node has no members, at first or since
    /// it has lost them all, it asks the seeds of all calls again, once in a probe period.
    pub fn join(&self, seeds: impl IntoIterator<Item = Address>) {
        // Fails if the engine has ended with the transport, and then there is nothing to join with.
        let _ = self.commands.send(Command::Join(seeds.into_iter().collect()));
    }

    /// The other members, those under suspicion among them; in no order.
    pub fn members(&self) -> Vec<NodeId> {
        self.members.borrow().clone()
    }

    /// What changes from now on.
    pub fn changes(&self) -> Changes {
        Changes(self.changes.upgrade().map(|sender| sender.subscribe()))
    }

    /// Tells some of the others that this node leaves, which tell the rest, and ends. What it said
    /// goes out with [`ClusterTransport::shutdown`], which should come next.
    ///
    /// Cancel-safe: the node leaves all the same.
    pub async fn leave(self) {
        let (done, left) = oneshot::channel();
        if self.commands.send(Command::Leave(done)).is_ok() {
            let _ = left.await;
        }
    }
}

/// A subscription to a node's view of the cluster; made by [`Swim::changes`].
#[derive(Debug)]
pub struct Changes(Option<broadcast::Receiver<Change>>);

impl Changes {
    /// The next change; `None` once the node has left or ended. Cancel-safe. Who lags more than 1024
    /// changes behind gets [`Change::Missed`], and goes on with the oldest that is left.
    pub async fn recv(&mut self) -> Option<Change> {
        match self.0.as_mut()?.recv().await {
            Ok(change) => Some(change),
            Err(broadcast::error::RecvError::Lagged(changes)) => Some(Change::Missed { changes }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

struct Engine {
    foca: Foca<NodeId, PostcardCodec, SmallRng, foca::NoCustomBroadcast>,
    outlet: Outlet,
    view: watch::Sender<Vec<NodeId>>,
    seeds: Vec<Address>,
    retry: Duration,
    said_too_large: bool,
}

impl Engine {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut packets: mpsc::Receiver<Gossip<ByteBuf>>,
    ) {
        let mut again = Instant::now();
        let mut heard = 0;
        loop {
            if self.foca.num_members() > 0 || self.seeds.is_empty() {
                again = Instant::now() + self.retry;
            }
            let due = self.outlet.timers.next();
            // What was received comes before what is overdue: after a pause an ack may be there, and must
            // not be found missing. But not a flood of it.
            if due.is_none_or(|at| at > Instant::now()) {
                heard = 0;
            }
            let mut timer_s_turn = heard >= INBOX;
            if !timer_s_turn {
                tokio::select! {
                    biased;
                    command = commands.recv() => match command {
                        Some(Command::Join(seeds)) => {
                            add_new(&mut self.seeds, seeds);
                            self.ask_seeds();
                        }
                        Some(Command::Leave(done)) => {
                            self.leave().await;
                            let _ = done.send(());
                            return;
                        }
                        None => return,
                    },
                    packet = packets.recv() => match packet {
                        Some(packet) => {
                            heard += 1;
                            self.receive(&packet);
                        }
                        None => return,
                    },
                    () = wait_until(due) => timer_s_turn = true,
                    () = sleep_until(again), if !self.seeds.is_empty() => {
                        again = Instant::now() + self.retry;
                        self.ask_seeds();
                    }
                }
            }
            if timer_s_turn {
                heard = 0;
                if let Some(timer) = self.outlet.timers.pop() {
                    self.remind(timer);
                }
            }
        }
    }

    fn remind(&mut self, timer: Timer<NodeId>) {
        // When a suspicion's time is up, foca 2.0 tells the member that it is down, even if it has refuted
        // the suspicion, and it would renew itself for nothing. So it is told only if it is down.
        self.outlet.mute = matches!(timer, Timer::ChangeSuspectToDown { .. });
        let result = self.foca.handle_timer(timer, &mut self.outlet);
        self.outlet.mute = false;
        self.handled(result);
    }

    /// Says so, and waits for a moment until that is on its way: to a member without an association
    /// yet, too.
    async fn leave(&mut self) {
        let members: Vec<_> =
            self.foca.iter_members().map(|member| member.id().address.clone()).collect();
        let result = self.foca.leave_cluster(&mut self.outlet);
        self.handled(result);
        let waits = |transport: &ClusterTransport| {
            let queued =
                |address| transport.peer_stats(address).map_or(0, |peer| peer.gossip.queued);
            members.iter().any(|address| queued(address) > 0)
        };
        let begin = Instant::now();
        while begin.elapsed() < LEAVE_WITHIN {
            match self.outlet.transport.upgrade() {
                Some(transport) if waits(&transport) => {}
                _ => return,
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn ask_seeds(&mut self) {
        let Some(transport) = self.outlet.transport.upgrade() else { return };
        for seed in self.seeds.clone() {
            // Not again before the last one is gone: a seed that is away for hours is to be asked once.
            let waits = transport.peer_stats(&seed).is_some_and(|peer| peer.gossip.queued > 0);
            if waits || &seed == transport.address() {
                continue;
            }
            // An announcement is for an address, whatever lives there.
            let anyone = NodeId { address: seed, incarnation: Incarnation(0), renewal: 0 };
            let result = self.foca.announce(anyone, &mut self.outlet);
            self.handled(result);
        }
    }

    fn receive(&mut self, packet: &Gossip<ByteBuf>) {
        let header: Result<Header<NodeId>, _> = PostcardCodec.decode_header(&packet.message[..]);
        if let Ok(header) = header
            && header.src.address != packet.from
        {
            tracing::debug!(peer = %packet.from, claimed = %header.src, "packet in another's name");
            return;
        }
        match self.foca.handle_data(&packet.message, &mut self.outlet) {
            Err(Error::DataTooBig) if !self.said_too_large => {
                self.said_too_large = true;
                let bytes = packet.message.len();
                tracing::warn!(peer = %packet.from, bytes, "packet refused: its max_packet_size is larger");
            }
            result => self.handled(result),
        }
    }

    fn handled(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            tracing::debug!(%error, "SWIM");
        }
        if std::mem::take(&mut self.outlet.changed) {
            let members = self.foca.iter_members().map(|member| member.id().clone());
            self.view.send_replace(members.collect());
        }
    }
}

/// However often somebody joins: a seed is asked once.
fn add_new(seeds: &mut Vec<Address>, more: Vec<Address>) {
    for seed in more {
        if !seeds.contains(&seed) {
            seeds.push(seed);
        }
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Where foca's doings go.
struct Outlet {
    transport: WeakTransport,
    changes: broadcast::Sender<Change>,
    timers: Timers,
    changed: bool,
    /// Nothing is sent unless a member turns out to be down.
    mute: bool,
}

impl Runtime<NodeId> for Outlet {
    fn notify(&mut self, notification: Notification<'_, NodeId>) {
        let change = match notification {
            Notification::MemberUp(member) => Change::Up(member.clone()),
            Notification::MemberDown(member) => {
                self.mute = false;
                Change::Down(member.clone())
            }
            Notification::Rename(old, new) => {
                Change::Replaced { old: old.clone(), new: new.clone() }
            }
            Notification::Rejoin(identity) => Change::Rejoined(identity.clone()),
            Notification::Active | Notification::Idle | Notification::Defunct => return,
        };
        tracing::debug!(?change, "membership");
        self.changed = true;
        // Nobody need listen.
        let _ = self.changes.send(change);
    }

    fn send_to(&mut self, to: NodeId, data: &[u8]) {
        if self.mute {
            return;
        }
        let Some(transport) = self.transport.upgrade() else { return };
        if let Err(error) = transport.send_gossip(&to.address, Bytes::new(data)) {
            tracing::debug!(peer = %to.address, %error, "packet not sent");
        }
    }

    fn submit_after(&mut self, event: Timer<NodeId>, after: Duration) {
        self.timers.push(Instant::now() + after, event);
    }
}

/// What foca is to be reminded of, the next first; at the same time in foca's own order, and then in that
/// of submission.
#[derive(Default)]
struct Timers {
    heap: BinaryHeap<Due>,
    submitted: u64,
}

struct Due {
    at: Instant,
    submitted: u64,
    timer: Timer<NodeId>,
}

impl Timers {
    fn push(&mut self, at: Instant, timer: Timer<NodeId>) {
        self.submitted += 1;
        self.heap.push(Due { at, submitted: self.submitted, timer });
    }

    fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|due| due.at)
    }

    fn pop(&mut self) -> Option<Timer<NodeId>> {
        self.heap.pop().map(|due| due.timer)
    }
}

impl Ord for Due {
    /// Reversed, since the heap's greatest comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        let timers = || other.timer.cmp(&self.timer);
        let submitted = || other.submitted.cmp(&self.submitted);
        other.at.cmp(&self.at).then_with(timers).then_with(submitted)
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_that_are_given_again_and_again_are_kept_once() {
        let seed = |port| Address::new("engines", "h", port).unwrap();
        let mut seeds = Vec::new();
        for _ in 0..100 {
            add_new(&mut seeds, vec![seed(1), seed(2), seed(1)]);
        }
        assert_eq!(seeds, [seed(1), seed(2)]);
    }
}
