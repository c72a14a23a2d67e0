//! The example conversation, with a real node as A and a stranger as B, and the other way round.
//!
//! The stranger writes what the page has for its side. The node is made to say what the page has for
//! it (tells, gossip, goodbye), and every byte that it writes is held against the page.

use std::net::SocketAddr;
use std::sync::Arc;

use cluster_quic::{
    Address, ClusterFrame, ClusterTransport, Config, CustomSocket, Event, Events, Gossip,
    RecordingSink, Runtime, gossip_inbox,
};
use tokio::sync::mpsc;

use crate::document::{Block, blocks};
use crate::identity::HOST;
use crate::network::{Network, Pipe};
use crate::of_kind;
use crate::peer::{Peer, Talk, within};

/// A's and B's addresses, and their starts.
const ADDRESSES: [&str; 2] = ["akka.quic://demo@127.0.0.1:4400", "akka.quic://demo@127.0.0.1:4401"];
const INCARNATIONS: [u64; 2] = [1_764_150_000_000_000, 1_764_150_000_500_000];

/// The length of a stream's header, and of a frame's prefix.
const HEADER: usize = 9;
const PREFIX: usize = 4;

/// ` ```wire talk 1 A control`: connection, who, lane; and whether the lane begins.
struct Step {
    place: String,
    connection: usize,
    who: usize,
    lane: String,
    bytes: Vec<u8>,
    begins: bool,
}

fn steps() -> Vec<Step> {
    let blocks = blocks();
    let mut steps: Vec<Step> = Vec::new();
    for block in of_kind(&blocks, "talk") {
        let step = step(block);
        let same =
            |s: &Step| (s.connection, s.who, &*s.lane) == (step.connection, step.who, &*step.lane);
        let begins = !steps.iter().any(same);
        steps.push(Step { begins, ..step });
    }
    assert!(steps.len() >= 12, "{} steps", steps.len());
    steps
}

fn step(block: &Block) -> Step {
    let words: Vec<_> = block.kind.splitn(4, ' ').collect();
    let [_, connection, who, lane] = words[..] else { panic!("line {}", block.line) };
    Step {
        place: format!("line {}", block.line),
        connection: connection.parse().unwrap(),
        who: ["A", "B"].iter().position(|name| *name == who).unwrap(),
        lane: lane.into(),
        bytes: block.bytes(),
        begins: false,
    }
}

impl Step {
    /// The frames in it.
    fn frames(&self) -> Vec<ClusterFrame<String>> {
        let mut rest = if self.begins { &self.bytes[HEADER..] } else { &self.bytes[..] };
        let mut frames = Vec::new();
        while let Some((prefix, body)) = rest.split_first_chunk::<PREFIX>() {
            let (frame, behind) = body.split_at(u32::from_be_bytes(*prefix) as usize);
            frames.push(ClusterFrame::decode(frame).unwrap());
            rest = behind;
        }
        frames
    }

    fn says_goodbye(&self) -> bool {
        self.lane == "control" && self.bytes.ends_with(&[3, 0])
    }
}

struct Stage {
    node: ClusterTransport,
    events: Events,
    sink: Arc<RecordingSink>,
    gossip: mpsc::Receiver<Gossip<String>>,
    stranger: Peer,
    /// Which of A and B the node is.
    node_is: usize,
}

fn socket(n: usize) -> SocketAddr {
    (Address::host(&address(n)).parse::<std::net::IpAddr>().unwrap(), address(n).port()).into()
}

fn address(n: usize) -> Address {
    ADDRESSES[n].parse().unwrap()
}

impl Stage {
    fn new(node_is: usize) -> Self {
        assert_eq!(address(0).host(), HOST);
        let network = Network::new(1, Pipe::default());
        let (stranger, identity) = Peer::new(&network, socket(1 - node_is));
        let config = Config::builder("demo")
            .incarnation(INCARNATIONS[node_is])
            .runtime(Runtime::Simulated)
            .build()
            .unwrap();
        let socket = CustomSocket { socket: network.socket(socket(node_is)), seed: Some([7; 32]) };
        let node = ClusterTransport::bind_socket(config, &identity, socket).unwrap();
        assert_eq!(*node.address(), address(node_is));
        let (inbox, gossip) = gossip_inbox(16);
        let sink = RecordingSink::new();
        node.start(inbox, sink.clone()).unwrap();
        Self { events: node.events(), node, sink, gossip, stranger, node_is }
    }

    fn peer(&self) -> cluster_quic::Peer {
        self.node.peer(&address(1 - self.node_is)).unwrap()
    }

    /// The next connection: A dials.
    async fn connect(&self, again: bool) -> Talk {
        let peer = self.peer();
        if self.node_is == 1 {
            return self.stranger.dial(socket(1)).await;
        }
        if again {
            peer.disconnect();
        } else {
            tokio::spawn(async move { peer.connect().await });
        }
        self.stranger.accept().await
    }

    /// Makes the node say what the page has for it.
    fn prompt(&self, step: &Step) {
        let peer = self.peer();
        // A leaves; B answers that by itself.
        if step.says_goodbye() && step.who == 0 {
            let node = self.node.clone();
            tokio::spawn(async move { node.shutdown(std::time::Duration::from_secs(5)).await });
        }
        if step.lane == "control" {
            return;
        }
        for frame in step.frames() {
            match frame {
                ClusterFrame::RemoteTell(tell) => peer.tell(tell).unwrap(),
                ClusterFrame::Gossip(gossip) => peer.send_gossip(&gossip).unwrap(),
            }
        }
    }

    /// Waits until the node has what the stranger said.
    async fn heard(&mut self, step: &Step) {
        if step.lane == "control" {
            return;
        }
        for frame in step.frames() {
            match frame {
                ClusterFrame::RemoteTell(tell) => {
                    let has = || self.sink.records().last().is_some_and(|(_, last)| *last == tell);
                    within(async {
                        while !has() {
                            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                        }
                    })
                    .await;
                }
                ClusterFrame::Gossip(gossip) => {
                    assert_eq!(within(self.gossip.recv()).await.unwrap().message, gossip);
                }
            }
        }
    }
}

async fn hold(node_is: usize) {
    let mut stage = Stage::new(node_is);
    let mut talks: Vec<Talk> = Vec::new();
    let mut said = 0;
    for step in steps() {
        if step.connection > talks.len() {
            let again = !talks.is_empty();
            let talk = stage.connect(again).await;
            talks.push(talk);
        }
        let talk = &mut talks[step.connection - 1];
        if step.who == node_is {
            stage.prompt(&step);
            talk.read(&step.lane, &step.bytes, &step.place).await;
            said += usize::from(step.lane != "control");
        } else {
            talk.write(&step.lane, &step.bytes).await;
            stage.heard(&step).await;
        }
        if step.says_goodbye() {
            if step.who != node_is {
                talk.finish("control");
                continue;
            }
            talk.ends("control").await;
            assert_eq!(talk.closed().await, 0, "goodbye");
            // A has closed, as soon as its goodbye had arrived: the answer would find nobody.
            break;
        }
    }
    // The first connection: A, which had lost it, dialled again. A node that did so on request says so.
    assert_eq!(talks.len(), 2);
    assert_eq!(talks[0].closed().await, if node_is == 0 { 3 } else { 2 });
    // Each tell to the node came once.
    let to_node = steps().iter().filter(|s| s.who != node_is && s.lane.starts_with("tell")).count();
    assert_eq!(stage.sink.len(), to_node);
    assert!(said > 0 && to_node > 0);
    if node_is == 1 {
        // And the stranger's acknowledgements were understood.
        let stats = stage.peer().stats();
        let acknowledged =
            stats.lanes.iter().map(|(_, lane)| lane.acknowledged_frames).sum::<u64>();
        assert_eq!(acknowledged, 1, "{stats:?}");
        loop {
            match within(stage.events.recv()).await.unwrap() {
                Event::PeerDown { reason: cluster_quic::AssociationError::Goodbye, .. } => break,
                Event::PeerUp { .. } | Event::PeerDown { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_can_be_a() {
    hold(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_can_be_b() {
    hold(1).await;
}
