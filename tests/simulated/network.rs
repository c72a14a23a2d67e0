//! A simulated network: UDP sockets in memory, joined by pipes with a rate, a delay, a bounded queue
//! and faults, all drawn from one seed. Under tokio's paused clock seconds pass in milliseconds.
//!
//! tokio's timers have a resolution of 1 ms, and the paused clock steps from timer to timer, so a
//! packet arrives at the first whole millisecond after its time: each hop may take up to 1 ms longer
//! than the pipe says.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::time::{Instant, Sleep, sleep_until};

/// The part of a packet beside the UDP payload that a link's rate pays for: IPv4 and UDP headers.
const HEADERS: u64 = 28;

/// What one direction of a link does to packets.
#[derive(Debug, Clone)]
pub(crate) struct Pipe {
    /// Bytes per second; `None` is without limit.
    pub(crate) rate: Option<f64>,
    /// How long the first bit takes.
    pub(crate) delay: Duration,
    /// Bytes that wait for the rate; what comes beyond is dropped.
    pub(crate) queue: u64,
    /// The largest UDP payload; larger ones vanish.
    pub(crate) mtu: usize,
    /// Chances, from 0 to 1, of each packet to vanish, to arrive twice, to be overtaken (it comes up
    /// to `late` later) and to have a bit flipped.
    pub(crate) loss: f64,
    pub(crate) duplicate: f64,
    pub(crate) reorder: f64,
    pub(crate) late: Duration,
    pub(crate) corrupt: f64,
    /// Nothing passes.
    pub(crate) cut: bool,
}

impl Default for Pipe {
    fn default() -> Self {
        Self {
            rate: None,
            delay: Duration::from_millis(1),
            queue: 4 << 20,
            mtu: 1472,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            late: Duration::from_millis(10),
            corrupt: 0.0,
            cut: false,
        }
    }
}

/// What has become of a pipe's packets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// Beyond the queue.
    pub(crate) overflowed: u64,
    /// By chance, by size, or because the pipe was cut.
    pub(crate) vanished: u64,
}

/// A pipe of a network; several pairs of sockets may share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PipeId(usize);

#[derive(Clone)]
pub(crate) struct Network(Arc<Mutex<State>>);

struct State {
    random: u64,
    pipes: Vec<Running>,
    /// Which pipe carries packets from one address to another; the first pipe carries the rest.
    routes: HashMap<(SocketAddr, SocketAddr), PipeId>,
    inboxes: HashMap<SocketAddr, Arc<Mutex<Inbox>>>,
    sent: u64,
}

struct Running {
    pipe: Pipe,
    busy_until: Instant,
    counts: Counts,
}

impl Network {
    /// A network whose sockets all reach each other through pipes of this kind, one for all: give
    /// pairs their own with [`route`](Self::route).
    pub(crate) fn new(seed: u64, pipe: Pipe) -> Self {
        let state = State {
            // Zero would stay zero.
            random: seed ^ 0x9e37_79b9_7f4a_7c15 | 1,
            pipes: Vec::new(),
            routes: HashMap::new(),
            inboxes: HashMap::new(),
            sent: 0,
        };
        let network = Self(Arc::new(Mutex::new(state)));
        network.pipe(pipe);
        network
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a pipe.
    pub(crate) fn pipe(&self, pipe: Pipe) -> PipeId {
        let mut state = self.state();
        state.pipes.push(Running { pipe, busy_until: Instant::now(), counts: Counts::default() });
        PipeId(state.pipes.len() - 1)
    }

    /// Leads packets from one address to another through a pipe.
    pub(crate) fn route(&self, from: SocketAddr, to: SocketAddr, pipe: PipeId) {
        self.state().routes.insert((from, to), pipe);
    }

    /// Changes a pipe; packets in it keep their times.
    pub(crate) fn change(&self, pipe: PipeId, change: impl FnOnce(&mut Pipe)) {
        change(&mut self.state().pipes[pipe.0].pipe);
    }

    pub(crate) fn counts(&self, pipe: PipeId) -> Counts {
        self.state().pipes[pipe.0].counts
    }

    /// A socket at an address; a second one there takes the first one's place.
    pub(crate) fn socket(&self, address: SocketAddr) -> Arc<Socket> {
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        self.state().inboxes.insert(address, Arc::clone(&inbox));
        Arc::new(Socket { network: self.clone(), address, inbox })
    }
}

/// A datagram on its way; ordered by its arrival, then by when it was sent.
struct Packet {
    at: Instant,
    number: u64,
    from: SocketAddr,
    contents: Vec<u8>,
    ecn: Option<quinn::udp::EcnCodepoint>,
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

#[derive(Default)]
struct Inbox {
    packets: BinaryHeap<Reverse<Packet>>,
    waker: Option<Waker>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl State {
    /// A number from 0 up to 1 (xorshift64*).
    fn chance(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, contents: &[u8], transmit: &Transmit<'_>) {
        let id = self.routes.get(&(from, to)).copied().unwrap_or(PipeId(0));
        let now = Instant::now();
        let draws = [(); 6].map(|()| self.chance());
        let running = &mut self.pipes[id.0];
        let pipe = &running.pipe;
        let size = contents.len() as u64 + HEADERS;
        running.counts.packets += 1;
        if pipe.cut || contents.len() > pipe.mtu || draws[0] < pipe.loss {
            running.counts.vanished += 1;
            return;
        }
        let mut at = now;
        if let Some(rate) = pipe.rate {
            let waiting = running.busy_until.duration_since(now).as_secs_f64() * rate;
            if waiting + size as f64 > pipe.queue as f64 {
                running.counts.overflowed += 1;
                return;
            }
            running.busy_until =
                running.busy_until.max(now) + Duration::from_secs_f64(size as f64 / rate);
            at = running.busy_until;
        }
        running.counts.bytes += size;
        at += pipe.delay;
        if draws[1] < pipe.reorder {
            at += pipe.late.mul_f64(draws[2]);
        }
        let mut contents = contents.to_vec();
        if draws[3] < pipe.corrupt
            && let Some(byte) = contents.get_mut((draws[4] * size as f64) as usize)
        {
            *byte ^= 1;
        }
        let twice = draws[5] < pipe.duplicate;
        let Some(inbox) = self.inboxes.get(&to) else { return };
        let mut inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
        for n in 0..=u64::from(twice) {
            self.sent += 1;
            let at = at + Duration::from_millis(n);
            let packet = Packet {
                at,
                number: self.sent,
                from,
                contents: contents.clone(),
                ecn: transmit.ecn,
            };
            inbox.packets.push(Reverse(packet));
        }
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
    }
}

/// A socket of a simulated network.
pub(crate) struct Socket {
    network: Network,
    address: SocketAddr,
    inbox: Arc<Mutex<Inbox>>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.address)
    }
}

/// Sending never blocks.
#[derive(Debug)]
struct Writable;

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for contents in transmit.contents.chunks(segment) {
            self.network.state().send(self.address, transmit.destination, contents, transmit);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
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
