//! One direction of a link.

use std::time::Duration;

use tokio::time::Instant;

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
    /// Bit n: the packet with number n, counted from 0, vanishes.
    pub(crate) lose: u64,
    /// Packets that pass before the pipe is cut by itself; `None` is without limit.
    pub(crate) carries: Option<u64>,
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
            lose: 0,
            carries: None,
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
pub(crate) struct PipeId(pub(super) usize);

pub(super) struct Running {
    pub(super) pipe: Pipe,
    pub(super) counts: Counts,
    busy_until: Instant,
    random: u64,
}

/// When a packet arrives, and how.
pub(super) struct Passage {
    pub(super) at: Instant,
    /// The byte in which a bit is flipped.
    pub(super) flipped: Option<usize>,
    pub(super) twice: bool,
}

impl Running {
    pub(super) fn new(pipe: Pipe, seed: u64) -> Self {
        // Neighbouring seeds are to have nothing in common, and zero would stay zero.
        let random = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { pipe, counts: Counts::default(), busy_until: Instant::now(), random }
    }

    /// A number from 0 up to 1 (xorshift64*).
    fn chance(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Takes a packet; `None` if it does not arrive.
    pub(super) fn pass(&mut self, now: Instant, len: usize) -> Option<Passage> {
        // As many whatever comes of them, so that one packet's fate does not change the next one's.
        let draws = [(); 6].map(|()| self.chance());
        let pipe = &mut self.pipe;
        let size = len as u64 + HEADERS;
        let number = self.counts.packets;
        self.counts.packets += 1;
        let chosen = number < 64 && pipe.lose >> number & 1 == 1;
        let exhausted = pipe.carries == Some(0);
        if pipe.cut || chosen || exhausted || len > pipe.mtu || draws[0] < pipe.loss {
            self.counts.vanished += 1;
            return None;
        }
        if let Some(left) = &mut pipe.carries {
            *left -= 1;
        }
        let mut at = now;
        if let Some(rate) = pipe.rate {
            let waiting = self.busy_until.duration_since(now).as_secs_f64() * rate;
            if waiting + size as f64 > pipe.queue as f64 {
                self.counts.overflowed += 1;
                return None;
            }
            self.busy_until =
                self.busy_until.max(now) + Duration::from_secs_f64(size as f64 / rate);
            at = self.busy_until;
        }
        self.counts.bytes += size;
        at += pipe.delay;
        if draws[1] < pipe.reorder {
            at += pipe.late.mul_f64(draws[2]);
        }
        let flipped = (draws[3] < pipe.corrupt).then_some((draws[4] * size as f64) as usize);
        Some(Passage { at, flipped, twice: draws[5] < pipe.duplicate })
    }
}
