//! A QUIC connection as a link, its streams as lanes.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

use super::congestion::{Received, acknowledged};
use super::generation::Generation;
use super::settings::streams;
use crate::address::Address;
use crate::config::Config;
use crate::error::AssociationError;
use crate::lane::Lane;
use crate::link::{Echo, LaneReader, LaneWriter, Link, from_wire, to_wire};
use crate::outbound::{CHUNK, PIECE};
use crate::stats::{ConnectionInfo, LinkStats};
use crate::tls::{Certificate, CertificateFailure, ShownBy, classify, verify_peer_name};

#[cfg(test)]
mod tests;

/// A peer's larger window raises our send window up to this, so that its windows never decide our
/// memory.
const MAX_SEND_WINDOW: u64 = 256 * 1024 * 1024;

/// What a peer that stops a lane has to close the connection as well.
const STOPPED_GRACE: Duration = Duration::from_secs(1);

/// What a peer that resets a lane has to close the connection as well. It may first say goodbye, over a path
/// that loses packets.
const RESET_GRACE: Duration = Duration::from_secs(5);

/// Received pieces handed over per read: one lock of the connection for all of them. An idle lane has
/// room for few, since every association has some.
pub(crate) const READ_BATCH: usize = 32;
const IDLE_BATCH: usize = 2;

/// The ALPN alert (RFC 7301): no common protocol, so another wire version.
const NO_APPLICATION_PROTOCOL: u64 = 0x178;

/// The application closed the connection during the handshake.
const APPLICATION_ERROR: u64 = 0x0c;

/// What a link needs of the configuration.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) tell_lanes: u8,
    pub(super) send_window: u64,
}

#[derive(Clone)]
pub(crate) struct QuicLink {
    pub(super) connection: Connection,
    pub(super) limits: Limits,
    generation: Generation,
    /// The peer's part in the handshake, and when that was.
    peer: ShownBy,
    since: SystemTime,
    received: Received,
}

impl QuicLink {
    pub(super) fn new(
        connection: Connection,
        limits: Limits,
        generation: Generation,
        peer: ShownBy,
    ) -> Self {
        let received = Received::default();
        acknowledged(connection.congestion_state(), &received);
        let since = generation.now();
        Self { connection, limits, generation, peer, since, received }
    }

    /// The certificate chain that the peer showed, its own first; empty where there is none.
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        let identity = self.connection.peer_identity();
        let chain = identity.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        chain.map_or_else(Vec::new, |chain| *chain)
    }
}

impl Link for QuicLink {
    type Writer = QuicWriter;
    type Reader = QuicReader;

    async fn open_lane(&self, lane: Lane) -> Result<QuicWriter, AssociationError> {
        let stream = self.connection.open_uni().await.map_err(|e| connection_error(&e))?;
        // Before the first write: a later change applies late.
        let _ = stream.set_priority(lane.priority());
        Ok(QuicWriter { link: self.clone(), stream, finished: false })
    }

    async fn accept_lane(&self) -> Result<QuicReader, AssociationError> {
        let stream = self.connection.accept_uni().await.map_err(|e| connection_error(&e))?;
        let batch = vec![Bytes::new(); IDLE_BATCH];
        Ok(QuicReader { link: self.clone(), stream, batch, reset: None })
    }

    fn close(&self, reason: &AssociationError) {
        let (code, text) = to_wire(reason);
        self.connection.close(VarInt::from_u32(code), text.as_bytes());
    }

    async fn closed(&self) -> AssociationError {
        connection_error(&self.connection.closed().await)
    }

    fn may_claim(&self, address: &Address) -> Result<(), AssociationError> {
        verify_peer_name(&self.chain(), address.host())
            .map_err(|e| AssociationError::Claim(e.to_string()))
    }

    fn admit(&self, lanes: u8, window: u64) -> Result<(), AssociationError> {
        // One stalled lane must not use up what the others need; memory is bounded by the streams.
        self.connection.set_receive_window(VarInt::MAX);
        if lanes > self.limits.tell_lanes {
            self.connection.set_max_concurrent_uni_streams(VarInt::from_u32(streams(lanes)));
        }
        match Config::send_window_for(self.limits.tell_lanes, window) {
            needed if needed <= self.limits.send_window => {}
            needed if needed <= MAX_SEND_WINDOW => self.connection.set_send_window(needed),
            needed => {
                return Err(AssociationError::Refused(format!(
                    "its stream window of {window} bytes needs a send window of {needed}"
                )));
            }
        }
        Ok(())
    }

    fn is_current(&self) -> bool {
        self.generation.is_current()
    }

    fn certificate(&self) -> Option<Certificate> {
        Certificate::read(self.chain().first()?)
    }

    fn is_trusted(&self) -> Result<(), CertificateFailure> {
        self.generation.present_identity().vouches_for(&self.chain(), self.peer, self.since)
    }

    fn stats(&self) -> LinkStats {
        let path = self.connection.stats().path;
        LinkStats {
            rtt: path.rtt,
            congestion_window: path.cwnd,
            mtu: path.current_mtu,
            lost_packets: path.lost_packets,
            sent_packets: path.sent_packets,
        }
    }

    fn info(&self) -> ConnectionInfo {
        let data = self.connection.handshake_data();
        let protocol = data.and_then(|any| any.downcast::<HandshakeData>().ok()?.protocol);
        let chain = self.chain();
        ConnectionInfo {
            remote: Some(self.connection.remote_address()),
            certificates: chain.iter().map(|certificate| certificate.to_vec()).collect(),
            protocol: String::from_utf8_lossy(&protocol.unwrap_or_default()).into_owned(),
            ..ConnectionInfo::default()
        }
    }

    fn echo(&self) -> Echo {
        let stats = self.connection.stats();
        let frames = stats.frame_tx;
        // The last two are what probes a silent path.
        let asked = frames.stream + frames.max_stream_data + frames.ping + frames.immediate_ack;
        let answered = acknowledged(self.connection.congestion_state(), &self.received);
        Echo { asked, answered, heard: stats.udp_rx.datagrams }
    }
}

pub(crate) struct QuicWriter {
    link: QuicLink,
    stream: SendStream,
    finished: bool,
}

impl LaneWriter for QuicWriter {
    async fn write(&mut self, mut chunk: Bytes) -> Result<(), AssociationError> {
        // In pieces: quinn counts one against its send window until the last of it is acknowledged.
        while !chunk.is_empty() {
            let piece = chunk.split_to(if chunk.len() > PIECE { CHUNK } else { chunk.len() });
            match self.stream.write_chunk(piece).await {
                Ok(()) => {}
                Err(WriteError::ConnectionLost(e)) => return Err(connection_error(&e)),
                // A peer that ends its reading ends the connection too; who does not, breaks the rules.
                Err(WriteError::Stopped(_)) => {
                    let closed = timeout(STOPPED_GRACE, self.link.closed()).await;
                    let breach =
                        || AssociationError::Protocol("it stopped one of our lanes".into());
                    return Err(closed.unwrap_or_else(|_| breach()));
                }
                Err(e) => return Err(AssociationError::Connection(format!("writing a lane: {e}"))),
            }
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), AssociationError> {
        self.finished = true;
        let _ = self.stream.finish();
        match self.stream.stopped().await {
            Ok(_) => Ok(()),
            Err(e) => Err(AssociationError::Connection(e.to_string())),
        }
    }
}

impl Drop for QuicWriter {
    fn drop(&mut self) {
        if !self.finished {
            // quinn would finish the stream, and a torn frame would look like a clean end.
            let _ = self.stream.reset(VarInt::from_u32(0));
        }
    }
}

pub(crate) struct QuicReader {
    link: QuicLink,
    stream: RecvStream,
    batch: Vec<Bytes>,
    /// The peer has given the lane up. quinn says that once, and then that the stream has ended.
    reset: Option<VarInt>,
}

impl LaneReader for QuicReader {
    /// A batch of packets.
    const PINS: bool = true;

    async fn read(&mut self, chunks: &mut Vec<Bytes>) -> Result<bool, AssociationError> {
        let read = match self.reset {
            None => self.stream.read_chunks(&mut self.batch).await,
            Some(code) => Err(ReadError::Reset(code)),
        };
        if let Err(ReadError::Reset(code)) = read {
            self.reset = Some(code);
        }
        let read = match read {
            Ok(read) => read,
            Err(ReadError::ConnectionLost(e)) => return Err(connection_error(&e)),
            // The peer gave the lane up with its connection, whose reason is on its way.
            Err(ReadError::Reset(_)) => {
                let closed = timeout(RESET_GRACE, self.link.closed()).await;
                let breach = || AssociationError::Protocol("it reset one of its lanes".into());
                return Err(closed.unwrap_or_else(|_| breach()));
            }
            Err(other) => {
                return Err(AssociationError::Connection(format!("reading a lane: {other}")));
            }
        };
        let Some(n) = read else { return Ok(false) };
        let bytes: usize = self.batch[..n].iter().map(Bytes::len).sum();
        self.link.received.fetch_add(bytes as u64, Ordering::Relaxed);
        chunks.extend(self.batch[..n].iter_mut().map(std::mem::take));
        if n == self.batch.len() && n < READ_BATCH {
            self.batch.resize(READ_BATCH, Bytes::new());
        }
        Ok(true)
    }
}

/// Why a connection from somebody did not come about.
pub(super) fn handshake_error(error: &ConnectionError) -> AssociationError {
    match error {
        // The dialler gave it up; what for, cannot be said this early (RFC 9000, section 10.2.3). Most
        // often both have dialled, and it has the other's connection.
        ConnectionError::ConnectionClosed(close)
            if u64::from(close.error_code) == APPLICATION_ERROR =>
        {
            AssociationError::Superseded
        }
        other => connection_error(other),
    }
}

pub(super) fn connection_error(error: &ConnectionError) -> AssociationError {
    if let Some(failure) = classify(error) {
        return AssociationError::Certificate(failure);
    }
    let alpn = || AssociationError::Version("no protocol in common".into());
    match error {
        ConnectionError::ApplicationClosed(close) => {
            from_wire(close.error_code.into_inner(), &String::from_utf8_lossy(&close.reason))
        }
        ConnectionError::TimedOut => AssociationError::TimedOut,
        ConnectionError::Reset => AssociationError::Reset,
        ConnectionError::VersionMismatch => AssociationError::Version("of QUIC itself".into()),
        ConnectionError::TransportError(e) if u64::from(e.code) == NO_APPLICATION_PROTOCOL => {
            alpn()
        }
        ConnectionError::ConnectionClosed(e)
            if u64::from(e.error_code) == NO_APPLICATION_PROTOCOL =>
        {
            alpn()
        }
        ConnectionError::LocallyClosed => {
            AssociationError::Connection("closed by this node".into())
        }
        other => AssociationError::Connection(other.to_string()),
    }
}
