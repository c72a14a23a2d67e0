//! The run itself: one task that looks, beside the one that sends.

use std::time::{Duration, Instant, SystemTime};

use atomr_cluster::GossipPdu;
use cluster_quic::{Event, Events, Gossip, LostReason, Peer};
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};

use super::meter::Meter;
use super::outcome::Ending;
use super::progress::{Phase, Progress};
use super::{LEAVE, LoadArgs, sender};
use crate::stop::Stop;
use crate::words;

/// How often gossip is measured.
const PROBE: Duration = Duration::from_millis(20);

/// How often progress is shown, in probes.
const SHOW: u32 = 5;

/// How long the last answers on the gossip lane are waited for.
const SETTLE: Duration = Duration::from_secs(2);

/// A run.
pub(super) struct Run<'a> {
    pub(super) args: &'a LoadArgs,
    pub(super) peer: &'a Peer,
    pub(super) events: Events,
    pub(super) received: Receiver<Gossip<GossipPdu>>,
    pub(super) meter: Meter,
    pub(super) progress: Progress,
    /// Whether the connection was lost in between.
    pub(super) cut: bool,
}

impl Run<'_> {
    /// Idle, then under load; returns how it ended, how long the sending took until the last
    /// acknowledgement, and how long it was idle.
    pub(super) async fn all(&mut self, stop: &mut Stop) -> (Ending, Duration, Duration) {
        let begin = Instant::now();
        let ending = self.idle(stop).await;
        let idle = begin.elapsed();
        if ending != Ending::Done {
            return (ending, Duration::ZERO, idle);
        }
        self.settle().await;
        let begin = Instant::now();
        self.meter.load_begins(begin);
        let ending = self.load(stop, begin).await;
        let took = begin.elapsed();
        self.settle().await;
        (ending, took, idle)
    }

    async fn idle(&mut self, stop: &mut Stop) -> Ending {
        if self.args.no_gossip {
            return Ending::Done;
        }
        let (begin, mut tick, mut turn) = (Instant::now(), ticks(), 0);
        let end = sleep_until((begin + self.args.idle).into());
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return Ending::Done,
                _ = tick.tick() => {
                    let phase = Phase::Idle { done: begin.elapsed().div_duration_f64(self.args.idle) };
                    self.look(&mut turn, phase, begin);
                }
                Some(gossip) = self.received.recv() => self.meter.heard(gossip),
                Some(event) = self.events.recv() => self.happened(&event),
                _ = stop.wait() => return Ending::Interrupted,
            }
        }
    }

    async fn load(&mut self, stop: &mut Stop, begin: Instant) -> Ending {
        let plan = self.args.plan();
        let (stopping, stopped) = watch::channel(false);
        let mut sending = tokio::spawn(sender::send(self.peer.clone(), plan, stopped));
        let (mut tick, mut turn) = (ticks(), 0);
        let (mut acknowledged, mut progress_at) = (0, begin);
        let mut ends_by: Option<Instant> = None;
        let ending = loop {
            tokio::select! {
                done = &mut sending => break match done {
                    Ok(Ok(())) if ends_by.is_some() => Ending::Interrupted,
                    Ok(Ok(())) => Ending::Done,
                    Ok(Err(reason)) => Ending::Failed(reason),
                    Err(error) => Ending::Failed(error.to_string()),
                },
                _ = tick.tick() => {
                    let tells = self.peer.stats().tells();
                    let now = Instant::now();
                    // No tells wait: nothing to be acknowledged either.
                    if tells.acknowledged_frames > acknowledged || tells.pending_frames() == 0 {
                        (acknowledged, progress_at) = (tells.acknowledged_frames, now);
                    }
                    // Longer than tells are kept: if the node is away, they are reported lost before.
                    if now - progress_at > self.args.silence() + self.args.patience + LEAVE {
                        break Ending::Failed(format!(
                            "nothing was acknowledged for {}",
                            crate::figures::span(now - progress_at)
                        ));
                    }
                    if ends_by.is_some_and(|by| now >= by) {
                        break Ending::Interrupted;
                    }
                    let done = plan.done(begin.elapsed(), tells.accepted_frames);
                    self.look(&mut turn, Phase::Load { done, ending: ends_by.is_some() }, begin);
                }
                Some(gossip) = self.received.recv() => self.meter.heard(gossip),
                Some(event) = self.events.recv() => {
                    self.happened(&event);
                    // What is sent now would only be lost as well.
                    if let Event::TellsLost { reason: LostReason::Expired, .. } = event {
                        break Ending::Failed("the node could not be reached any more".into());
                    }
                }
                _ = stop.wait() => {
                    if ends_by.is_some() {
                        break Ending::Interrupted;
                    }
                    stopping.send_replace(true);
                    ends_by = Some(Instant::now() + LEAVE);
                }
            }
        };
        sending.abort();
        ending
    }

    /// Waits for the last answers, if they come.
    async fn settle(&mut self) {
        let all = async {
            while self.meter.is_waiting() {
                let Some(gossip) = self.received.recv().await else { return };
                self.meter.heard(gossip);
            }
        };
        let _ = timeout(SETTLE, all).await;
    }

    fn look(&mut self, turn: &mut u32, phase: Phase, begin: Instant) {
        if !self.args.no_gossip {
            self.meter.probe();
        }
        if turn.is_multiple_of(SHOW) {
            let stats = self.peer.stats();
            self.progress.show(phase, &stats, &self.meter, self.args.size, begin.elapsed());
        }
        *turn = turn.wrapping_add(1);
    }

    fn happened(&mut self, event: &Event) {
        self.cut |= matches!(event, Event::PeerDown { .. });
        // That it is connected is no news.
        if matches!(event, Event::PeerUp { .. }) && !self.cut {
            return;
        }
        if let Some((_, text)) = words::describe(event, SystemTime::now()) {
            self.progress.say(&text);
        }
    }
}

fn ticks() -> tokio::time::Interval {
    let mut tick = interval(PROBE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tick
}
