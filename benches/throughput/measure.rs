//! Rounds: calibrated, interleaved over the cases, and summed up.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::Error;
use crate::counter::{Counter, Load, Outcome, STALLED};
use crate::options::Options;
use crate::report::{Report, Row, progress};

/// How long a warm-up takes at least; the number of tells doubles until it does.
const WARM: Duration = Duration::from_millis(100);

/// What a warm-up begins with.
const WARM_BYTES: usize = 16 * 1024 * 1024;

/// What there is to be set up is there by then.
pub(crate) const SET_UP: Duration = Duration::from_secs(20);

pub(crate) type Sending = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Sending and receiving nodes.
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
    senders: usize,
    /// Whether it must keep the order, and everything.
    ours: bool,
    /// Columns of ratios, each with the case that it is of.
    against: Vec<(&'static str, &'static str)>,
}

impl Case {
    pub(crate) fn new(name: &'static str, subject: Arc<dyn Subject>) -> Self {
        Self { name, subject, targets: 1, senders: 1, ours: false, against: Vec::new() }
    }

    pub(crate) fn targets(mut self, targets: usize) -> Self {
        self.targets = targets;
        self
    }

    /// Needs as many targets.
    pub(crate) fn senders(mut self, senders: usize) -> Self {
        self.senders = senders;
        self
    }

    pub(crate) fn ours(mut self) -> Self {
        self.ours = true;
        self
    }

    /// Compares it with `case`, in a column of its own.
    pub(crate) fn against(mut self, column: &'static str, case: &'static str) -> Self {
        self.against.push((column, case));
        self
    }
}

/// `64B`, `1KiB`, `1MiB`.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes}B"),
        1024..1_048_576 => format!("{}KiB", bytes / 1024),
        _ => format!("{}MiB", bytes / 1024 / 1024),
    }
}

/// `what/1KiB`.
pub(crate) fn named(case: &str, payload: usize) -> String {
    format!("{case}/{}", size(payload))
}

/// Whether any of the cases is to run with any of the payloads.
pub(crate) fn any_wanted(options: &Options, cases: &[&str], payloads: &[usize]) -> bool {
    cases.iter().any(|case| payloads.iter().any(|size| options.wants(&named(case, *size))))
}

/// Runs all wanted cases with one payload size.
pub(crate) async fn interleaved(
    cases: &[Case],
    payload: usize,
    options: &Options,
    report: &mut Report,
) -> Result<(), Error> {
    let name = |case: &Case| named(case.name, payload);
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
        .map(|(case, outcomes)| Row::new(case.name, payload, case.ours, &case.against, &outcomes));
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
    let tells = (WARM_BYTES / payload).clamp(16, 1024).next_multiple_of(case.targets) as u64;
    let mut load = Load { tells, payload, targets: case.targets, senders: case.senders };
    let mut best = 0.0_f64;
    loop {
        let outcome = round(case, load).await?;
        let took = outcome.took;
        best = best.max(load.tells as f64 / took.as_secs_f64());
        if took >= WARM.min(round_time / 2) {
            let tells = best * round_time.as_secs_f64();
            let at_least = 64.min(load.tells);
            return Ok(Load { tells: (tells as u64).max(at_least), ..load });
        }
        load.tells *= 2;
    }
}

/// One measurement.
async fn round(case: &Case, load: Load) -> Result<Outcome, Error> {
    let counter = case.subject.counter();
    let begun = counter.begin(load);
    let mut sending = tokio::spawn(Arc::clone(&case.subject).send(load));
    let outcome = counter.end(load, begun).await;
    if outcome.lost > 0 {
        // It may wait for ever.
        sending.abort();
    }
    let Ok(sent) = timeout(STALLED, &mut sending).await else {
        sending.abort();
        return Err(format!("{}: everything came, and sending does not end", case.name).into());
    };
    match sent {
        Ok(sent) => sent?,
        Err(e) if e.is_cancelled() => {}
        Err(e) => return Err(e.into()),
    }
    Ok(outcome)
}

/// What `wait` is for, or an error that says what did not come.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &str,
    wait: impl Future<Output = T>,
) -> Result<T, Error> {
    timeout(limit, wait).await.map_err(|_| format!("{what}: not in {limit:?}").into())
}
