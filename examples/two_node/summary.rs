//! What came of it: the receiver's report, and the judgement at the end.

use std::time::Duration;

use crate::gauge::Figures;
use crate::lines::Source;
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
    pub(crate) sha256: String,
    pub(crate) members: usize,
    pub(crate) tells: u64,
    pub(crate) acknowledged: u64,
    pub(crate) bytes: u64,
    pub(crate) lanes: usize,
    pub(crate) backlog_bytes: u64,
    pub(crate) pace: u64,
    pub(crate) probes: [u64; 2],
    pub(crate) took: Duration,
}

/// One thing that must hold: its name, what was found, whether it does.
type Check = (&'static str, String, bool);

/// Prints what came of it; whether all is well.
pub(crate) fn print(style: Style, source: &Source, sent: &Sent, report: &Report) -> bool {
    let checks = checks(style, source, sent, report);
    say("");
    for (name, what, well) in &checks {
        say(format_args!(" {} {name:<12} {what}", style.mark(*well)));
    }
    if report.sha256 != sent.sha256 {
        say(format_args!("   {:<12} {}", "of the file", sent.sha256));
    }

    say(format_args!("\n   {:<12} {:>11} {:>11} {:>11}", "gossip delay", "p50", "p99", "max"));
    for (name, f) in [("idle", report.idle), ("with backlog", report.backlog)] {
        let [p50, p99, max] = [f.p50, f.p99, f.max].map(milliseconds);
        say(format_args!("   {name:<12} {p50:>11} {p99:>11} {max:>11}"));
    }

    let per_second = |amount: u64| (amount as f64 / sent.took.as_secs_f64().max(1e-9)) as u64;
    let waited = megabytes(sent.backlog_bytes);
    say(format_args!("\n   {:<12} up to {waited} waited, in {} lanes", "backlog", sent.lanes));
    say(format_args!(
        "   {:<12} {} for {}: {} tells/s, {}/s",
        "time",
        duration(sent.took),
        megabytes(sent.bytes),
        thousands(per_second(sent.tells)),
        megabytes(per_second(sent.bytes))
    ));
    if sent.pace > 0 {
        let pace = thousands(sent.pace);
        say(format_args!("   {:<12} the receiver handles {pace} tells/s, by --pace", ""));
    }

    let failed: Vec<_> = checks.iter().filter(|check| !check.2).map(|check| check.0).collect();
    say(match failed.as_slice() {
        [] => style.good("\n All of it holds."),
        failed => style.bad(&format!("\n FAILED: {}", failed.join(", "))),
    });
    failed.is_empty()
}

fn checks(style: Style, source: &Source, sent: &Sent, report: &Report) -> [Check; 6] {
    let all = source.tells();
    let of_all = |tells: u64| match thousands(tells) {
        some if tells != all => format!("{some} of {} tells", thousands(all)),
        every => format!("{every} tells"),
    };
    let order = match report.out_of_order {
        0 => "each target's in order".to_owned(),
        wrong => format!("{} out of order", thousands(wrong)),
    };
    let probes = sent.probes[0] + sent.probes[1];
    let heard = report.idle.received + report.backlog.received;
    [
        (
            "members",
            format!("{} up here, {} up at the other node", sent.members, report.members),
            sent.members >= 2 && report.members >= 2,
        ),
        (
            "sent",
            format!(
                "{}: {} lines of {}, {} times",
                of_all(sent.tells),
                thousands(source.lines),
                style.shorten(&source.file_name(), 20),
                thousands(source.passes)
            ),
            sent.tells == all,
        ),
        ("acknowledged", of_all(sent.acknowledged), sent.acknowledged == all),
        (
            "received",
            format!("{}, {order}", of_all(report.received)),
            report.received == all && report.out_of_order == 0,
        ),
        ("SHA-256", report.sha256.clone(), report.sha256 == sent.sha256),
        (
            "gossip",
            format!(
                "{} of {} probes, longest gap {}; and {} from the daemon",
                thousands(heard),
                thousands(probes),
                milliseconds(report.longest_gap),
                thousands(report.of_daemons)
            ),
            report.idle.received > 0
                && report.backlog.received > 0
                && report.longest_gap < Duration::from_secs(1),
        ),
    ]
}
