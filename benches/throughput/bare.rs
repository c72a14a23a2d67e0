//! Bare quinn: what is left of the rate if there is nothing but the frames, in 64 KiB chunks on one
//! stream. No queue, no acknowledgement, no resume.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cluster_quic::{Config, Congestion, DevCa, RemoteTellRef, bench_support};
use quinn::{Connection, Endpoint, RecvStream, SendStream, TokioRuntime};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::Error;
use crate::counter::{Counter, Load, target_path};
use crate::measure::{SET_UP, Sending, Subject, within};
use crate::ours::identity;

const CHUNK: usize = 64 * 1024;
pub(crate) const PREFIX: usize = 4;

/// As on the wire: bincode's encoding of a `ClusterFrame`, borrowed.
#[derive(Serialize, Deserialize)]
pub(crate) enum Frame<'a> {
    Gossip(()),
    #[serde(borrow)]
    RemoteTell(RemoteTellRef<'a>),
}

pub(crate) struct Bare {
    stream: Mutex<SendStream>,
    counter: Arc<Counter>,
    _ends: Ends,
}

pub(crate) type Ends = [(Endpoint, Connection); 2];

/// A connection between two endpoints: the dialling side, then the other.
pub(crate) async fn connect(ca: &DevCa) -> Result<Ends, Error> {
    let (from, to) = (endpoint(ca)?, endpoint(ca)?);
    let [dialled, accepted] = between(&from, &to).await?;
    Ok([(from, dialled), (to, accepted)])
}

/// A connection's two sides.
pub(crate) async fn between(from: &Endpoint, to: &Endpoint) -> Result<[Connection; 2], Error> {
    let dialled = from.connect(to.local_addr()?, "127.0.0.1")?;
    let accepted = async { Ok::<_, Error>(to.accept().await.ok_or("closed")?.await?) };
    let both = async { tokio::join!(dialled, accepted) };
    let (dialled, accepted) = within(SET_UP, "a bare connection", both).await?;
    Ok([dialled?, accepted?])
}

impl Bare {
    pub(crate) async fn new(ca: &DevCa) -> Result<Self, Error> {
        let ends = connect(ca).await?;
        let [(_, dialled), (_, accepted)] = &ends;
        let counter = Arc::new(Counter::new());
        let stream = within(SET_UP, "a bare stream", dialled.open_uni()).await??;
        let (receiving, count) = (accepted.clone(), Arc::clone(&counter));
        tokio::spawn(async move {
            // Ends with the connection; an earlier end shows as tells that never come.
            let _ = receive(&receiving, &count).await;
        });
        Ok(Self { stream: Mutex::new(stream), counter, _ends: ends })
    }

    async fn send_all(&self, load: Load) -> Result<(), Error> {
        let mut stream = self.stream.lock().await;
        let target_path = target_path(0);
        let mut payload = vec![0x5a; load.payload];
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let room = PREFIX + load.payload + 64;
        for sequence in 0..load.tells {
            if !chunk.is_empty() && chunk.len() + room > CHUNK {
                stream.write_chunk(chunk.freeze()).await?;
                chunk = BytesMut::with_capacity(CHUNK.max(room));
            }
            payload[..8].copy_from_slice(&sequence.to_le_bytes());
            let tell = RemoteTellRef {
                target_path: &target_path,
                manifest: "bench",
                payload: &payload,
                sender_path: None,
            };
            encode(&Frame::RemoteTell(tell), &mut chunk)?;
        }
        stream.write_chunk(chunk.freeze()).await?;
        Ok(())
    }
}

impl Subject for Bare {
    fn send(self: Arc<Self>, load: Load) -> Sending {
        Box::pin(async move { self.send_all(load).await })
    }

    fn counter(&self) -> &Counter {
        &self.counter
    }
}

struct Appender<'a>(&'a mut BytesMut);

impl bincode::enc::write::Writer for Appender<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

pub(crate) fn encode(frame: &Frame<'_>, chunk: &mut BytesMut) -> Result<(), Error> {
    let start = chunk.len();
    chunk.extend_from_slice(&[0; PREFIX]);
    bincode::serde::encode_into_writer(frame, Appender(chunk), bincode::config::standard())?;
    let len = u32::try_from(chunk.len() - start - PREFIX)?;
    chunk[start..start + PREFIX].copy_from_slice(&len.to_be_bytes());
    Ok(())
}

async fn receive(connection: &Connection, counter: &Counter) -> Result<(), Error> {
    let mut stream: RecvStream = connection.accept_uni().await?;
    let mut chunks: [Bytes; 32] = Default::default();
    // The beginning of a frame whose end is in a later chunk.
    let mut partial = Vec::new();
    while let Some(n) = stream.read_chunks(&mut chunks).await? {
        for chunk in chunks[..n].iter_mut().map(std::mem::take) {
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                if partial.is_empty() && whole(rest) <= rest.len() {
                    let (frame, after) = rest.split_at(whole(rest));
                    count(frame, counter)?;
                    rest = after;
                    continue;
                }
                let missing = match partial.len() {
                    held @ 0..PREFIX => PREFIX - held,
                    held => whole(&partial) - held,
                };
                let (more, after) = rest.split_at(missing.min(rest.len()));
                partial.extend_from_slice(more);
                rest = after;
                if partial.len() >= PREFIX && partial.len() == whole(&partial) {
                    count(&partial, counter)?;
                    partial.clear();
                }
            }
        }
    }
    Ok(())
}

/// The length of the first frame with its prefix; too much if the prefix is not there.
fn whole(bytes: &[u8]) -> usize {
    let prefix = bytes.first_chunk::<PREFIX>();
    prefix.map_or(usize::MAX, |prefix| PREFIX + u32::from_be_bytes(*prefix) as usize)
}

fn count(frame: &[u8], counter: &Counter) -> Result<(), Error> {
    if let Frame::RemoteTell(tell) = decode(&frame[PREFIX..])? {
        counter.record(tell.target_path, tell.payload);
    }
    Ok(())
}

/// A frame without its prefix.
pub(crate) fn decode(frame: &[u8]) -> Result<Frame<'_>, Error> {
    let config = bincode::config::standard().with_limit::<{ 32 << 20 }>();
    Ok(bincode::serde::borrow_decode_from_slice(frame, config)?.0)
}

/// A node's socket, certificate and settings, whatever they are now, but for the congestion controller:
/// Cubic, quinn's own.
pub(crate) fn endpoint(ca: &DevCa) -> Result<Endpoint, Error> {
    let config = Config::builder("bare").congestion(Congestion::Cubic).build()?;
    let socket = bench_support::open_socket(&config)?;
    let port = socket.local_addr()?.port();
    let parts = bench_support::parts(&config, &identity(ca)?, port, None)?;
    let runtime = Arc::new(TokioRuntime);
    let mut endpoint = Endpoint::new(parts.settings, Some(parts.server), socket, runtime)?;
    endpoint.set_default_client_config(parts.client);
    Ok(endpoint)
}
