//! A line for everything that happens, and one every few seconds: for systemd, Kubernetes and files.

use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::model::Model;
use crate::figures::{bytes, count, delay, timestamp};

/// Prints to standard output.
pub(crate) struct Plain {
    json: bool,
    every: Duration,
    next: Instant,
    seen: usize,
}

impl Plain {
    pub(crate) fn new(json: bool, every: Duration, now: Instant) -> Self {
        Self { json, every, next: now + every, seen: 0 }
    }

    /// Prints what is new.
    pub(crate) fn show(
        &mut self,
        model: &Model,
        now: Instant,
        clock: SystemTime,
    ) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for entry in model.journal.since(&mut self.seen) {
            let at = timestamp(entry.at);
            if self.json {
                let (level, text) = (entry.level.name(), &entry.text);
                writeln!(out, "{}", json!({"at": at, "event": text, "level": level}))?;
            } else {
                let mark = if entry.level == crate::words::Level::Bad { "!" } else { " " };
                writeln!(out, "{at} {mark} {}", entry.text)?;
            }
        }
        if now >= self.next {
            // Not to catch up after a pause.
            self.next = now + self.every;
            let at = timestamp(clock);
            if self.json {
                let mut line = status_json(model);
                line["at"] = json!(at);
                writeln!(out, "{line}")?;
            } else {
                writeln!(out, "{at}   {}", status_line(model))?;
            }
        }
        out.flush()
    }
}

/// The figures in a line.
fn status_line(model: &Model) -> String {
    let (members, up) = model.members();
    let all = model.all_lanes();
    let gossip = match model.gossip.percentiles() {
        Some(of) => format!("gossip p50 {} p99 {}", delay(of.p50), delay(of.p99)),
        None if members < 2 => "no other member".into(),
        None => "gossip unanswered".into(),
    };
    format!(
        "status: {up} of {members} up, {} connected; in {}/s {}/s, out {}/s {}/s, queued {}, \
         lost {}; {gossip}",
        model.connected(),
        count(all.in_tells),
        bytes(all.in_bytes),
        count(all.out_tells),
        bytes(all.out_bytes),
        bytes(all.queued_bytes),
        all.lost,
    )
}

fn status_json(model: &Model) -> Value {
    let (members, up) = model.members();
    let all = model.all_lanes();
    let ms = |time: Duration| time.as_micros() as f64 / 1e3;
    json!({
        "status": {
            "members": members,
            "up": up,
            "leader": model.leader,
            "connected": model.connected(),
            "in": { "tells_per_second": all.in_tells, "bytes_per_second": all.in_bytes },
            "out": { "tells_per_second": all.out_tells, "bytes_per_second": all.out_bytes },
            "queued_bytes": all.queued_bytes,
            "in_flight_bytes": all.in_flight_bytes,
            "lost": all.lost,
            "received": {
                "load": { "tells": model.load.tells, "bytes": model.load.bytes },
                "others": { "tells": model.others.tells, "bytes": model.others.bytes },
            },
            "gossip_round_trip_ms": model.gossip.percentiles().map(|of| json!({
                "number": of.number, "p50": ms(of.p50), "p99": ms(of.p99), "max": ms(of.max),
            })),
        }
    })
}
