//! What the fuzz targets do with their input: nothing may panic, and what is taken must mean the same
//! whatever way it comes. `tests/fuzz_corpus.rs` runs the same over the inputs in `corpus/`.
//!
//! ```text
//! cargo install cargo-fuzz
//! RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none frames -- -max_total_time=300 -timeout=5
//! ```
//!
//! The targets are `frames`, `control` and `node`. The variable lets a stable compiler take the flags for
//! coverage; with a nightly one it is not needed. The crate has no unsafe code of its own, so there is
//! little for a sanitizer to find.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cluster_quic::fuzz_support::{
    Cutter, Stranger, StrangersStream, control as control_again, control_lane, gossip, stream,
    tells,
};
use cluster_quic::{
    Address, ClusterFrame, ClusterTransport, Config, FrameError, InProcessNetwork,
    RemoteMessageSink, RemoteTell, RemoteTellRef, gossip_inbox,
};
use serde::{Deserialize, Serialize};

/// A gossip type that has all that can go wrong: it nests in every way, has elements that take no bytes,
/// and variants of very different sizes.
#[derive(Debug, Serialize, Deserialize)]
#[allow(clippy::vec_box)] // Boxes are what is to be tried.
pub enum Nasty {
    Unit,
    Units(Vec<()>),
    Skipped(Vec<Skipped>),
    Tree(Vec<Nasty>),
    Boxed(Option<Box<Nasty>>),
    Map(BTreeMap<String, Nasty>),
    Keys(BTreeMap<(), Vec<()>>),
    Wide(Vec<Option<[u64; 32]>>),
    WideBoxes(Vec<Box<Option<[u64; 32]>>>),
    Text(String, char, bool),
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
    Number(i128, f64, u16),
    Pair { left: Box<Nasty>, right: Box<Nasty> },
}

/// Takes memory, and no bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Skipped {
    #[serde(skip)]
    _cache: u64,
}

/// Frames, however a stream is cut. The first byte says how many chunk lengths follow, which are used over
/// and over; the rest is the stream.
pub fn frames(data: &[u8]) {
    let Some((lengths, stream)) = chunk_lengths(data) else { return };
    let whole = cut(std::iter::once(Bytes::copy_from_slice(stream)));
    let pieces = cut(chunks(lengths, stream).into_iter());
    // An error is found at the same place; frames of the chunk that it is in are not handed over.
    assert_eq!(whole.1, pieces.1);
    let (few, many) = match whole.0.len() < pieces.0.len() {
        true => (&whole.0, &pieces.0),
        false => (&pieces.0, &whole.0),
    };
    assert_eq!(few[..], many[..few.len()]);
    assert!(many.len() == few.len() || whole.1.is_some());
    // All pieces in one go.
    match (Cutter::default().take(&mut chunks(lengths, stream)), &whole.1) {
        (Ok(frames), None) => assert_eq!(frames, whole.0),
        (Err(error), Some(expected)) => assert_eq!(error, *expected),
        (together, _) => panic!("{together:?}"),
    }

    for (frame, tell) in many.iter().zip(tells(many)) {
        let decoded = ClusterFrame::<Nasty>::decode(frame);
        match (&decoded, &tell) {
            (Ok(ClusterFrame::RemoteTell(owned)), Ok(tell)) => assert_eq!(owned.borrowed(), *tell),
            (Ok(ClusterFrame::Gossip(_)), Err(FrameError::WrongLane { .. })) => {
                gossip::<Nasty>(frame).unwrap();
            }
            // Gossip that is broken, in the wrong lane; or both say what is wrong.
            (Err(_), Err(FrameError::WrongLane { .. })) => {
                gossip::<Nasty>(frame).unwrap_err();
            }
            (Err(ours), Err(theirs)) => assert_eq!(ours, theirs),
            other => panic!("{other:?}"),
        }
        if let Ok(decoded) = decoded {
            comes_back(&decoded);
        }
    }
}

/// A frame's shortest encoding means the same.
fn comes_back(frame: &ClusterFrame<Nasty>) {
    let bytes = frame.encode().unwrap();
    match ClusterFrame::<Nasty>::decode(&bytes) {
        // As text, for the sake of NaN.
        Ok(back) => assert_eq!(format!("{back:?}"), format!("{frame:?}")),
        // Longer bytes can pay for more elements that have none.
        Err(FrameError::TooManyElements) => {}
        Err(error) => panic!("{error}"),
    }
}

type Cut = (Vec<Bytes>, Option<FrameError>);

fn cut(chunks: impl Iterator<Item = Bytes>) -> Cut {
    let mut cutter = Cutter::default();
    let (mut frames, mut bytes) = (Vec::new(), 0);
    for chunk in chunks {
        bytes += chunk.len();
        match cutter.take(&mut vec![chunk]) {
            Ok(more) => frames.extend(more),
            Err(error) => return (frames, Some(error)),
        }
        assert!(cutter.pending() <= bytes);
    }
    (frames, None)
}

fn chunk_lengths(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&count, rest) = data.split_first()?;
    rest.split_at_checked(usize::from(count % 8))
}

fn chunks(lengths: &[u8], mut stream: &[u8]) -> Vec<Bytes> {
    // Chunks without bytes as well, but not for ever.
    let mut lengths = lengths.iter().map(|&len| usize::from(len)).chain([1 << 16]).cycle();
    let mut chunks = Vec::new();
    while !stream.is_empty() {
        let (chunk, rest) = stream.split_at(lengths.next().unwrap_or(1).min(stream.len()));
        chunks.push(Bytes::copy_from_slice(chunk));
        stream = rest;
    }
    chunks
}

/// Control messages, alone and as a lane, and the header of any stream; cut as in [`frames`].
pub fn control(data: &[u8]) {
    if let Ok(again) = control_again(data) {
        assert_eq!(control_again(&again), Ok(again.clone()), "understood differently");
    }
    let Some((lengths, bytes)) = chunk_lengths(data) else { return };
    let (whole, end) = control_lane(vec![Bytes::copy_from_slice(bytes)]);
    let (pieces, end_of_pieces) = control_lane(chunks(lengths, bytes));
    // Where the lane breaks off in a chunk, what came before in it is not handed over.
    let common = whole.len().min(pieces.len());
    assert_eq!(whole[..common], pieces[..common]);
    assert_eq!(end.is_ok(), end_of_pieces.is_ok());
    if end.is_ok() {
        assert_eq!(whole, pieces);
    }
    let whole = stream(vec![Bytes::copy_from_slice(bytes)]);
    let pieces = stream(chunks(lengths, bytes));
    assert_eq!(whole.is_ok(), pieces.is_ok());
    if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
        assert_eq!(whole, pieces);
    }
}

const CLUSTER: &str = "fuzz";

/// A stranger's streams into a node. The first byte's lowest bit: whether the stranger greets as is
/// proper; the next: whether the node has a tell for them, so that there is something to acknowledge.
/// Then, over and over: the number of a stream (low three bits) and what to do with it (high two: end it
/// if both are set, else write), the length of what to write in two bytes, and that.
///
/// A healthy peer of the node must not notice.
pub fn node(data: &[u8]) {
    // No sockets; and time goes on when there is nothing to do.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(visit(data));
}

async fn visit(data: &[u8]) {
    let Some((&flags, script)) = data.split_first() else { return };
    let network = InProcessNetwork::new();
    let config =
        || Config::builder(CLUSTER).dial_timeout(Duration::from_millis(500)).build().unwrap();
    let victim = ClusterTransport::in_process(config(), &network, "victim").unwrap();
    let healthy = ClusterTransport::in_process(config(), &network, "healthy").unwrap();
    let (inbox, mut received) = gossip_inbox::<Nasty>(64);
    let sink = Arc::new(Counted::default());
    victim.start(inbox, Arc::clone(&sink)).unwrap();
    healthy.start(gossip_inbox::<Nasty>(1).0, Arc::new(Counted::default())).unwrap();
    healthy.tell(victim.address(), tell()).unwrap();
    healthy.flush(victim.address()).await.unwrap();

    let from: Address = format!("akka.quic://{CLUSTER}@stranger:1").parse().unwrap();
    let stranger = Stranger::dial(&network, &from, victim.address()).await.unwrap();
    let mut streams: [Option<StrangersStream>; 8] = Default::default();
    if flags & 1 == 1 {
        let mut control = stranger.open().await.unwrap();
        control.write(Stranger::hello(CLUSTER, &from, victim.address())).await;
        streams[0] = Some(control);
    }
    if flags & 2 == 2 {
        victim.tell(&from, tell()).unwrap();
    }
    // Where the node takes nothing more, the stranger gives up.
    let act = tokio::time::timeout(Duration::from_secs(2), act(&stranger, &mut streams, script));
    let _ = act.await;
    // A breach closes the link by now, and the greeting's time is up.
    let _ = tokio::time::timeout(Duration::from_secs(2), stranger.closed()).await;
    while received.try_recv().is_ok() {}

    healthy.tell(victim.address(), tell()).unwrap();
    healthy.flush(victim.address()).await.unwrap();
    let stats = healthy.peer_stats(victim.address()).unwrap();
    assert_eq!(stats.associations, 1, "the healthy peer's association was cut");
    assert_eq!(sink.healthy.load(Ordering::Relaxed), 2);
    drop((streams, stranger));
    victim.shutdown(Duration::from_millis(100)).await;
    healthy.shutdown(Duration::from_millis(100)).await;
}

async fn act(stranger: &Stranger, streams: &mut [Option<StrangersStream>; 8], mut script: &[u8]) {
    while let [what, high, low, rest @ ..] = script {
        let stream = &mut streams[usize::from(what & 7)];
        if what >> 6 == 3 {
            *stream = None;
            script = &script[1..];
            continue;
        }
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        script = rest;
        if stream.is_none() {
            *stream = stranger.open().await;
        }
        let Some(stream) = stream else { return };
        if !stream.write(Bytes::copy_from_slice(bytes)).await {
            return;
        }
    }
}

fn tell() -> RemoteTell {
    RemoteTell {
        target_path: "/user/a".into(),
        manifest: String::new(),
        payload: vec![1],
        sender_path: None,
    }
}

#[derive(Default)]
struct Counted {
    healthy: AtomicU64,
}

impl RemoteMessageSink for Counted {
    fn deliver(&self, from: &Address, _: RemoteTellRef<'_>) {
        let healthy = from.host() == "healthy";
        self.healthy.fetch_add(healthy.into(), Ordering::Relaxed);
    }

    fn may_block(&self) -> bool {
        false
    }
}
