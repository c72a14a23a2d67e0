//! Shows how far it is, on standard error, if that is a terminal; the outcome goes to standard output.

use std::collections::VecDeque;
use std::time::Duration;

use cluster_quic::{PeerState, PeerStats};
use indicatif::{ProgressBar, ProgressStyle};

use super::meter::Meter;
use crate::figures::{Percentiles, bytes, delay, span, thousands};

/// Over how long rates are taken.
const RATES_OVER: Duration = Duration::from_secs(1);

/// The bar's length in steps; drawn as wide as the terminal allows.
const STEPS: u64 = 1000;

/// What is going on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Phase {
    Idle { done: f64 },
    Load { done: f64, ending: bool },
}

/// A bar and two lines of figures.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// When, and tells acknowledged.
    moments: VecDeque<(Duration, u64)>,
    /// The most bytes that waited or were in flight.
    pub(crate) backlog: u64,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::new(STEPS);
        // Fits 80 columns.
        let style =
            ProgressStyle::with_template(" {prefix:<9}{bar:56.cyan/dim} {percent:>3} %\n{msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏░"));
        }
        Self { bar, moments: VecDeque::new(), backlog: 0 }
    }

    pub(crate) fn show(
        &mut self,
        phase: Phase,
        stats: &PeerStats,
        meter: &Meter,
        size: u64,
        elapsed: Duration,
    ) {
        let tells = stats.tells();
        let waiting = tells.queued_bytes + tells.in_flight_bytes;
        self.backlog = self.backlog.max(waiting);
        if self.bar.is_hidden() {
            return;
        }
        let (name, done) = match phase {
            Phase::Idle { done } => ("idle", done),
            Phase::Load { ending: true, done } => ("stopping", done),
            Phase::Load { done, .. } if done < 1.0 => ("sending", done),
            Phase::Load { done, .. } => ("flushing", done),
        };
        let rate = self.rate(elapsed, tells.acknowledged_frames);
        let lost = tells.lost_in_all().frames;
        let mut text = format!(
            " tells    {:>10}/s  {:>8}/s   queue {:>8}   lost {}\n",
            thousands(rate),
            bytes(rate * size),
            bytes(waiting),
            thousands(lost)
        );
        let [idle, load] = meter.figures();
        let now = match (stats.state, meter.waits()) {
            (PeerState::Connected, Some(waits)) if waits.as_secs() >= 1 => {
                format!("silent {}", span(waits))
            }
            (PeerState::Connected, _) => meter.latest().map_or("-".into(), delay),
            _ => format!("cut for {}", span(stats.unreachable_for.unwrap_or_default())),
        };
        text += &format!(" gossip   {now:>8}");
        let figure = |name, of: fn(&Percentiles) -> Duration| match (&load.of, &idle.of) {
            (Some(load), Some(idle)) => {
                format!("   {name} {} (idle {})", delay(of(load)), delay(of(idle)))
            }
            (Some(one), None) | (None, Some(one)) => format!("   {name} {}", delay(of(one))),
            (None, None) => String::new(),
        };
        text += &figure("p50", |of| of.p50);
        text += &figure("p99", |of| of.p99);
        self.bar.set_prefix(name);
        self.bar.set_position((done * STEPS as f64) as u64);
        self.bar.set_message(text);
    }

    /// Tells acknowledged per second, over the last second.
    fn rate(&mut self, now: Duration, acknowledged: u64) -> u64 {
        if self.moments.back().is_some_and(|(at, _)| *at > now) {
            self.moments.clear();
        }
        self.moments.push_back((now, acknowledged));
        while self.moments.get(1).is_some_and(|(at, _)| now - *at >= RATES_OVER) {
            self.moments.pop_front();
        }
        let (then, before) = self.moments[0];
        let seconds = (now - then).as_secs_f64();
        if seconds > 0.0 { ((acknowledged - before) as f64 / seconds) as u64 } else { 0 }
    }

    /// A line of its own: something has happened.
    pub(crate) fn say(&self, text: &str) {
        if self.bar.is_hidden() {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "{text}");
        } else {
            self.bar.println(format!(" {text}"));
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
