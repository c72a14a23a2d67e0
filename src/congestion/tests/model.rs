//! A bottleneck link and the flows through it, packet by packet, in simulated time: tail drop, random
//! loss, a rate that changes, quinn's pacing, an acknowledgement for every second packet. There is a
//! link back of the same kind, in which acknowledgements wait behind the packets of flows that go there.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use super::super::LowDelay;
use super::super::cubic::Cubic;

const MTU: u64 = 1452;

/// What a packet with an acknowledgement alone takes of the link.
const ACK: u64 = 80;

pub(super) struct Link {
    /// Bytes per second, from a time on.
    pub(super) rates: Vec<(Duration, f64)>,
    /// Round trip without a queue, from a time on.
    pub(super) rtts: Vec<(Duration, Duration)>,
    pub(super) buffer: u64,
    pub(super) loss: f64,
}

impl Link {
    pub(super) fn new(megabits: f64, rtt_ms: u64, buffer: u64) -> Self {
        Self {
            rates: vec![(Duration::ZERO, megabits * 125_000.0)],
            rtts: vec![(Duration::ZERO, Duration::from_millis(rtt_ms))],
            buffer,
            loss: 0.0,
        }
    }

    pub(super) fn loss(mut self, loss: f64) -> Self {
        self.loss = loss;
        self
    }

    pub(super) fn rate_from(mut self, seconds: u64, megabits: f64) -> Self {
        self.rates.push((Duration::from_secs(seconds), megabits * 125_000.0));
        self
    }

    pub(super) fn rtt_from(mut self, seconds: u64, rtt_ms: u64) -> Self {
        self.rtts.push((Duration::from_secs(seconds), Duration::from_millis(rtt_ms)));
        self
    }

    fn at<T: Copy>(of: &[(Duration, T)], now: Duration) -> T {
        of.iter().rev().find(|(from, _)| *from <= now).unwrap_or(&of[0]).1
    }
}

pub(super) enum Control {
    LowDelay(Box<LowDelay>),
    Cubic { window: f64, threshold: f64, cubic: Option<Cubic>, changed: Instant },
}

impl Control {
    pub(super) fn low_delay() -> Self {
        Self::LowDelay(Box::new(LowDelay::new(Instant::now(), MTU as u16)))
    }

    pub(super) fn cubic() -> Self {
        Self::Cubic { window: 10.0, threshold: f64::MAX, cubic: None, changed: Instant::now() }
    }

    fn window(&self) -> u64 {
        match self {
            Self::LowDelay(control) => control.window(),
            Self::Cubic { window, .. } => (window * MTU as f64) as u64,
        }
    }
}

pub(super) struct Flow {
    control: Control,
    /// In which of the two directions it goes.
    way: usize,
    starts: Duration,
    ends: Duration,
    in_flight: u64,
    next: u64,
    outstanding: VecDeque<(u64, Duration)>,
    smoothed: Duration,
    tokens: f64,
    filled: Duration,
    waiting: bool,
    acked_at: Duration,
    unacked: Vec<u64>,
    /// When a packet arrived, and how long it was on its way.
    pub(super) arrivals: Vec<(Duration, Duration)>,
}

impl Flow {
    pub(super) fn new(control: Control, starts: u64, ends: u64) -> Self {
        Self {
            control,
            way: 0,
            starts: Duration::from_secs(starts),
            ends: Duration::from_secs(ends),
            in_flight: 0,
            next: 0,
            outstanding: VecDeque::new(),
            smoothed: Duration::from_millis(50),
            tokens: 0.0,
            filled: Duration::ZERO,
            waiting: false,
            acked_at: Duration::ZERO,
            unacked: Vec::new(),
            arrivals: Vec::new(),
        }
    }

    /// The same in the other direction.
    pub(super) fn back(self) -> Self {
        Self { way: 1, ..self }
    }

    /// Bytes per second that arrived between two times.
    pub(super) fn rate(&self, from: u64, to: u64) -> f64 {
        let (from, to) = (Duration::from_secs(from), Duration::from_secs(to));
        let n = self.arrivals.iter().filter(|(at, _)| (from..to).contains(at)).count() as u64;
        (n * MTU) as f64 / (to - from).as_secs_f64()
    }

    /// The share `p` of packets between two times took no longer than this.
    pub(super) fn delay(&self, p: f64, from: u64, to: u64) -> Duration {
        let (from, to) = (Duration::from_secs(from), Duration::from_secs(to));
        let within = self.arrivals.iter().filter(|(at, _)| (from..to).contains(at));
        let mut delays: Vec<_> = within.map(|&(_, delay)| delay).collect();
        delays.sort();
        let n = (delays.len() as f64 * p) as usize;
        delays.get(n.min(delays.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Send(usize),
    Arrive(usize, u64, Duration),
    /// Two packets or one, the newer first.
    Ack(usize, u64, Option<u64>),
    Check(usize),
}

pub(super) struct Model {
    pub(super) link: Link,
    pub(super) flows: Vec<Flow>,
    pub(super) drops: u64,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    count: u64,
    /// Until when each direction has something to carry.
    busy_until: [Duration; 2],
    random: u64,
    epoch: Instant,
}

impl Model {
    pub(super) fn new(link: Link, flows: Vec<Flow>) -> Self {
        Self {
            link,
            flows,
            drops: 0,
            events: BinaryHeap::new(),
            count: 0,
            busy_until: [Duration::ZERO; 2],
            random: 0x9e37_79b9_7f4a_7c15,
            epoch: Instant::now(),
        }
    }

    pub(super) fn run(mut self, seconds: u64) -> Self {
        for n in 0..self.flows.len() {
            let starts = self.flows[n].starts;
            self.at(starts, Event::Send(n));
            self.at(starts, Event::Check(n));
        }
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            if now >= Duration::from_secs(seconds) {
                break;
            }
            match event {
                Event::Send(n) => {
                    self.flows[n].waiting = false;
                    self.send(now, n);
                }
                Event::Arrive(n, packet, sent) => self.arrive(now, n, packet, sent),
                Event::Ack(n, packet, other) => self.ack(now, n, packet, other),
                Event::Check(n) => self.check(now, n),
            }
        }
        self
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.count += 1;
        self.events.push(Reverse((time, self.count, event)));
    }

    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn send(&mut self, now: Duration, n: usize) {
        loop {
            let flow = &mut self.flows[n];
            let window = flow.control.window();
            if now >= flow.ends || flow.in_flight + MTU >= window {
                return;
            }
            // quinn's pacer: 5/4 of a window a round trip, in bursts of up to 2 ms.
            let rate = 1.25 * window as f64 / flow.smoothed.as_secs_f64();
            let burst = (rate * 0.002).clamp(10.0 * MTU as f64, 256.0 * MTU as f64);
            flow.tokens = (flow.tokens + rate * (now - flow.filled).as_secs_f64()).min(burst);
            flow.filled = now;
            if flow.tokens < MTU as f64 {
                if !flow.waiting {
                    flow.waiting = true;
                    let wait = Duration::from_secs_f64(burst * 0.8 / rate);
                    self.at(now + wait, Event::Send(n));
                }
                return;
            }
            flow.tokens -= MTU as f64;
            let packet = flow.next;
            flow.next += 1;
            flow.in_flight += MTU;
            flow.outstanding.push_back((packet, now));
            self.transmit(now, n, packet);
        }
    }

    fn transmit(&mut self, now: Duration, n: usize, packet: u64) {
        let lost = self.chance() < self.link.loss;
        let rate = Link::at(&self.link.rates, now);
        let busy_until = &mut self.busy_until[self.flows[n].way];
        let queued = busy_until.saturating_sub(now).as_secs_f64() * rate;
        if queued + MTU as f64 > self.link.buffer as f64 {
            self.drops += 1;
            return;
        }
        *busy_until = (*busy_until).max(now) + Duration::from_secs_f64(MTU as f64 / rate);
        let through = *busy_until;
        if !lost {
            let half = Link::at(&self.link.rtts, now) / 2;
            self.at(through + half, Event::Arrive(n, packet, now));
        }
    }

    fn arrive(&mut self, now: Duration, n: usize, packet: u64, sent: Duration) {
        let flow = &mut self.flows[n];
        flow.arrivals.push((now, now - sent));
        flow.unacked.push(packet);
        if packet % 2 == 1 || flow.unacked.len() > 1 {
            let acked = std::mem::take(&mut flow.unacked);
            let other = (acked.len() > 1).then(|| acked[0]);
            let rate = Link::at(&self.link.rates, now);
            let back = &mut self.busy_until[1 - flow.way];
            *back = (*back).max(now) + Duration::from_secs_f64(ACK as f64 / rate);
            let through = *back;
            let half = Link::at(&self.link.rtts, now) / 2;
            self.at(through + half, Event::Ack(n, packet, other));
        }
    }

    fn ack(&mut self, now: Duration, n: usize, packet: u64, other: Option<u64>) {
        let clock = |at: Duration| self.epoch + at;
        let way = self.flows[n].way;
        let others = self.flows.iter().filter(|flow| flow.way != way);
        let received = others.map(|flow| flow.arrivals.len() as u64 * MTU).sum();
        let flow = &mut self.flows[n];
        flow.acked_at = now;
        if let Control::LowDelay(control) = &mut flow.control {
            control.received(clock(now), received);
        }
        let mut newest = None;
        for packet in [Some(packet), other].into_iter().flatten() {
            let found = flow.outstanding.iter().position(|&(p, _)| p == packet);
            let Some(place) = found else { continue };
            let (_, sent) = flow.outstanding.remove(place).unwrap();
            newest = newest.max(Some(sent));
            flow.in_flight -= MTU;
            match &mut flow.control {
                Control::LowDelay(control) => control.acked(clock(sent), MTU),
                Control::Cubic { window, threshold, .. } if *window < *threshold => *window += 1.0,
                Control::Cubic { window, cubic: Some(cubic), changed, .. } => {
                    if clock(sent) >= *changed {
                        *window = cubic.grown(*window, 1.0, flow.smoothed, clock(now));
                    }
                }
                Control::Cubic { .. } => {}
            }
        }
        let Some(sent) = newest else { return };
        flow.smoothed = (flow.smoothed * 7 + (now - sent)) / 8;
        if let Control::LowDelay(control) = &mut flow.control {
            control.end_acks(clock(now), flow.in_flight, false);
        }
        let mut lost = 0;
        let mut last = sent;
        while flow.outstanding.front().is_some_and(|&(p, _)| p + 3 <= packet) {
            last = flow.outstanding.pop_front().unwrap().1;
            lost += MTU;
        }
        self.lose(now, n, last, lost, false);
        self.send(now, n);
    }

    fn lose(&mut self, now: Duration, n: usize, sent: Duration, bytes: u64, persistent: bool) {
        if bytes == 0 {
            return;
        }
        let clock = |at: Duration| self.epoch + at;
        let flow = &mut self.flows[n];
        flow.in_flight -= bytes;
        match &mut flow.control {
            Control::LowDelay(control) => control.lost(clock(now), clock(sent), bytes, persistent),
            Control::Cubic { window, threshold, cubic, changed } => {
                if clock(sent) >= *changed || *threshold == f64::MAX {
                    let mut state =
                        cubic.take().unwrap_or_else(|| Cubic::reduced_to(*window, clock(now)));
                    *window = state.reduce(*window, clock(now)).max(2.0);
                    *threshold = *window;
                    *changed = clock(now);
                    *cubic = Some(state);
                }
            }
        }
    }

    /// A flow that hears nothing for a second takes all for lost.
    fn check(&mut self, now: Duration, n: usize) {
        let flow = &mut self.flows[n];
        if now - flow.acked_at.max(flow.starts) > Duration::from_secs(1)
            && !flow.outstanding.is_empty()
        {
            let bytes = flow.outstanding.len() as u64 * MTU;
            let last = flow.outstanding.back().unwrap().1;
            flow.outstanding.clear();
            flow.acked_at = now;
            self.lose(now, n, last, bytes, true);
        }
        self.send(now, n);
        self.at(now + Duration::from_millis(250), Event::Check(n));
    }
}
