//! The startup: doubling per round trip until the queue shows, then a quarter per round trip until it
//! shows again.
//!
//! A queue is heard of a round trip after it has begun, and a window that doubles sends at up to twice
//! the rate of the link meanwhile: 0.44 of what the path holds waits by then, the area between an
//! exponential and where it began (0.8 over 40 ms, as a tolerated delay is heard of later still). At a
//! quarter a round it is 0.12. Therefore:
//!
//! * The RTT is looked at all the time, not once a round as HyStart++ does (RFC 9406, section 4.2),
//!   which costs up to a second doubling. quinn sends in bursts whose tail waits behind their head,
//!   however empty the path, so it is the least RTT of a group of packets longer than a burst.
//! * The first sign of a queue ends the doubling, not the startup (RFC 9406's conservative slow start).
//!   The window falls to what the last round trip delivered, 0.7 of what the path holds since the rate
//!   grew in it, and goes on by a quarter a round. So a false sign costs little.
//! * After the second sign about 0.9 is known, and the steady state begins with larger steps.

use std::time::{Duration, Instant};

use super::steady::Steady;
use super::{Batch, LowDelay, PACKETS, Phase};

/// How many packets a group has at least, and how long it takes. quinn's bursts are of at least ten
/// packets, and two milliseconds apart.
const GROUP: f64 = 15.0;
const SPAN: Duration = Duration::from_micros(2500);

/// The window's growth per round trip after the first sign of a queue (RFC 9406 divides by four), and
/// the one with which the steady state begins.
const GENTLE: f64 = 0.25;
const LAST: f64 = 0.0625;

#[derive(Debug, Clone)]
pub(super) struct Startup {
    /// After the first sign of a queue.
    gentle: bool,
    group: Group,
}

/// Packets of which the least RTT is taken.
#[derive(Debug, Clone)]
struct Group {
    since: Instant,
    packets: f64,
    least: Duration,
}

impl Startup {
    pub(super) fn new(now: Instant) -> Self {
        Self { gentle: false, group: Group::new(now) }
    }
}

impl Group {
    fn new(now: Instant) -> Self {
        Self { since: now, packets: 0.0, least: Duration::MAX }
    }

    /// The least RTT, when the group is complete; the next one begins.
    fn add(&mut self, now: Instant, rtt: Duration, packets: f64) -> Option<Duration> {
        self.packets += packets;
        self.least = self.least.min(rtt);
        let complete = self.packets >= GROUP && now.duration_since(self.since) >= SPAN;
        complete.then(|| std::mem::replace(self, Self::new(now)).least)
    }
}

impl LowDelay {
    pub(super) fn start_up(&mut self, now: Instant, batch: Batch, app_limited: bool) {
        // What was sent before the window fell tells nothing about it.
        if self.changed.is_some_and(|changed| batch.newest < changed) {
            return;
        }
        let Some((standing, base)) = self.rtts() else { return };
        let allowed = self.allowed(standing, base);
        let mtu = self.mtu;
        let Phase::Startup(startup) = &mut self.phase else { return };
        if !app_limited {
            self.window += batch.bytes as f64 * if startup.gentle { GENTLE } else { 1.0 };
        }
        let rtt = now.duration_since(batch.newest);
        let least = startup.group.add(now, rtt, batch.bytes as f64 / mtu);
        if least.is_none_or(|least| least <= allowed) {
            return;
        }
        let delivered = self.delivery.rate(now).unwrap_or(0.0) * base.rtt.as_secs_f64();
        let again = std::mem::replace(&mut startup.gentle, true);
        self.window = self.window.min(delivered);
        self.changed = Some(now);
        self.clamp();
        if again {
            let velocity = (LAST * self.window / (PACKETS * mtu)).max(1.0);
            self.phase = Phase::Steady(Steady { velocity, ..Steady::new(now) });
        }
    }
}
