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
    /// Whether nothing is to be waited for any more.
    pub(super) hurry: bool,
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
        self.settle(stop).await;
        if self.hurry {
            return (Ending::Interrupted, Duration::ZERO, idle);
        }
        let begin = Instant::now();
        self.meter.load_begins(begin);
        let ending = self.load(stop, begin).await;
        let took = begin.elapsed();
        self.settle(stop).await;
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
                        self.hurry = true;
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

    /// Waits for the last answers, if they come, and nobody is in a hurry.
    async fn settle(&mut self, stop: &mut Stop) {
        if self.hurry {
            return;
        }
        let all = async {
            while self.meter.is_waiting() {
                let Some(gossip) = self.received.recv().await else { return };
                self.meter.heard(gossip);
            }
        };
        tokio::select! {
            _ = timeout(SETTLE, all) => {}
            _ = stop.wait() => self.hurry = true,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, Command, FromArgMatches};
    use cluster_quic::{ClusterTransport, Config, InProcessNetwork, RecordingSink, gossip_inbox};
    use tokio::sync::mpsc::unbounded_channel;

    fn args() -> LoadArgs {
        let command = LoadArgs::augment_args(Command::new("load"));
        let matches = command.get_matches_from(["load", "akka.quic://sys@b:1"]);
        LoadArgs::from_arg_matches(&matches).unwrap()
    }

    /// In simulated time.
    #[tokio::test(start_paused = true)]
    async fn the_last_answers_are_waited_for_unless_somebody_is_in_a_hurry() {
        let network = InProcessNetwork::new();
        let [a, b] = ["a", "b"].map(|host| {
            let config = Config::builder("sys").build().unwrap();
            ClusterTransport::in_process(config, &network, host).unwrap()
        });
        let (inbox, received) = gossip_inbox::<GossipPdu>(16);
        a.start(inbox, RecordingSink::new()).unwrap();
        // Takes questions and answers none.
        let (inbox, _questions) = gossip_inbox::<GossipPdu>(16);
        b.start(inbox, RecordingSink::new()).unwrap();
        let peer = a.peer(b.address()).unwrap();
        peer.connect().await.unwrap();
        let args = args();
        let mut run = Run {
            args: &args,
            peer: &peer,
            events: a.events(),
            received,
            meter: Meter::new(peer.clone(), a.address().to_string()),
            progress: Progress::new(),
            cut: false,
            hurry: false,
        };
        run.meter.probe();
        assert!(run.meter.is_waiting());
        let (signals, receiver) = unbounded_channel();
        let mut stop = Stop::of(receiver);

        let begin = tokio::time::Instant::now();
        run.settle(&mut stop).await;
        assert!(!run.hurry && begin.elapsed() >= SETTLE);

        let begin = tokio::time::Instant::now();
        signals.send("SIGINT").unwrap();
        run.settle(&mut stop).await;
        assert!(run.hurry && begin.elapsed() < SETTLE);
        // Nor is anything waited for after that.
        run.settle(&mut stop).await;
        assert!(begin.elapsed() < SETTLE);
    }
}
