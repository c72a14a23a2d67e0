//! The private steps that the fuzz targets drive (`fuzz/`, and `tests/fuzz_corpus.rs`, which replays what
//! they found). No part of the API: anything here may change or go at any time; for why it is a module
//! and no feature, see `bench_support`.

use std::collections::VecDeque;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

use crate::address::{Address, Incarnation};
use crate::backend::in_process::{
    InProcessBackend, InProcessLink, InProcessNetwork, InProcessWriter,
};
use crate::control::{Control, Greeting, Instance, WIRE_VERSION, stream_header};
use crate::error::{AssociationError, BindError, FrameError};
use crate::frame::{self, FrameDecoder, RemoteTellRef, TellDecoder, next_frame};
use crate::lane::Lane;
use crate::link::{Backend, LaneReader, LaneWriter, Link};
use crate::stream::{ControlReader, Intake};

/// Cuts a stream's chunks into frames.
#[derive(Debug, Default)]
pub struct Cutter(FrameDecoder);

impl Cutter {
    /// The frames that the next chunks complete, without their prefixes.
    pub fn take(&mut self, chunks: &mut Vec<Bytes>) -> Result<Vec<Bytes>, FrameError> {
        let Some(run) = self.0.push_all(chunks)? else { return Ok(Vec::new()) };
        let mut frames = Vec::new();
        for piece in &run.pieces {
            let mut rest = &piece[..];
            while let Some(frame) = next_frame(&mut rest) {
                frames.push(piece.slice_ref(frame));
            }
            assert!(rest.is_empty(), "a piece ends in mid-frame");
        }
        assert_eq!(run.frames, frames.len() as u64);
        assert_eq!(run.len, run.pieces.iter().map(Bytes::len).sum::<usize>());
        Ok(frames)
    }

    /// Bytes held of a frame that is not yet complete.
    pub fn pending(&self) -> usize {
        self.0.pending()
    }
}

/// Decodes the frames of a tell lane, one after the other.
pub fn tells<'a>(
    frames: &'a [Bytes],
) -> impl Iterator<Item = Result<RemoteTellRef<'a>, FrameError>> {
    let mut decoder = TellDecoder::default();
    frames.iter().map(move |frame| decoder.decode(frame))
}

/// Decodes a frame of the gossip lane.
pub fn gossip<G: serde::de::DeserializeOwned>(frame: &[u8]) -> Result<G, FrameError> {
    frame::decode_gossip(frame)
}

/// Decodes a control message, and encodes it again: what stands here is what it was understood as.
pub fn control(message: &[u8]) -> Result<Bytes, String> {
    let message = Control::decode(message).map_err(|e| e.to_string())?;
    let mut buf = BytesMut::new();
    message.encode(&mut buf).map_err(|e| e.to_string())?;
    Ok(buf.split_off(frame::PREFIX).freeze())
}

/// Reads a stream as the control lane: its messages as `Debug` has them, and how it ends.
pub fn control_lane(chunks: Vec<Bytes>) -> (Vec<String>, Result<(), AssociationError>) {
    let mut messages = Vec::new();
    let read = async {
        let mut reader = ControlReader::open(Arrived(chunks.into())).await?;
        while let Some(message) = reader.next().await? {
            messages.push(format!("{message:?}"));
        }
        Ok(())
    };
    let end = at_once(read);
    (messages, end)
}

/// Reads a stream: its lane, and the frames in it.
pub fn stream(chunks: Vec<Bytes>) -> Result<(Lane, u64, u64), AssociationError> {
    at_once(async {
        let mut intake = Intake::new(Arrived(chunks.into()));
        let (lane, first) = intake.header().await?;
        let mut frames = 0;
        while let Some(run) = intake.run().await? {
            frames += run.frames;
        }
        Ok((lane, first, frames))
    })
}

/// A stream that has arrived as a whole.
struct Arrived(VecDeque<Bytes>);

impl LaneReader for Arrived {
    const PINS: bool = false;

    async fn read(&mut self, chunks: &mut Vec<Bytes>) -> Result<bool, AssociationError> {
        let next = self.0.pop_front();
        let more = next.is_some();
        chunks.extend(next);
        Ok(more)
    }
}

/// Runs what never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("waits, though everything has arrived"),
    }
}

/// Somebody with a good certificate, so to say, who writes what they like into a link to a node.
pub struct Stranger {
    link: InProcessLink,
    /// Keeps the stranger's address taken.
    _backend: InProcessBackend,
}

impl std::fmt::Debug for Stranger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stranger")
    }
}

/// A stream to the node; dropped, it ends.
pub struct StrangersStream(InProcessWriter);

impl std::fmt::Debug for StrangersStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StrangersStream")
    }
}

impl Stranger {
    /// Connects to the node `to`, as `from`, which must be free.
    pub async fn dial(
        network: &InProcessNetwork,
        from: &Address,
        to: &Address,
    ) -> Result<Self, BindError> {
        let backend = InProcessBackend::register(network, from, 1 << 20)?;
        match backend.dial(to).await {
            Ok(link) => Ok(Self { link, _backend: backend }),
            Err(_) => Err(BindError::AddressTaken(to.clone())),
        }
    }

    /// A control lane's first bytes that `to` will accept.
    pub fn hello(cluster: &str, from: &Address, to: &Address) -> Bytes {
        let hello = Control::Hello(Greeting {
            version: WIRE_VERSION,
            cluster: cluster.into(),
            address: from.clone(),
            to: to.clone(),
            instance: Instance { incarnation: Incarnation(7), session: 0 },
            attempt: 1,
            lanes: 4,
            stream_window: 1 << 20,
            resume: None,
        });
        let mut buf = BytesMut::from(&stream_header(Lane::Control, 0)[..]);
        let _ = hello.encode(&mut buf);
        buf.freeze()
    }

    /// A stream, unless the node has closed the link, or has not taken the streams before.
    pub async fn open(&self) -> Option<StrangersStream> {
        // Which lane it is to be, its first bytes say.
        self.link.open_lane(Lane::Control).await.ok().map(StrangersStream)
    }

    /// Why the node closed the link; waits until it has.
    pub async fn closed(&self) -> AssociationError {
        self.link.closed().await
    }
}

impl StrangersStream {
    /// Writes bytes as one chunk; whether the link still stands.
    pub async fn write(&mut self, bytes: Bytes) -> bool {
        self.0.write(bytes).await.is_ok()
    }
}
