//! Rounds: calibrated, interleaved over the cases, and summed up.

use std::io::{IsTerminal, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::counter::{Counter, Load, Outcome};
use crate::options::Options;
use crate::report::{Report, Row};

/// How long a warm-up takes at least; the number of tells doubles until it does.
const WARM: Duration = Duration::from_millis(100);

pub(crate) type Sending = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// A sending and a receiving node.
pub(crate) trait Subject: Send + Sync {
    /// Sends all of it, with sequence numbers from 0 per target.
    fn send(self: Arc<Self>, load: Load) -> Sending;

    /// What its sink calls.
    fn counter(&self) -> &Counter;
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    subject: Arc<dyn Subject>,
    targets: usize,
    /// Whether it must keep the order, and everything.
    ours: bool,
}

impl Case {
    pub(crate) fn new(name: &'static str, subject: Arc<dyn Subject>) -> Self {
        Self { name, subject, targets: 1, ours: false }
    }

    pub(crate) fn targets(mut self, targets: usize) -> Self {
        self.targets = targets;
        self
    }

    pub(crate) fn ours(mut self) -> Self {
        self.ours = true;
        self
    }
}

/// `64B`, `1KiB`.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes}B"),
        _ => format!("{}KiB", bytes / 1024),
    }
}

/// Runs all wanted cases with one payload size.
pub(crate) async fn interleaved(
    cases: &[Case],
    payload: usize,
    options: &Options,
    report: &mut Report,
) -> Result<(), Error> {
    let name = |case: &Case| format!("{}/{}", case.name, size(payload));
    let wanted: Vec<_> = cases.iter().filter(|case| options.wants(&name(case))).collect();
    let mut loads = Vec::new();
    for case in &wanted {
        progress(&format!("{}: warm-up", name(case)));
        loads.push(calibrate(case, payload, options.round).await?);
    }
    let mut outcomes = vec![Vec::new(); wanted.len()];
    for n in 0..options.rounds {
        for ((case, load), outcomes) in wanted.iter().zip(&loads).zip(&mut outcomes) {
            progress(&format!("{}: round {} of {}", name(case), n + 1, options.rounds));
            outcomes.push(round(case, *load).await?);
        }
    }
    progress("");
    let rows = wanted
        .iter()
        .zip(outcomes)
        .map(|(case, outcomes)| Row::new(name(case), case.name, payload, case.ours, &outcomes));
    let rows: Vec<_> = rows.collect();
    for row in &rows {
        eprintln!("{}", row.line());
    }
    report.add(rows);
    Ok(())
}

/// Finds how many tells take about `round`, by the best rate of the warm-up: a transport that now
/// and then stalls must not get away with a handful.
async fn calibrate(case: &Case, payload: usize, round_time: Duration) -> Result<Load, Error> {
    let mut load = Load { tells: 1024, payload, targets: case.targets };
    let mut best = 0.0_f64;
    loop {
        let took = round(case, load).await?.took;
        best = best.max(load.tells as f64 / took.as_secs_f64());
        if took >= WARM.min(round_time) {
            let tells = best * round_time.as_secs_f64();
            return Ok(Load { tells: (tells as u64).max(64), ..load });
        }
        load.tells *= 2;
    }
}

/// One measurement.
async fn round(case: &Case, load: Load) -> Result<Outcome, Error> {
    let counter = case.subject.counter();
    let cpu_before = cpu_time();
    let begun = counter.begin(load);
    let sending = tokio::spawn(Arc::clone(&case.subject).send(load));
    let mut outcome = counter.end(load, begun).await;
    outcome.cpu = cpu_before.and_then(|before| cpu_time()?.checked_sub(before));
    if outcome.lost > 0 {
        // It may wait for ever.
        sending.abort();
    }
    match sending.await {
        Ok(sent) => sent?,
        Err(e) if e.is_cancelled() => {}
        Err(e) => return Err(e.into()),
    }
    Ok(outcome)
}

/// The processor time that this process has used, in its own code and in the kernel's; on Linux alone,
/// where it comes in hundredths of a second.
fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the program's name, which may contain anything: the third field is the first one.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(14 - 3);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks()? + ticks()?)))
}

/// Shows what is being done, on a terminal.
pub(crate) fn progress(text: &str) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        let _ = write!(out, "\r\x1b[K{text}");
        let _ = out.flush();
    }
}
