//! Watches the sending: shows how far it is, and notices when it goes wrong.

use std::collections::VecDeque;
use std::time::Duration;

use cluster_quic::{Event, Events, Peer};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

use crate::gauge::{Gauge, Heard, Phase};
use crate::outcome::{Failure, because};
use crate::screen::{Screen, View, thousands};

/// How often the figures are read; every fifth time they are drawn.
const LOOK: Duration = Duration::from_millis(20);

/// Sending that makes no progress for so long has failed.
const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) struct Watcher<'a> {
    peer: &'a Peer,
    screen: &'a mut Screen,
    events: &'a mut Events,
    heard: UnboundedReceiver<Heard>,
    gauge: Gauge,
    total: u64,
    /// What was acknowledged before the first line.
    before: u64,
    progress: (u64, Instant),
    /// Moments of the last second: when, tells and bytes acknowledged.
    recent: VecDeque<(Instant, u64, u64)>,
    /// The most bytes that were queued and in flight.
    pub(crate) backlog_bytes: u64,
    looks: u64,
    /// Whether the connection was lost in between.
    cut: bool,
}

impl<'a> Watcher<'a> {
    pub(crate) fn new(
        peer: &'a Peer,
        screen: &'a mut Screen,
        events: &'a mut Events,
        heard: UnboundedReceiver<Heard>,
        total: u64,
    ) -> Self {
        Self {
            peer,
            screen,
            events,
            heard,
            gauge: Gauge::default(),
            total,
            before: peer.stats().tells().acknowledged_frames,
            progress: (0, Instant::now()),
            recent: VecDeque::new(),
            backlog_bytes: 0,
            looks: 0,
            cut: false,
        }
    }

    /// Watches gossip alone.
    pub(crate) async fn idle(&mut self, time: Duration) -> Result<(), Failure> {
        let (begin, mut tick) = (Instant::now(), ticks());
        while begin.elapsed() < time {
            tokio::select! {
                _ = tick.tick() => {
                    let done = begin.elapsed().as_secs_f64() / time.as_secs_f64();
                    let left = time.saturating_sub(begin.elapsed());
                    self.draw("idle", Phase::Idle, done, Some(left), 0);
                }
                Some(what) = self.heard.recv() => self.hear(what),
                Some(event) = self.events.recv() => self.happened(&event)?,
            }
        }
        Ok(())
    }

    /// Watches until `sending` ends, or fails, or nothing happens any more.
    pub(crate) async fn until(
        &mut self,
        sending: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        self.progress.1 = Instant::now();
        self.looks = 0;
        let mut tick = ticks();
        tokio::pin!(sending);
        loop {
            tokio::select! {
                done = &mut sending => {
                    done?;
                    self.looks = 0;
                    self.screen.finish();
                    self.look();
                    return Ok(());
                }
                _ = tick.tick() => {
                    self.look();
                    self.check_progress()?;
                }
                Some(what) = self.heard.recv() => self.hear(what),
                Some(event) = self.events.recv() => self.happened(&event)?,
            }
        }
    }

    /// Waits for the echoes of the last probes, if they come.
    pub(crate) async fn settle(&mut self, probes: u64) {
        let all = async {
            while self.gauge.received() < probes {
                let Some(what) = self.heard.recv().await else { return };
                if let Heard::Echo { phase, delay } = what {
                    self.gauge.add(phase, delay);
                }
            }
        };
        // Gossip may be dropped, and then this is in vain.
        let _ = timeout(Duration::from_millis(500), all).await;
    }

    /// Reads the figures.
    fn look(&mut self) {
        let tells = self.peer.stats().tells();
        let now = Instant::now();
        let acknowledged = tells.acknowledged_frames - self.before;
        if acknowledged > self.progress.0 {
            self.progress = (acknowledged, now);
        }
        let waiting = tells.queued_bytes + tells.in_flight_bytes;
        self.backlog_bytes = self.backlog_bytes.max(waiting);
        self.recent.push_back((now, acknowledged, tells.acknowledged_bytes));
        while self.recent.front().is_some_and(|(at, ..)| now - *at > Duration::from_secs(1)) {
            self.recent.pop_front();
        }
        let done = acknowledged as f64 / self.total as f64;
        let (rate, _) = self.rates();
        let left = (self.total - acknowledged) as f64 / rate;
        let left = Duration::try_from_secs_f64(left).ok();
        self.draw("sending", Phase::Backlog, done, left, waiting);
    }

    /// Tells and bytes per second, over the last second.
    fn rates(&self) -> (f64, f64) {
        match (self.recent.front(), self.recent.back()) {
            (Some(first), Some(last)) if last.0 > first.0 => {
                let time = (last.0 - first.0).as_secs_f64();
                ((last.1 - first.1) as f64 / time, (last.2 - first.2) as f64 / time)
            }
            _ => (0.0, 0.0),
        }
    }

    fn draw(
        &mut self,
        name: &'static str,
        phase: Phase,
        done: f64,
        left: Option<Duration>,
        waiting_bytes: u64,
    ) {
        self.looks += 1;
        if self.looks % 5 != 1 {
            return;
        }
        let (tells_per_second, bytes_per_second) = self.rates();
        self.screen.show(&View {
            phase: name,
            done,
            tells_per_second,
            bytes_per_second,
            gossip: self.gauge.latest(),
            p99: Some(self.gauge.figures(phase)).filter(|f| f.received > 0).map(|f| f.p99),
            waiting_bytes,
            left,
        });
    }

    fn hear(&mut self, what: Heard) {
        if let Heard::Echo { phase, delay } = what {
            self.gauge.add(phase, delay);
        }
    }

    fn happened(&mut self, event: &Event) -> Result<(), Failure> {
        match event {
            Event::PeerDown { reason, .. } => {
                self.cut = true;
                self.screen.note(format_args!("connection lost: {reason}; dialling again"));
            }
            Event::DialFailed { error, .. } => {
                self.screen.note(format_args!("dialling failed: {error}"));
            }
            Event::PeerUp { .. } if self.cut => self.screen.note("connected again"),
            Event::PeerRestarted { .. } => {
                return Err(because("the receiver was restarted and has forgotten what it got"));
            }
            Event::TellsLost { frames, reason, .. } => {
                return Err(because(format_args!("{} tells lost: {reason:?}", thousands(*frames))));
            }
            _ => {}
        }
        Ok(())
    }

    fn check_progress(&self) -> Result<(), Failure> {
        let (acknowledged, at) = self.progress;
        if at.elapsed() < PATIENCE {
            return Ok(());
        }
        let peer = self.peer.stats();
        let why = peer.last_error.map_or("no error is known".into(), |error| error.to_string());
        Err(because(format_args!(
            "nothing acknowledged for {} s: {} of {} tells were; the connection is {:?}, {why}",
            PATIENCE.as_secs(),
            thousands(acknowledged),
            thousands(self.total),
            peer.state
        )))
    }
}

fn ticks() -> Interval {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}
