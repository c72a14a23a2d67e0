//! A simulated network: UDP sockets in memory, joined by pipes with a rate, a delay, a bounded queue
//! and faults, all drawn from one seed; each pipe draws for itself, so that what it does to its packets
//! does not depend on the others'. Under tokio's paused clock seconds pass in milliseconds.
//!
//! tokio's timers have a resolution of 1 ms, and the paused clock steps from timer to timer, so a
//! packet arrives at the first whole millisecond after its time: each hop may take up to 1 ms longer
//! than the pipe says.

mod pipe;
mod socket;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::udp::Transmit;
use tokio::time::Instant;

use pipe::Running;
pub(crate) use pipe::{Counts, Pipe, PipeId};
use socket::{Packet, SharedInbox, lock};
pub(crate) use socket::{SendFault, Socket};

#[derive(Clone)]
pub(crate) struct Network(Arc<Mutex<State>>);

struct State {
    seed: u64,
    pipes: Vec<Running>,
    /// Which pipe carries packets from one socket to another; the first pipe carries the rest.
    routes: HashMap<(SocketAddr, SocketAddr), PipeId>,
    inboxes: HashMap<SocketAddr, SharedInbox>,
    /// Where the packets of a socket seem to come from, if not from its own address.
    seen_as: HashMap<SocketAddr, SocketAddr>,
    /// Whom packets to an address reach, if not the socket of that address; `None` is nobody.
    leads_to: HashMap<SocketAddr, Option<SocketAddr>>,
    sent: u64,
    trace: Option<Vec<Traced>>,
    begin: Instant,
}

/// A packet that was sent: when, from which port to which, how long, and when it arrives if it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traced {
    pub(crate) at: Duration,
    pub(crate) ports: (u16, u16),
    pub(crate) len: usize,
    pub(crate) arrives: Option<Duration>,
}

impl Network {
    /// A network whose sockets all reach each other through pipes of this kind, one for all: give
    /// pairs their own with [`route`](Self::route).
    pub(crate) fn new(seed: u64, pipe: Pipe) -> Self {
        let state = State {
            seed,
            pipes: Vec::new(),
            routes: HashMap::new(),
            inboxes: HashMap::new(),
            seen_as: HashMap::new(),
            leads_to: HashMap::new(),
            sent: 0,
            trace: None,
            begin: Instant::now(),
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
        let id = state.pipes.len();
        let running = Running::new(pipe, state.seed.wrapping_add(id as u64));
        state.pipes.push(running);
        PipeId(id)
    }

    /// Leads packets from one socket to another through a pipe.
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
        let inbox = SharedInbox::default();
        self.state().inboxes.insert(address, Arc::clone(&inbox));
        Arc::new(Socket { network: self.clone(), address, inbox })
    }

    /// Takes the socket at an address off the network: it neither sends nor receives any more.
    pub(crate) fn unplug(&self, address: SocketAddr) {
        self.state().inboxes.remove(&address);
    }

    /// From now on the packets of the socket at `address` come from `public`, and packets to `public`
    /// reach it, as behind an address translation that has forgotten what it had. Packets to the
    /// socket's own address still reach it if `forwarded`.
    pub(crate) fn rebind(&self, address: SocketAddr, public: SocketAddr, forwarded: bool) {
        let mut state = self.state();
        if let Some(before) = state.seen_as.insert(address, public) {
            state.leads_to.insert(before, None);
        }
        state.leads_to.insert(public, Some(address));
        state.leads_to.insert(address, forwarded.then_some(address));
    }

    /// Undoes [`rebind`](Self::rebind): the public address is as good as unknown from now on.
    pub(crate) fn restore(&self, address: SocketAddr) {
        let mut state = self.state();
        if let Some(public) = state.seen_as.remove(&address) {
            state.leads_to.insert(public, None);
        }
        state.leads_to.remove(&address);
    }

    /// Sends of the socket at `address` fail from now on, or no longer.
    pub(crate) fn fail_sends(&self, address: SocketAddr, fault: Option<SendFault>) {
        if let Some(inbox) = self.state().inboxes.get(&address) {
            lock(inbox).set_fault(fault);
        }
    }

    /// Sends of the socket at `address` that have failed.
    pub(crate) fn failed_sends(&self, address: SocketAddr) -> u64 {
        self.state().inboxes.get(&address).map_or(0, |inbox| lock(inbox).failed)
    }

    /// Keeps a trace of all packets from now on.
    pub(crate) fn record(&self) {
        self.state().trace = Some(Vec::new());
    }

    pub(crate) fn trace(&self) -> Vec<Traced> {
        self.state().trace.clone().unwrap_or_default()
    }

    fn send(&self, socket: &Socket, transmit: &Transmit<'_>) {
        let mut state = self.state();
        // One that was unplugged, or whose place was taken.
        if !state.inboxes.get(&socket.address).is_some_and(|own| Arc::ptr_eq(own, &socket.inbox)) {
            return;
        }
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for contents in transmit.contents.chunks(segment) {
            state.send(socket.address, contents, transmit);
        }
    }
}

impl State {
    fn send(&mut self, from: SocketAddr, contents: &[u8], transmit: &Transmit<'_>) {
        let (now, dialled) = (Instant::now(), transmit.destination);
        let to = self.leads_to.get(&dialled).copied().unwrap_or(Some(dialled));
        let route = to.and_then(|to| self.routes.get(&(from, to)).copied());
        let running = &mut self.pipes[route.unwrap_or(PipeId(0)).0];
        let passage = running.pass(now, contents.len());
        if let Some(trace) = &mut self.trace {
            let arrives = passage.as_ref().map(|passage| passage.at - self.begin);
            let ports = (from.port(), dialled.port());
            trace.push(Traced { at: now - self.begin, ports, len: contents.len(), arrives });
        }
        let Some(passage) = passage else { return };
        let Some(inbox) = to.and_then(|to| self.inboxes.get(&to)) else { return };
        let mut contents = contents.to_vec();
        if let Some(byte) = passage.flipped.and_then(|at| contents.get_mut(at)) {
            *byte ^= 1;
        }
        let from = self.seen_as.get(&from).copied().unwrap_or(from);
        let mut inbox = lock(inbox);
        for n in 0..=u64::from(passage.twice) {
            self.sent += 1;
            inbox.push(Packet {
                at: passage.at + Duration::from_millis(n),
                number: self.sent,
                from,
                contents: contents.clone(),
                ecn: transmit.ecn,
            });
        }
    }
}
