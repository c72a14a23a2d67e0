//! What waits is handed to the sink.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use super::waiting::Waiting;
use super::{Fault, Inbound, InboundLane};
use crate::address::Address;
use crate::frame::{self, TellDecoder};
use crate::lane::Lane;
use crate::sink::RemoteMessageSink;

/// Hands the lane's frames to the sink until none waits. Blocks as long as the sink does: for a
/// thread of its own.
pub(crate) fn deliver(
    from: &Address,
    inbound: &Inbound,
    lane: &InboundLane,
    sink: &dyn RemoteMessageSink,
    report: &dyn Fn(Fault),
) {
    let mut batch = VecDeque::new();
    loop {
        {
            let mut state = lane.lock();
            std::mem::swap(&mut state.queue, &mut batch);
            if batch.is_empty() {
                state.delivering = false;
                drop(state);
                inbound.rested.notify_waiters();
                return;
            }
        }
        for waiting in batch.drain(..) {
            let done = deliver_run(from, lane.lane, &waiting, sink, report);
            let (frames, len) = (waiting.frames, waiting.len);
            // Before there is said to be room.
            drop(waiting);
            let mut state = lane.lock();
            state.bytes -= len;
            state.stats.waiting_frames -= frames;
            state.stats.delivered_frames += frames - done.refused;
            state.stats.delivered_bytes += (len - done.refused_bytes) as u64;
            state.stats.refused_frames += done.refused;
            state.stats.sink_panics += done.panics;
            drop(state);
            lane.room.notify_waiters();
            inbound.note_delivered(len);
        }
    }
}

#[derive(Default)]
struct Done {
    refused: u64,
    refused_bytes: usize,
    panics: u64,
}

fn deliver_run(
    from: &Address,
    lane: Lane,
    waiting: &Waiting,
    sink: &dyn RemoteMessageSink,
    report: &dyn Fn(Fault),
) -> Done {
    let mut done = Done::default();
    let mut pieces = waiting.pieces();
    let mut rest: &[u8] = &[];
    let mut next = waiting.first;
    let mut decoder = TellDecoder::default();
    // Per frame, so that a slow sink's progress is seen and can be acknowledged.
    let handled = |next: &mut u64| {
        *next += 1;
        waiting.position.store(*next, Ordering::Release);
    };
    loop {
        // One guard for as many frames as go well: a panic costs the frame that it comes from.
        let all = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let Some(frame) = frame::next_frame(&mut rest) else {
                    let Some(piece) = pieces.next() else { return };
                    rest = piece;
                    continue;
                };
                match decoder.decode(frame) {
                    Ok(tell) => sink.deliver(from, tell),
                    Err(error) => {
                        done.refused += 1;
                        done.refused_bytes += frame::PREFIX + frame.len();
                        report(Fault::Frame { lane, error, epoch: waiting.epoch });
                    }
                }
                handled(&mut next);
            }
        }));
        if all.is_ok() {
            return done;
        }
        done.panics += 1;
        report(Fault::SinkPanicked(lane));
        handled(&mut next);
    }
}
