//! A socket of a simulated network.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Network;

/// A datagram on its way; ordered by its arrival, then by when it was sent.
pub(super) struct Packet {
    pub(super) at: Instant,
    pub(super) number: u64,
    pub(super) from: SocketAddr,
    pub(super) contents: Vec<u8>,
    pub(super) ecn: Option<quinn::udp::EcnCodepoint>,
}

impl PartialEq for Packet {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Packet {}

impl PartialOrd for Packet {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Packet {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Why a socket does not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendFault {
    /// ENOBUFS: the system has no room for another packet.
    NoBuffers,
    /// EPERM: a packet filter drops what leaves.
    NotPermitted,
    /// EWOULDBLOCK: the socket's send buffer is full; it says when that is over.
    Full,
}

impl SendFault {
    fn error(self) -> io::Error {
        match self {
            Self::NoBuffers => io::Error::other("no buffer space available (ENOBUFS)"),
            Self::NotPermitted => io::ErrorKind::PermissionDenied.into(),
            Self::Full => io::ErrorKind::WouldBlock.into(),
        }
    }
}

#[derive(Default)]
pub(super) struct Inbox {
    packets: BinaryHeap<Reverse<Packet>>,
    waker: Option<Waker>,
    timer: Option<Pin<Box<Sleep>>>,
    pub(super) fault: Option<SendFault>,
    /// Sends that failed.
    pub(super) failed: u64,
    /// Those who wait until they may send again.
    blocked: Vec<Waker>,
}

impl Inbox {
    pub(super) fn push(&mut self, packet: Packet) {
        self.packets.push(Reverse(packet));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn set_fault(&mut self, fault: Option<SendFault>) {
        self.fault = fault;
        if fault.is_none() {
            self.blocked.drain(..).for_each(Waker::wake);
        }
    }
}

pub(super) type SharedInbox = Arc<Mutex<Inbox>>;

pub(super) fn lock(inbox: &SharedInbox) -> MutexGuard<'_, Inbox> {
    inbox.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A socket of a simulated network.
pub(crate) struct Socket {
    pub(super) network: Network,
    pub(super) address: SocketAddr,
    pub(super) inbox: SharedInbox,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.address)
    }
}

/// Waits while the socket's send buffer is full.
struct Writable(SharedInbox);

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writable")
    }
}

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inbox = lock(&self.0);
        if inbox.fault == Some(SendFault::Full) {
            inbox.blocked.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable(Arc::clone(&self.inbox)))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        {
            let mut inbox = lock(&self.inbox);
            if let Some(fault) = inbox.fault {
                inbox.failed += 1;
                return Err(fault.error());
            }
        }
        self.network.send(self, transmit);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = lock(&self.inbox);
        loop {
            let now = Instant::now();
            let mut received = 0;
            for (buffer, meta) in buffers.iter_mut().zip(metas.iter_mut()) {
                if inbox.packets.peek().is_none_or(|Reverse(packet)| packet.at > now) {
                    break;
                }
                let Some(Reverse(packet)) = inbox.packets.pop() else { break };
                let len = packet.contents.len().min(buffer.len());
                buffer[..len].copy_from_slice(&packet.contents[..len]);
                *meta = RecvMeta {
                    addr: packet.from,
                    len,
                    stride: len,
                    ecn: packet.ecn,
                    ..RecvMeta::default()
                };
                received += 1;
            }
            if received > 0 {
                return Poll::Ready(Ok(received));
            }
            inbox.waker = Some(cx.waker().clone());
            let Some(at) = inbox.packets.peek().map(|Reverse(packet)| packet.at) else {
                return Poll::Pending;
            };
            let timer = inbox.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    /// Path MTU discovery is off otherwise.
    fn may_fragment(&self) -> bool {
        false
    }
}
