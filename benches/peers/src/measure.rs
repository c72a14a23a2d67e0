//! Rounds: calibrated, and interleaved over the subjects.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::Error;
use crate::counter::{Load, Outcome};
use crate::options::Options;
use crate::report::progress;
use crate::results::{Delays, Rates, Results};
use crate::subject::{Subject, probe};

/// How long a warm-up takes at least; the number of tells doubles until it does.
const WARM: Duration = Duration::from_millis(100);

/// How often a gossip message is sent.
const GOSSIP: Duration = Duration::from_millis(10);

/// How long gossip that has not come yet is waited for.
const LATE: Duration = Duration::from_secs(2);

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) subject: Arc<dyn Subject>,
}

impl Case {
    fn error(&self, error: &Error) -> Error {
        format!("{}: {error}", self.name).into()
    }
}

/// What a load is called: `64B`, `1KiB`; without tells, `idle`.
pub(crate) fn load_name(payload: Option<usize>) -> String {
    match payload {
        None => "idle".into(),
        Some(bytes @ 0..0x400) => format!("{bytes}B"),
        Some(bytes @ 0x400..0x10_0000) => format!("{}KiB", bytes >> 10),
        Some(bytes) => format!("{}MiB", bytes >> 20),
    }
}

/// Measures all wanted cases with one payload size, or gossip alone.
pub(crate) async fn interleaved(
    cases: &[Case],
    payload: Option<usize>,
    options: &Options,
    results: &mut Results,
) -> Result<(), Error> {
    let load = load_name(payload);
    let wanted = |kind: &str| -> Vec<bool> {
        let name = |case: &Case| format!("{kind}/{}/{load}", case.name);
        cases.iter().map(|case| options.wants(&name(case))).collect()
    };
    let (rate, gossip) = (wanted("rate"), wanted("gossip"));
    // Tells per second, of each case that sends tells.
    let mut speeds = vec![0.0; cases.len()];
    if let Some(payload) = payload {
        for (n, case) in cases.iter().enumerate().filter(|(n, _)| rate[*n] || gossip[*n]) {
            progress(&format!("{}/{load}: warm-up", case.name));
            speeds[n] = calibrate(case, payload).await.map_err(|e| case.error(&e))?;
        }
    }
    let tells = |n: usize, payload, time: Duration| {
        let tells = ((speeds[n] * time.as_secs_f64()) as u64).max(64);
        Load::simple(tells, payload)
    };
    let mut rates = vec![Vec::new(); cases.len()];
    let mut delays = vec![Delays::default(); cases.len()];
    for round in 1..=options.rounds {
        for (n, case) in cases.iter().enumerate().filter(|(n, _)| rate[*n]) {
            let Some(payload) = payload else { continue };
            progress(&format!("rate/{}/{load}: round {round} of {}", case.name, options.rounds));
            let load = tells(n, payload, options.round);
            rates[n].push(tell_round(case, load).await.map_err(|e| case.error(&e))?);
        }
        for (n, case) in cases.iter().enumerate().filter(|(n, _)| gossip[*n]) {
            progress(&format!("gossip/{}/{load}: round {round} of {}", case.name, options.rounds));
            let load = payload.map(|payload| tells(n, payload, options.gossip_round));
            let round = gossip_round(case, load, options.gossip_round).await;
            delays[n].add(round.map_err(|e| case.error(&e))?);
        }
    }
    progress("");
    for (case, (rates, delays)) in cases.iter().zip(rates.into_iter().zip(delays)) {
        let (case, load) = (case.name, load.clone());
        if let Some(payload) = payload.filter(|_| !rates.is_empty()) {
            results.rates(Rates { case, load: load.clone(), payload, outcomes: rates });
        }
        if delays.rounds() > 0 {
            results.delays(case, load, delays);
        }
    }
    Ok(())
}

/// How many tells per second it takes, by the best of the warm-up: a transport that now and then stalls
/// must not get away with a handful.
async fn calibrate(case: &Case, payload: usize) -> Result<f64, Error> {
    let mut load = Load::simple(64, payload);
    let mut best = 0.0_f64;
    loop {
        let took = tell_round(case, load).await?.took;
        best = best.max(load.tells as f64 / took.as_secs_f64());
        if took >= WARM {
            return Ok(best);
        }
        load.tells *= 2;
    }
}

/// Sends tells until the last has come.
async fn tell_round(case: &Case, load: Load) -> Result<Outcome, Error> {
    let tells = &case.subject.receiver().tells;
    let begun = tells.begin(load);
    let sending = tokio::spawn(Arc::clone(&case.subject).send(load));
    let outcome = tells.end(load, begun).await;
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

/// What gossip did in one round.
pub(crate) struct GossipRound {
    /// In milliseconds.
    pub(crate) delays: Vec<f64>,
    pub(crate) sent: usize,
    /// What came of the tells beside it, if there were any.
    pub(crate) tells: Option<Outcome>,
}

/// Sends gossip for `time`, or while there are tells.
async fn gossip_round(
    case: &Case,
    load: Option<Load>,
    time: Duration,
) -> Result<GossipRound, Error> {
    let receiver = case.subject.receiver();
    drop(receiver.take_delays());
    let (subject, stop) = (Arc::clone(&case.subject), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    // A thread of its own: a busy runtime makes no message late before it is sent, nor leaves one out.
    let gossiping = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        let mut sent = 0;
        while !stopped.load(Relaxed) {
            subject.gossip(probe())?;
            sent += 1;
            let next = begun + GOSSIP * u32::try_from(sent)?;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok::<_, Error>(sent)
    });
    let tells = match load {
        Some(load) => Some(tell_round(case, load).await),
        None => {
            sleep(time).await;
            None
        }
    };
    stop.store(true, Relaxed);
    let sent = gossiping.await??;
    let waiting = Instant::now();
    while receiver.heard() < sent && waiting.elapsed() < LATE {
        sleep(Duration::from_millis(5)).await;
    }
    Ok(GossipRound { delays: receiver.take_delays(), sent, tells: tells.transpose()? })
}
