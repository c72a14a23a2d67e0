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
//! * **Startup** has two speeds (HyStart++, RFC 9406), and goes on with what the path was measured to
//!   deliver, not with half of the window; see `startup`.
//! * **A sender that has less to send** than the window allows does not grow it, but as long as it uses
//!   half of it, the queue may be its own, and cuts it.
//! * **A queue that stays**: if four cuts in a row do not end the queue, it is not this flow's. Little
//!   is kept in flight for a round trip, and the RTT then is the new base: the route has changed. Or
//!   someone keeps the buffer full; a flow that is then pushed below 0.4 of its former rate *competes*:
//!   it takes Cubic's way (RFC 9438) until a drained round shows that the other is gone.
//! * **Losses** shrink the window while the flow competes, and otherwise only if they are more than 5 %
//!   of the packets: nothing else tells of a buffer that is shorter than the tolerated delay. A mark of
//!   explicit congestion notification (RFC 3168) always does.
//! * **The other direction** is told of by what is received: while it is busy too, its queue is in the
//!   RTT, and no cut ends it; see `reverse`.
//!
//! A file for each phase: `startup`, `steady`, `drain`, `competing`; here is what they share.
//!
//! Pure: time comes in as an argument.

mod competing;
mod cubic;
mod drain;
mod reverse;
mod rtt;
mod startup;
mod steady;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use competing::{Competing, Suspicion};
use drain::Drain;
use reverse::{Lately, Reverse};
use rtt::{Delivery, Peak, Standing};
use startup::Startup;
use steady::Steady;

/// Queueing delay that is not taken for congestion.
const TOLERATED: Duration = Duration::from_millis(1);

/// Packets of this flow that may stand in the queue beyond the tolerated delay: Copa's 1/δ.
const PACKETS: f64 = 2.0;

const MIN_PACKETS: f64 = 4.0;
const INITIAL_PACKETS: f64 = 10.0;

/// The least span over which the standing RTT is a minimum.
const STANDING: Duration = Duration::from_millis(2);

/// Losses beyond this part of the packets are taken for congestion, whatever the delay.
const LOSS_LIMIT: f64 = 0.05;
/// What such losses leave of the window.
const AFTER_LOSS: f64 = 0.7;
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
    peak: Peak,
    reverse: Reverse,
    lately: Lately,
    smoothed: Option<Duration>,
    base: Option<Base>,
    phase: Phase,
    batch: Option<Batch>,
    last_ack: Option<Instant>,
    /// Packets sent from here on show what the last change of the window did.
    changed: Option<Instant>,
    losses: Losses,
    /// When cuts did not end the queue last.
    doubted: Option<Instant>,
    /// That a queue is not this flow's.
    suspicion: Option<Suspicion>,
    /// The longer RTT that drained rounds found, and how often in a row beyond the first.
    risen: Option<(Duration, u32)>,
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
            peak: Peak::default(),
            reverse: Reverse::default(),
            lately: Lately::default(),
            smoothed: None,
            base: None,
            phase: Phase::Startup(Startup::new(now)),
            batch: None,
            last_ack: None,
            changed: None,
            losses: Losses::default(),
            doubted: None,
            suspicion: None,
            risen: None,
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

    /// So many bytes have been received on the path, all in all.
    pub(crate) fn received(&mut self, now: Instant, total: u64) {
        self.reverse.add(now, total, self.smoothed.unwrap_or(STANDING));
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
        // A window of which less than half is used is not what makes the queue.
        let unused = app_limited && ((in_flight + batch.bytes) as f64) < self.window / 2.0;
        match &self.phase {
            Phase::Drain(_) => self.drain(now, batch, in_flight),
            _ if unused => {}
            Phase::Startup(_) => self.start_up(now, batch, app_limited),
            Phase::Steady(_) => self.steady(now, batch, app_limited),
            Phase::Competing(_) if app_limited => {}
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
            if let Phase::Drain(drain) = &mut self.phase {
                // Little is in flight already: the cut is for what is gone on with.
                drain.restore *= AFTER_LOSS;
                self.changed = Some(now);
            } else {
                self.cut_to(now, self.window * AFTER_LOSS);
            }
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
        let span = if self.is_reverse_busy() { smoothed * 2 } else { smoothed / 2 };
        self.standing.add(now, sample, span.max(STANDING));
        self.delivery.add(now, batch.bytes, smoothed);
        self.lately.add(now, batch.bytes, smoothed);
        if let Some(rate) = self.delivery.rate(now)
            && self.delivery.span(now) >= smoothed / 2
        {
            self.peak.add(now, rate);
        }
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
        let own = TOLERATED + standing.mul_f64(share.min(1.0));
        // The flow in the other direction keeps as long a queue.
        base.rtt + if self.is_reverse_busy() { own * 2 } else { own }
    }

    /// Goes on in the steady state with a smaller window.
    fn cut_to(&mut self, now: Instant, window: f64) {
        let mut next = Steady::new(now);
        (next.cuts, next.before) = (1, self.window);
        if let Phase::Steady(steady) = &self.phase
            && steady.cuts > 0
        {
            (next.cuts, next.before) = (steady.cuts + 1, steady.before);
        }
        self.phase = Phase::Steady(next);
        self.window = window;
        self.changed = Some(now);
        self.clamp();
    }

    fn clamp(&mut self) {
        self.window = self.window.max(MIN_PACKETS * self.mtu);
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
