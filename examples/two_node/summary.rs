//! What came of it: the receiver's report, and the judgement at the end.

use std::time::Duration;

use crate::gauge::Figures;
use crate::outcome::{Failure, because};
use crate::screen::{Style, duration, megabytes, milliseconds, say, thousands};

/// What the receiver got; it travels as a tell's payload.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) members: usize,
    pub(crate) received: u64,
    pub(crate) out_of_order: u64,
    pub(crate) sha256: String,
    pub(crate) idle: Figures,
    pub(crate) backlog: Figures,
    pub(crate) longest_gap: Duration,
    pub(crate) of_daemons: u64,
}

impl Report {
    pub(crate) fn to_text(&self) -> String {
        let figures = |f: &Figures| {
            let [p50, p99, max] = [f.p50, f.p99, f.max].map(|delay| delay.as_nanos());
            format!("{} {p50} {p99} {max}", f.received)
        };
        format!(
            "{} {} {} {} {} {} {} {}",
            self.members,
            self.received,
            self.out_of_order,
            self.longest_gap.as_nanos(),
            self.of_daemons,
            figures(&self.idle),
            figures(&self.backlog),
            self.sha256
        )
    }

    pub(crate) fn from_text(text: &str) -> Result<Self, Failure> {
        let mut words = text.split(' ');
        let malformed = || because(format_args!("the receiver's report is malformed: {text}"));
        let mut number =
            || words.next().and_then(|word| word.parse::<u64>().ok()).ok_or_else(malformed);
        let mut report = Self {
            members: number()? as usize,
            received: number()?,
            out_of_order: number()?,
            longest_gap: Duration::from_nanos(number()?),
            of_daemons: number()?,
            ..Self::default()
        };
        for figures in [&mut report.idle, &mut report.backlog] {
            figures.received = number()?;
            for delay in [&mut figures.p50, &mut figures.p99, &mut figures.max] {
                *delay = Duration::from_nanos(number()?);
            }
        }
        report.sha256 = words.next().ok_or_else(malformed)?.to_owned();
        Ok(report)
    }
}

/// What the sender knows at the end.
pub(crate) struct Sent {
    pub(crate) file: String,
    pub(crate) lines: u64,
    pub(crate) passes: u64,
    pub(crate) sha256: String,
    pub(crate) members: usize,
    pub(crate) tells: u64,
    pub(crate) acknowledged: u64,
    pub(crate) bytes: u64,
    pub(crate) lanes: usize,
    pub(crate) backlog_bytes: u64,
    pub(crate) probes: [u64; 2],
    pub(crate) took: Duration,
}

/// Prints what came of it; whether all is well.
pub(crate) fn print(style: Style, sent: &Sent, report: &Report) -> bool {
    let all = sent.lines * sent.passes;
    let lost = sent.probes[0] + sent.probes[1] - report.idle.received - report.backlog.received;
    let checks = [
        (
            "members",
            format!("{} up here, {} up at the other node", sent.members, report.members),
            sent.members >= 2 && report.members >= 2,
        ),
        (
            "sent",
            format!(
                "{} tells: {}, {} lines, {} times",
                thousands(sent.tells),
                style.shorten(&sent.file, 24),
                thousands(sent.lines),
                thousands(sent.passes)
            ),
            sent.tells == all,
        ),
        (
            "acknowledged",
            format!("{} tells", thousands(sent.acknowledged)),
            sent.acknowledged == all,
        ),
        (
            "received",
            match report.out_of_order {
                0 => format!("{} tells, in order", thousands(report.received)),
                n => format!("{} tells, {} out of order", thousands(report.received), thousands(n)),
            },
            report.received == all && report.out_of_order == 0,
        ),
        ("SHA-256", report.sha256.clone(), report.sha256 == sent.sha256),
        (
            "gossip",
            format!(
                "{} probes, {lost} lost; longest gap {}; {} of the daemons' own",
                thousands(sent.probes[0] + sent.probes[1]),
                milliseconds(report.longest_gap),
                report.of_daemons
            ),
            report.idle.received > 0
                && report.backlog.received > 0
                && report.longest_gap < Duration::from_secs(1),
        ),
    ];
    say("");
    for (name, what, well) in &checks {
        say(format_args!(" {} {name:<13} {what}", style.mark(*well)));
    }
    if report.sha256 != sent.sha256 {
        say(format_args!("   {:<13} {}", "of the file", sent.sha256));
    }
    say(format_args!("\n   {:<13} {:>11} {:>11} {:>11}", "gossip delay", "p50", "p99", "max"));
    for (name, f) in [("idle", report.idle), ("under backlog", report.backlog)] {
        let [p50, p99, max] = [f.p50, f.p99, f.max].map(milliseconds);
        say(format_args!("   {name:<13} {p50:>11} {p99:>11} {max:>11}"));
    }
    let seconds = sent.took.as_secs_f64().max(1e-9);
    say(format_args!(
        "\n   {:<13} up to {} waited, in {} lanes",
        "backlog",
        megabytes(sent.backlog_bytes),
        sent.lanes
    ));
    say(format_args!(
        "   {:<13} {} for {}: {} tells/s, {}/s",
        "time",
        duration(sent.took),
        megabytes(sent.bytes),
        thousands((sent.tells as f64 / seconds) as u64),
        megabytes((sent.bytes as f64 / seconds) as u64)
    ));
    let failed: Vec<_> = checks.iter().filter(|check| !check.2).map(|check| check.0).collect();
    say(match failed.as_slice() {
        [] => style.good("\n All of it holds."),
        failed => style.bad(&format!("\n FAILED: {}", failed.join(", "))),
    });
    failed.is_empty()
}
