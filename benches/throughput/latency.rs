//! A single tell on an idle association: how long until the sink has it, and until the sink there has
//! told back and that tell is in the sink here.
//!
//! | case | what |
//! |---|---|
//! | `quic/latency` | this crate's `ClusterTransport` |
//! | `quic-prompt/latency` | the same with a sink that says it does not block (`may_block`) |
//! | `quinn/latency` | bare quinn: frames read and written in one task at either end, flushed at once |
//! | `tcp/latency` | `atomr_cluster::TcpClusterTransport` |
//! | `in-process/latency` | this crate's in-process backend |
//!
//! Both ends are in this process and read one clock. The cases' rounds are interleaved, and a ratio is
//! the median of the rounds' ratios of p50.

mod bare;
mod ours;
mod tcp;

use std::fmt::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cluster_quic::DevCa;
use tokio::sync::Notify;

use crate::Error;
use crate::measure::{SET_UP, within};
use crate::options::Options;
use crate::report::{Figure, Report, median, progress};

const CASES: [&str; 5] =
    ["quic/latency", "quinn/latency", "quic-prompt/latency", "tcp/latency", "in-process/latency"];
/// What the others are compared with.
const BASE: usize = 1;
const METRICS: [&str; 4] = ["one-way p50", "one-way p99", "round-trip p50", "round-trip p99"];

/// Between two tells: all acknowledgements are through by then. A tell's own leaves after 1 ms, its
/// packet's up to 5 ms later, each rounded up to the timer's next millisecond.
const PAUSE: Duration = Duration::from_millis(10);
const LOST: Duration = Duration::from_secs(5);
const WARM: usize = 20;

/// Sends one tell at a time, whose sink tells back.
trait Pinger: Send + Sync {
    fn clock(&self) -> &Clock;

    fn send(&self) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + '_>>;
}

/// When the tell that is on its way came there, and back.
struct Clock {
    epoch: Instant,
    there: AtomicU64,
    back: AtomicU64,
    done: Notify,
}

impl Clock {
    fn new() -> Arc<Self> {
        let (there, back) = Default::default();
        Arc::new(Self { epoch: Instant::now(), there, back, done: Notify::new() })
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    fn arrived(&self) {
        self.there.store(self.now(), Ordering::Relaxed);
    }

    fn returned(&self) {
        self.back.store(self.now(), Ordering::Relaxed);
        self.done.notify_one();
    }
}

/// Microseconds there, and there and back.
async fn ping(pinger: &dyn Pinger) -> Result<[f64; 2], Error> {
    let clock = pinger.clock();
    let sent = clock.now();
    pinger.send().await?;
    clock.done.notified().await;
    let since = |at: &AtomicU64| at.load(Ordering::Relaxed).saturating_sub(sent) as f64 / 1e3;
    Ok([since(&clock.there), since(&clock.back)])
}

pub(crate) async fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    if !CASES.iter().any(|case| options.wants(case)) {
        return Ok(());
    }
    let ca = DevCa::new("throughput")?;
    let pingers: [Arc<dyn Pinger>; 5] = [
        Arc::new(ours::quic(&ca, true).await?),
        Arc::new(bare::connect(&ca).await?),
        Arc::new(ours::quic(&ca, false).await?),
        Arc::new(tcp::connect().await?),
        Arc::new(ours::in_process().await?),
    ];
    let pings = if options.quick { 20 } else { 100 };
    let mut rounds: [Vec<[f64; 4]>; 5] = Default::default();
    let mut all: [[Vec<f64>; 2]; 5] = Default::default();
    for round in 0..=options.rounds * 3 {
        for (n, case) in CASES.into_iter().enumerate().filter(|(_, case)| options.wants(case)) {
            progress(&format!("{case}: round {round} of {}", options.rounds * 3));
            let count = if round == 0 { WARM } else { pings };
            let [there, back] = several(case, &*pingers[n], count).await?;
            if round > 0 {
                rounds[n].push(percentiles(&[there.clone(), back.clone()]));
                all[n][0].extend(there);
                all[n][1].extend(back);
            }
        }
    }
    progress("");
    let names = CASES.into_iter().enumerate().filter(|(n, _)| !rounds[*n].is_empty());
    summarize(names.map(|(n, case)| (case, &all[n], &rounds[n])), &rounds[BASE], report);
    Ok(())
}

async fn several(case: &str, pinger: &dyn Pinger, count: usize) -> Result<[Vec<f64>; 2], Error> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..count {
        tokio::time::sleep(PAUSE).await;
        let limit = if times[0].is_empty() { SET_UP } else { LOST };
        let [there, back] = within(limit, &format!("{case}: a tell back"), ping(pinger)).await??;
        times[0].push(there);
        times[1].push(back);
    }
    Ok(times)
}

/// In the order of [`METRICS`].
fn percentiles(times: &[Vec<f64>; 2]) -> [f64; 4] {
    let at = |n: usize, part: usize| {
        let mut times = times[n].clone();
        times.sort_by(f64::total_cmp);
        times.get((times.len().saturating_sub(1)) * part / 100).copied().unwrap_or(0.0)
    };
    [at(0, 50), at(0, 99), at(1, 50), at(1, 99)]
}

type Measured<'a> = (&'static str, &'a [Vec<f64>; 2], &'a Vec<[f64; 4]>);

fn summarize<'a>(
    cases: impl Iterator<Item = Measured<'a>>,
    base: &[[f64; 4]],
    report: &mut Report,
) {
    let mut table = format!(
        "latency: one tell on an idle association, in us\n{:<22} {:>8} {:>8} {:>8} | {:>8} {:>8} {:>8}",
        "case", "one-way", "p99", "x quinn", "there+back", "p99", "x quinn"
    );
    let mut figures = Vec::new();
    for (case, times, rounds) in cases {
        let values = percentiles(times);
        let ratio = |metric: usize| {
            let ratios = rounds.iter().zip(base).map(|(own, base)| own[metric] / base[metric]);
            (case != CASES[BASE] && !base.is_empty()).then(|| median(ratios.collect()))
        };
        let text = |ratio: Option<f64>| ratio.map_or("".into(), |ratio| format!("{ratio:.2}"));
        let [one, one99, round, round99] = values;
        let (one_ratio, round_ratio) = (text(ratio(0)), text(ratio(2)));
        let _ = write!(
            table,
            "\n{case:<22} {one:>8.1} {one99:>8.1} {one_ratio:>8} | {round:>10.1} {round99:>8.1} {round_ratio:>8}"
        );
        for (n, (metric, value)) in METRICS.into_iter().zip(values).enumerate() {
            let against = if n % 2 == 0 { ratio(n) } else { None };
            let against = against.map(|ratio| (CASES[BASE].into(), ratio));
            figures.push(Figure { against, ..Figure::new(case, metric, "us", value) });
        }
    }
    report.add_table("latency: one tell on an idle association", table, figures);
}
