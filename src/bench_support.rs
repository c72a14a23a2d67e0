//! The private steps that `benches/micro.rs` measures, and the parts that a node's endpoint is made of, so
//! that the bare quinn in `benches/throughput` has the same settings, always. No part of the API: anything here may change or
//! go at any time.
//!
//! A benchmark sees what users see, and these steps are private for good reason. Including their files
//! in the benchmark by path would measure a copy that is compiled differently; a cargo feature would be
//! as public as this module, and shown to everybody who looks for features.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::address::Incarnation;
use crate::association::{Association, Input, LinkId, Timing};
use crate::control::Instance;
use crate::error::AssociationError;
use crate::frame::{self, FrameDecoder, RemoteTellRef, TellDecoder, next_frame};
use crate::lane::Lane;
use crate::outbound::{Budget, Patience, Taken, TellLane};

pub use crate::backend::quic::{Parts, open_socket, parts};

/// Appends a tell's frame.
pub fn encode(tell: &RemoteTellRef<'_>, buf: &mut BytesMut) {
    frame::encode_tell(tell, tell.encoded_len() as u32, buf);
}

/// The lane of a target path.
pub fn lane_of(target_path: &str, lanes: u8) -> u8 {
    Lane::of_target(target_path, lanes)
}

/// The receiving side of a stream: cuts chunks into frames, and decodes them.
#[derive(Debug, Default)]
pub struct Cutter(FrameDecoder);

impl Cutter {
    /// Takes the stream's next chunks; returns how many tells they completed, and the payloads' bytes.
    pub fn take(&mut self, chunks: &mut Vec<Bytes>) -> (u64, usize) {
        let Ok(Some(run)) = self.0.push_all(chunks) else { return (0, 0) };
        let (mut tells, mut bytes) = (0, 0);
        let mut decoder = TellDecoder::default();
        for piece in &run.pieces {
            let mut rest = &piece[..];
            while let Some(frame) = next_frame(&mut rest) {
                if let Ok(tell) = decoder.decode(frame) {
                    tells += 1;
                    bytes += tell.payload.len();
                }
            }
        }
        (tells, bytes)
    }
}

/// One lane's outbound queue with a writer.
#[derive(Debug)]
pub struct Queue {
    lane: TellLane,
    epoch: u64,
}

impl Default for Queue {
    fn default() -> Self {
        let lane = TellLane::new(32 << 20, Arc::new(Budget::new(1 << 30)));
        let epoch = lane.attach(None).map_or(0, |attached| attached.epoch);
        Self { lane, epoch }
    }
}

impl Queue {
    /// Whether the tell was taken.
    pub fn push(&self, tell: &RemoteTellRef<'_>) -> bool {
        self.lane.push(tell, tell.encoded_len(), Patience::None).is_ok()
    }

    /// Takes all that waits, as the writer does; returns its bytes.
    pub fn take(&self) -> usize {
        let mut taken = 0;
        while let Taken::Chunk { bytes, .. } = self.lane.take(self.epoch) {
            taken += bytes.len();
        }
        taken
    }

    /// Acknowledges all that was taken.
    pub fn acknowledge(&self) -> bool {
        let stats = self.lane.stats();
        self.lane.ack(stats.accepted_frames - stats.queued_frames).is_ok()
    }
}

/// The state machine of one peer.
#[derive(Debug)]
pub struct Peer {
    association: Association,
    now: Instant,
}

impl Default for Peer {
    fn default() -> Self {
        let timing = Timing {
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            stable_after: Duration::from_secs(10),
            reconnect_for: Duration::from_secs(60),
        };
        Self { association: Association::new(true, timing, 1), now: Instant::now() }
    }
}

impl Peer {
    /// The number of steps in [`life`](Self::life).
    pub const STEPS: u64 = 4;

    /// Dials, is greeted, loses the connection, and waits until it may dial again; returns what there was
    /// to do.
    pub fn life(&mut self) -> usize {
        let mut outputs = self.association.handle(self.now, Input::Wanted).len();
        let link = LinkId::Dialled(self.association.attempt());
        let instance = Instance { incarnation: Incarnation(1), session: 0 };
        let inputs = [
            Input::Greeted { link, instance, attempt: 0 },
            Input::Lost { link, reason: AssociationError::Goodbye },
            Input::Timer { pending: false },
        ];
        for input in inputs {
            if let Some(due) = self.association.wake_at() {
                self.now = due;
            }
            outputs += self.association.handle(self.now, input).len();
        }
        outputs
    }
}
