//! What came of it: a table, or JSON.

use std::io::{self, Write};
use std::time::Duration;

use cluster_quic::{LaneStats, LostReason, PeerStats};
use serde_json::{Value, json};

use super::meter::Figures;
use crate::figures::{bytes, delay, thousands};
use crate::words::lost_because;

/// Why no more was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All that was to be sent was.
    Done,
    /// By the user.
    Interrupted,
    Failed(String),
}

/// All figures.
pub(crate) struct Outcome {
    pub(crate) node: String,
    pub(crate) size: u64,
    pub(crate) targets: u16,
    pub(crate) ending: Ending,
    /// From the first tell to the last acknowledgement.
    pub(crate) took: Duration,
    pub(crate) idle_took: Duration,
    pub(crate) stats: PeerStats,
    /// The most bytes that waited or were in flight.
    pub(crate) backlog: u64,
    /// Idle and under load; `None` if not measured.
    pub(crate) gossip: Option<[Figures; 2]>,
}

const REASONS: [(LostReason, &str); 4] = [
    (LostReason::Expired, "expired"),
    (LostReason::PeerRestarted, "peer_restarted"),
    (LostReason::ShutDown, "shut_down"),
    (LostReason::Quarantined, "quarantined"),
];

impl Outcome {
    fn tells(&self) -> LaneStats {
        self.stats.tells()
    }

    /// Whether every tell that was accepted is acknowledged, and nothing went wrong.
    pub(crate) fn is_well(&self) -> bool {
        let tells = self.tells();
        tells.accepted_frames == tells.acknowledged_frames
            && !matches!(self.ending, Ending::Failed(_))
    }

    /// Acknowledged tells per second.
    fn rate(&self) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { self.tells().acknowledged_frames as f64 / seconds } else { 0.0 }
    }

    pub(crate) fn print(&self, as_json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if as_json {
            return crate::report::json(&mut out, &self.json());
        }
        out.write_all(self.table().as_bytes())?;
        out.flush()
    }

    fn table(&self) -> String {
        let tells = self.tells();
        let mut text = format!(" {}\n\n", self.node);
        let mut line = |name: &str, value: String| text += &format!("   {name:<15}{value}\n");
        line(
            "sent",
            format!(
                "{} tells of {} B to {} target{}, in {:.2} s",
                thousands(tells.accepted_frames),
                thousands(self.size),
                self.targets,
                if self.targets == 1 { "" } else { "s" },
                self.took.as_secs_f64()
            ),
        );
        let mark = if tells.acknowledged_frames == tells.accepted_frames { ": all" } else { "" };
        line("acknowledged", format!("{} tells{mark}", thousands(tells.acknowledged_frames)));
        let mut lost =
            REASONS.iter().filter(|(reason, _)| tells.lost(*reason).frames > 0).peekable();
        if lost.peek().is_none() {
            line("lost", "none".into());
        }
        for (reason, _) in lost {
            let frames = thousands(tells.lost(*reason).frames);
            line("lost", format!("{frames} tells: {}", lost_because(*reason)));
        }
        if tells.pending_frames() > 0 {
            line(
                "unknown",
                format!("{} tells are not accounted for", thousands(tells.pending_frames())),
            );
        }
        line(
            "rate",
            format!(
                "{} tells/s, {}/s of payload",
                thousands(self.rate() as u64),
                bytes((self.rate() * self.size as f64) as u64)
            ),
        );
        line("backlog", format!("up to {} waited or were in flight", bytes(self.backlog)));
        match &self.ending {
            Ending::Done => {}
            Ending::Interrupted => line("ended early", "interrupted".into()),
            Ending::Failed(why) => line("ended early", why.clone()),
        }
        if let Some(gossip) = &self.gossip {
            let head = ["p50", "p99", "max"].map(|name| format!("{name:>10}")).concat();
            text += &format!("\n   {:<15}{head}   answers\n", "gossip, there and back");
            // The heading is wider than the names below it.
            text += &self.gossip_row("idle", &gossip[0]);
            text += &self.gossip_row("under load", &gossip[1]);
        }
        text
    }

    fn gossip_row(&self, name: &str, figures: &Figures) -> String {
        let sent = thousands(figures.sent);
        match figures.of {
            Some(of) => {
                let delays = [of.p50, of.p99, of.max].map(|time| format!("{:>10}", delay(time)));
                let answered = thousands(of.number as u64);
                format!("     {name:<20}{}   {answered} of {sent}\n", delays.concat())
            }
            None if figures.sent == 0 => format!("     {name:<20}{:>10}\n", "-"),
            None => format!("     {name:<20}{:>10}{:>10}{:>10}   0 of {sent}\n", "-", "-", "-"),
        }
    }

    fn json(&self) -> Value {
        let tells = self.tells();
        let count = |frames: u64, length: u64| json!({ "tells": frames, "bytes": length });
        let mut lost = count(tells.lost_in_all().frames, tells.lost_in_all().bytes);
        for (reason, name) in REASONS {
            lost[name] = json!(tells.lost(reason).frames);
        }
        let ms = |time: Duration| time.as_micros() as f64 / 1e3;
        let gossip = |figures: &Figures| {
            json!({
                "sent": figures.sent,
                "answered": figures.of.map_or(0, |of| of.number),
                "p50_ms": figures.of.map(|of| ms(of.p50)),
                "p99_ms": figures.of.map(|of| ms(of.p99)),
                "max_ms": figures.of.map(|of| ms(of.max)),
            })
        };
        json!({
            "node": self.node,
            "incarnation": self.stats.incarnation.map(|incarnation| incarnation.0),
            "well": self.is_well(),
            "interrupted": self.ending == Ending::Interrupted,
            "error": match &self.ending {
                Ending::Failed(why) => Some(why),
                _ => None,
            },
            "size": self.size,
            "targets": self.targets,
            "seconds": self.took.as_secs_f64(),
            "idle_seconds": self.idle_took.as_secs_f64(),
            "accepted": count(tells.accepted_frames, tells.accepted_bytes),
            "acknowledged": count(tells.acknowledged_frames, tells.acknowledged_bytes),
            "lost": lost,
            "pending": tells.pending_frames(),
            "resent": tells.resent_frames,
            "tells_per_second": self.rate(),
            "payload_bytes_per_second": self.rate() * self.size as f64,
            "backlog_bytes": self.backlog,
            "gossip_round_trip": self.gossip.as_ref().map(|[idle, load]| json!({
                "idle": gossip(idle),
                "load": gossip(load),
            })),
        })
    }
}
