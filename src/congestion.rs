//! The low-delay congestion controller: keeps the queue in the network about a millisecond long.
//!
//! What is in flight cannot be overtaken, whatever its lane's priority, so gossip waits as long as the
//! queue of the narrowest link. Cubic fills that queue until it overflows; this controller watches how
//! long the queue is. It starts from Copa (Arun and Balakrishnan, NSDI 2018):
//!
//! * The *standing* RTT, the least of the last half round trip, is free of the jitter of single
//!   acknowledgements; the *base* RTT is the least that was seen. What lies between is the queue.
//! * While the standing RTT is within what is allowed (base, a tolerated delay, and what two packets
//!   of this flow take), the window grows by two packets a round trip times a *velocity*, which
//!   doubles from the fourth round on.
//!
//! and differs from it in these points:
//!
//! * **A tolerated delay** (as Swift's target, SIGCOMM 2020): a millisecond of scheduling noise is no
//!   congestion.
//! * **The cut is multiplicative**, once a round trip, to `window × base / standing`: exactly the queue
//!   leaves. Additive growth and multiplicative cuts make two flows converge (Chiu and Jain, 1989),
//!   where Copa's additive steps do so only as precisely as delays are measured; and since each
//!   cut empties the queue, the base RTT is seen again every few rounds.
//! * **Startup** looks at the first samples of a round (HyStart++, RFC 9406), and goes on with what the
//!   path was measured to deliver, not with half of the window.
//! * **A risen base RTT**: if four cuts in a row do not shorten the queue, it is not this flow's. Little
//!   is kept in flight for a round trip, and the RTT then is the new base: the route has changed. Or
//!   someone keeps the buffer full; a flow that is then pushed below 0.4 of its former rate *competes*:
//!   it takes Cubic's way (RFC 9438) until a drained round shows that the other is gone.
//! * **Losses** alone do not shrink the window, unless they are more than 5 % of the packets: a buffer
//!   shorter than the tolerated delay says no more than that.
//!
//! Pure: time comes in as an argument.

mod cubic;
mod rtt;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use cubic::Cubic;
use rtt::{Delivery, Standing};

/// Queueing delay that is not taken for congestion.
const TOLERATED: Duration = Duration::from_millis(1);

/// Packets of this flow that may stand in the queue beyond the tolerated delay: Copa's 1/δ.
const PACKETS: f64 = 2.0;

const MIN_PACKETS: f64 = 4.0;
const INITIAL_PACKETS: f64 = 10.0;

/// The least span over which the standing RTT is a minimum.
const STANDING: Duration = Duration::from_millis(2);

/// A cut leaves at least this part of the window.
const DEEPEST_CUT: f64 = 0.3;

/// A round's growth at most, as a part of the window.
const STEEPEST: f64 = 0.25;

/// How long a base RTT is believed in without a sample near it.
const BASE_LIFE: Duration = Duration::from_secs(10);

/// Cuts in a row, each meant to empty the queue, after which it is doubted that the queue is ours.
const DOUBT: u32 = 4;

/// The part of what the path holds that is left in flight while the queue is drained.
const DRAINED: f64 = 0.5;

/// What a flow that fills the buffer adds to the RTT at least.
const FILLED: Duration = Duration::from_millis(5);

/// The part of its former rate below which a flow whose base RTT has risen takes the rise for a
/// competitor's queue, and the part that it then claims.
const PUSHED_ASIDE: f64 = 0.4;
const CLAIM: f64 = 0.5;

/// For how long a risen base RTT is suspicious.
const SUSPICION: Duration = Duration::from_secs(30);

/// Checks in a row beyond the first that find the same RTT in a drained round, after which that is
/// taken for the base.
const SAME: u32 = 2;

/// How often a competitor's presence is checked.
const PROBE: Duration = Duration::from_secs(5);

/// How many samples of a round of the startup are looked at.
const HEAD: u32 = 8;

/// Losses beyond this part of the packets are taken for congestion, whatever the delay.
const LOSS_LIMIT: f64 = 0.05;
/// Packets over which losses are counted.
const LOSS_SPAN: f64 = 100.0;

/// The controller of one path; see the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct LowDelay {
    mtu: f64,
    /// Bytes that may be in flight.
    window: f64,
    standing: Standing,
    delivery: Delivery,
    smoothed: Option<Duration>,
    base: Option<Base>,
    phase: Phase,
    batch: Option<Batch>,
    last_ack: Option<Instant>,
    /// Packets sent from here on show what the last change of the window did.
    changed: Option<Instant>,
    losses: Losses,
    /// Since the base RTT had to be raised.
    suspicion: Option<Suspicion>,
}

/// The base RTT has risen: by a new route, or by a competitor that keeps the buffer full.
#[derive(Debug, Clone, Copy)]
struct Suspicion {
    /// The base RTT before.
    floor: Duration,
    /// Bytes per second before.
    rate: f64,
    /// The rate counts from here on.
    from: Instant,
}

/// The RTT of an empty queue, as far as is known.
#[derive(Debug, Clone, Copy)]
struct Base {
    rtt: Duration,
    /// When it was last seen.
    seen: Instant,
}

#[derive(Debug, Clone)]
enum Phase {
    /// Doubling per round trip until the queue shows.
    Startup(Startup),
    Steady(Steady),
    Drain(Drain),
    /// Beside a flow that only losses stop.
    Competing(Competing),
}

#[derive(Debug, Clone)]
struct Competing {
    cubic: Cubic,
    /// The RTT without the other's queue.
    floor: Duration,
    /// When the other's presence was last checked.
    checked: Instant,
    /// What the last check found, and how often it was the same in a row.
    drained: Option<Duration>,
    same: u32,
}

/// A round of the startup. Its first samples are its least: a round leaves as a train of packets at
/// twice the rate of the link, whose tail queues behind its head (HyStart++, RFC 9406, section 4.2).
#[derive(Debug, Clone)]
struct Startup {
    round: Instant,
    samples: u32,
    least: Duration,
}

#[derive(Debug, Clone)]
struct Steady {
    /// Copa's velocity: packets per round trip, over `PACKETS`.
    velocity: f64,
    /// Rounds of growth since the last cut.
    rounds: u32,
    round: Instant,
    cuts: u32,
    /// The window before the cuts in a row, and what the path delivered then, in bytes per second.
    before: f64,
    rate: f64,
}

/// Holds little in flight for one round trip, to see the RTT of an empty queue.
#[derive(Debug, Clone)]
struct Drain {
    /// Goes on with this window.
    restore: f64,
    /// Bytes per second before the queue came.
    before: f64,
    target: f64,
    begun: Instant,
    /// Since when little enough has been in flight.
    empty: Option<Instant>,
    least: Option<Duration>,
    competing: Option<Competing>,
}

/// The acknowledgements of one packet.
#[derive(Debug, Clone, Copy)]
struct Batch {
    bytes: u64,
    newest: Instant,
}

#[derive(Debug, Clone, Default)]
struct Losses {
    acked: f64,
    lost: f64,
}

impl LowDelay {
    pub(crate) fn new(now: Instant, mtu: u16) -> Self {
        let mtu = f64::from(mtu);
        Self {
            mtu,
            window: INITIAL_PACKETS * mtu,
            standing: Standing::default(),
            delivery: Delivery::default(),
            smoothed: None,
            base: None,
            phase: Phase::Startup(Startup::new(now)),
            batch: None,
            last_ack: None,
            changed: None,
            losses: Losses::default(),
            suspicion: None,
        }
    }

    pub(crate) fn window(&self) -> u64 {
        self.window as u64
    }

    pub(crate) fn initial_window(&self) -> u64 {
        (INITIAL_PACKETS * self.mtu) as u64
    }

    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.mtu = f64::from(mtu);
        self.window = self.window.max(MIN_PACKETS * self.mtu);
    }

    /// One packet, sent at `sent`, was acknowledged; `end_acks` follows.
    pub(crate) fn acked(&mut self, sent: Instant, bytes: u64) {
        let batch = self.batch.get_or_insert(Batch { bytes: 0, newest: sent });
        batch.bytes += bytes;
        batch.newest = batch.newest.max(sent);
    }

    /// All that one packet acknowledged has been told of.
    pub(crate) fn end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool) {
        let Some(batch) = self.batch.take() else { return };
        self.measure(now, batch);
        self.losses.acked += batch.bytes as f64 / self.mtu;
        match &self.phase {
            Phase::Drain(_) => self.drain(now, batch, in_flight),
            _ if app_limited => {}
            Phase::Startup(_) => self.start_up(now, batch),
            Phase::Steady(_) => self.steady(now, batch),
            Phase::Competing(_) => self.compete(now, batch),
        }
    }

    /// Packets were lost, the last of which was sent at `sent`; no bytes means a congestion mark.
    pub(crate) fn lost(&mut self, now: Instant, sent: Instant, bytes: u64, persistent: bool) {
        if persistent {
            self.window = MIN_PACKETS * self.mtu;
            self.phase = Phase::Startup(Startup::new(now));
            self.delivery.clear();
            self.changed = Some(now);
            return;
        }
        self.losses.lost += bytes as f64 / self.mtu;
        let fresh = self.changed.is_none_or(|changed| sent >= changed);
        if !fresh {
            return;
        }
        if let Phase::Competing(competing) = &mut self.phase {
            let packets = self.window / self.mtu;
            self.window = competing.cubic.reduce(packets, now) * self.mtu;
            self.changed = Some(now);
        } else if bytes == 0 || self.losses.beyond_limit() {
            self.losses = Losses::default();
            self.cut_to(now, self.window * 0.7);
        }
        self.clamp();
    }

    fn measure(&mut self, now: Instant, batch: Batch) {
        let sample = now.duration_since(batch.newest);
        let smoothed = self.smoothed.map_or(sample, |smoothed| (smoothed * 7 + sample) / 8);
        self.smoothed = Some(smoothed);
        if self.last_ack.is_some_and(|last| now.duration_since(last) > smoothed * 2 + STANDING) {
            self.delivery.clear();
        }
        self.last_ack = Some(now);
        self.standing.add(now, sample, (smoothed / 2).max(STANDING));
        self.delivery.add(now, batch.bytes, smoothed);
        let far = self.base.is_some_and(|base| sample > base.rtt + TOLERATED / 8);
        if !far {
            let rtt = self.base.map_or(sample, |base| base.rtt.min(sample));
            self.base = Some(Base { rtt, seen: now });
        }
    }

    /// The standing RTT and the base RTT; both are known once something was acknowledged.
    fn rtts(&self) -> Option<(Duration, Base)> {
        Some((self.standing.rtt()?, self.base?))
    }

    /// How long the RTT may be: base, tolerated delay, and what this flow's few packets take.
    fn allowed(&self, standing: Duration, base: Base) -> Duration {
        let share = PACKETS * self.mtu / self.window;
        base.rtt + TOLERATED + standing.mul_f64(share.min(1.0))
    }

    fn start_up(&mut self, now: Instant, batch: Batch) {
        self.window += batch.bytes as f64;
        let Some((standing, base)) = self.rtts() else { return };
        let allowed = self.allowed(standing, base);
        let Phase::Startup(startup) = &mut self.phase else { return };
        if batch.newest >= startup.round {
            *startup = Startup::new(now);
        }
        if startup.samples >= HEAD {
            return;
        }
        startup.samples += 1;
        startup.least = startup.least.min(now.duration_since(batch.newest));
        if startup.samples == HEAD && startup.least > allowed {
            // What the path delivers is known by now, and the window is up to twice of it.
            let rate = self.delivery.rate(now).unwrap_or(0.0);
            self.cut_to(now, (rate * base.rtt.as_secs_f64()).min(self.window));
        }
    }

    /// Goes on in the steady state with a smaller window.
    fn cut_to(&mut self, now: Instant, window: f64) {
        let mut next = Steady::new(now);
        (next.cuts, next.before) = (1, self.window);
        next.rate = self.delivery.rate(now).unwrap_or(0.0);
        if let Phase::Steady(steady) = &self.phase
            && steady.cuts > 0
        {
            (next.cuts, next.before, next.rate) = (steady.cuts + 1, steady.before, steady.rate);
        }
        self.phase = Phase::Steady(next);
        self.window = window;
        self.changed = Some(now);
        self.clamp();
    }

    fn clamp(&mut self) {
        self.window = self.window.max(MIN_PACKETS * self.mtu);
    }

    fn steady(&mut self, now: Instant, batch: Batch) {
        // What was sent before the last cut tells nothing about it.
        if self.changed.is_some_and(|changed| batch.newest < changed) {
            return;
        }
        let Some((standing, base)) = self.rtts() else { return };
        if let Some(suspicion) = self.is_pushed_aside(now, standing) {
            return self.begin_competing(now, standing, suspicion);
        }
        let allowed = self.allowed(standing, base);
        let mtu = self.mtu;
        let Phase::Steady(steady) = &mut self.phase else { return };
        if standing > allowed {
            if steady.cuts >= DOUBT {
                let (restore, rate) = (steady.before, steady.rate);
                self.begin_drain(now, restore, rate, base, None);
                return;
            }
            let factor = base.rtt.as_secs_f64() / standing.as_secs_f64();
            self.cut_to(now, self.window * factor.max(DEEPEST_CUT));
            return;
        }
        if now.duration_since(base.seen) > BASE_LIFE {
            let restore = self.window;
            self.begin_drain(now, restore, 0.0, base, None);
            return;
        }
        if batch.newest >= steady.round {
            steady.round = now;
            steady.rounds += 1;
            steady.cuts = 0;
            if steady.rounds > 3 {
                steady.velocity *= 2.0;
            }
        }
        steady.velocity = steady.velocity.min((self.window * STEEPEST / (PACKETS * mtu)).max(1.0));
        self.window += steady.velocity * PACKETS * mtu * batch.bytes as f64 / self.window;
    }

    fn begin_drain(
        &mut self,
        now: Instant,
        restore: f64,
        before: f64,
        base: Base,
        competing: Option<Competing>,
    ) {
        let rate = self.delivery.rate(now).unwrap_or(0.0);
        let target =
            (rate * base.rtt.as_secs_f64() * DRAINED).min(self.window).max(MIN_PACKETS * self.mtu);
        self.window = target;
        self.phase = Phase::Drain(Drain {
            restore,
            before,
            target,
            begun: now,
            empty: None,
            least: None,
            competing,
        });
    }

    fn drain(&mut self, now: Instant, batch: Batch, in_flight: u64) {
        let Some((standing, base)) = self.rtts() else { return };
        let Phase::Drain(drain) = &mut self.phase else { return };
        let Some(empty) = drain.empty else {
            let late = now.duration_since(drain.begun) > standing * 3;
            if in_flight as f64 <= drain.target || late {
                drain.empty = Some(now);
            }
            return;
        };
        if batch.newest < empty {
            return;
        }
        let sample = now.duration_since(batch.newest);
        let least = *drain.least.insert(drain.least.map_or(sample, |least| least.min(sample)));
        // One round trip of samples.
        if now.duration_since(empty) < least * 2 {
            return;
        }
        let drain = drain.clone();
        self.end_drain(now, drain, least, base);
    }

    fn end_drain(&mut self, now: Instant, drain: Drain, least: Duration, base: Base) {
        self.window = drain.restore;
        self.changed = Some(now);
        self.standing.clear();
        if let Some(mut competing) = drain.competing {
            // A competitor's queue does not stay as it is.
            let near = TOLERATED.max(least / 100);
            let again = competing.drained.is_some_and(|before| least.abs_diff(before) <= near);
            competing.same = if again { competing.same + 1 } else { 0 };
            if least <= competing.floor + FILLED || competing.same >= SAME {
                self.base = Some(Base { rtt: least, seen: now });
                self.suspicion = None;
                self.cut_to(now, self.window.min(drain.target / DRAINED));
            } else {
                (competing.checked, competing.drained) = (now, Some(least));
                self.phase = Phase::Competing(competing);
            }
            return;
        }
        self.base = Some(Base { rtt: least, seen: now });
        if least > base.rtt + FILLED {
            let floor = self.suspicion.map_or(base.rtt, |suspicion| suspicion.floor.min(base.rtt));
            let rate = self.suspicion.map_or(drain.before, |s| s.rate.max(drain.before));
            self.suspicion = Some(Suspicion { floor, rate, from: now + least * 4 });
            self.window = self.window.max(CLAIM * rate * least.as_secs_f64());
        }
        self.phase = Phase::Steady(Steady::new(now));
    }

    /// Whether this flow is being pushed aside.
    fn is_pushed_aside(&mut self, now: Instant, standing: Duration) -> Option<Suspicion> {
        let suspicion = self.suspicion?;
        let past = now > suspicion.from + SUSPICION;
        if past || standing < suspicion.floor + FILLED {
            self.suspicion = None;
            return None;
        }
        let rate = self.delivery.rate(now)?;
        (now > suspicion.from && rate < PUSHED_ASIDE * suspicion.rate).then_some(suspicion)
    }

    /// Takes Cubic's way, from half of the rate that this flow had alone.
    fn begin_competing(&mut self, now: Instant, rtt: Duration, suspicion: Suspicion) {
        self.window = self.window.max(CLAIM * suspicion.rate * rtt.as_secs_f64());
        let cubic = Cubic::reduced_to(self.window / self.mtu, now);
        let floor = suspicion.floor;
        self.changed = Some(now);
        self.phase =
            Phase::Competing(Competing { cubic, floor, checked: now, drained: None, same: 0 });
    }

    fn compete(&mut self, now: Instant, batch: Batch) {
        let Some((standing, base)) = self.rtts() else { return };
        let Phase::Competing(competing) = &mut self.phase else { return };
        if standing <= competing.floor + TOLERATED {
            self.base = Some(Base { rtt: standing, seen: now });
            self.suspicion = None;
            self.cut_to(now, self.window);
            return;
        }
        if now.duration_since(competing.checked) > PROBE.max(standing * 16) {
            let (competing, restore) = (competing.clone(), self.window);
            let base = Base { rtt: competing.floor, ..base };
            self.begin_drain(now, restore, 0.0, base, Some(competing));
            return;
        }
        if self.changed.is_some_and(|changed| batch.newest < changed) {
            return;
        }
        let acked = batch.bytes as f64 / self.mtu;
        let srtt = self.smoothed.unwrap_or(standing);
        let cubic = &competing.cubic;
        self.window = cubic.grown(self.window / self.mtu, acked, srtt, now) * self.mtu;
    }
}

impl Steady {
    fn new(now: Instant) -> Self {
        Self { velocity: 1.0, rounds: 0, round: now, cuts: 0, before: 0.0, rate: 0.0 }
    }
}

impl Startup {
    fn new(now: Instant) -> Self {
        Self { round: now, samples: 0, least: Duration::MAX }
    }
}

impl Losses {
    fn beyond_limit(&mut self) -> bool {
        if self.acked + self.lost > LOSS_SPAN * 2.0 {
            self.acked /= 2.0;
            self.lost /= 2.0;
        }
        self.lost > 3.0
            && self.acked + self.lost > LOSS_SPAN
            && self.lost > LOSS_LIMIT * (self.acked + self.lost)
    }
}
