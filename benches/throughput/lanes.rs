//! What the number of tell lanes does: the rate with many targets, and the delay of small tells while
//! one target gets 16 MiB tells, which is what lanes are for.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use cluster_quic::{Config, DevCa};

use crate::beside_bulk::{self, Delays};
use crate::counter::MAX_TARGETS;
use crate::measure::{self, Case, named, within};
use crate::options::Options;
use crate::report::{Figure, Report, grouped, median, percentile, progress};
use crate::{Error, ours};

const PAYLOADS: [usize; 3] = [64, 1024, 64 * 1024];
const LANES: [u8; 5] = [1, 2, 4, 8, 16];
const CASES: [&str; 5] = ["lanes-1", "lanes-2", "lanes-4", "lanes-8", "lanes-16"];

/// What one measurement of delays has, beside its time.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(lanes: u8) -> Result<Config, Error> {
    Ok(Config::builder("bench").tell_lanes(lanes).build()?)
}

pub(crate) async fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    let ca = DevCa::new("throughput")?;
    let mut cases = Vec::new();
    for (name, lanes) in CASES.into_iter().zip(LANES) {
        let subject = Arc::new(ours::quic(&ca, config(lanes)?).await?);
        cases.push(Case::new(name, subject).targets(MAX_TARGETS).ours());
    }
    for payload in PAYLOADS {
        measure::interleaved(&cases, payload, options, report).await?;
    }
    drop(cases);
    let rounds = options.rounds.min(3);
    let mut delays = vec![[const { Vec::new() }; 4]; LANES.len()];
    for round in 0..rounds {
        for (lanes, delays) in LANES.into_iter().zip(&mut delays) {
            progress(&format!("{lanes} lanes: delays, round {} of {rounds}", round + 1));
            let time = options.round * 2;
            let measured = delays_beside_bulk(&ca, lanes, time);
            let measured = within(time * 2 + PATIENCE, "delays beside bulk", measured).await??;
            for (all, one) in delays.iter_mut().zip(measured) {
                all.extend(one);
            }
        }
    }
    progress("");
    summarize(&delays, report);
    Ok(())
}

fn summarize(delays: &[[Vec<f64>; 4]], report: &mut Report) {
    let mut table = format!(
        "{MAX_TARGETS} targets: msg/s          |  64 B tells beside 16 MiB ones: delay in ms\n\
         lanes {:>10} {:>9} {:>8} | {:>9} {:>9} {:>12} {:>9}",
        "64B", "1KiB", "64KiB", "p50 other", "p99 other", "p50 the same", "p99"
    );
    let mut figures = Vec::new();
    for ((case, lanes), delays) in CASES.iter().zip(LANES).zip(delays) {
        let rate = |payload| report.rate(&named(case, payload)).map_or("-".into(), grouped);
        let [small, medium, large] = PAYLOADS.map(rate);
        let _ = write!(table, "\n{lanes:>5} {small:>10} {medium:>9} {large:>8} |");
        let metrics = ["p50 other lane", "p99 other lane", "p50 same lane", "p99 same lane"];
        for ((metric, width), values) in metrics.into_iter().zip([9, 9, 12, 9]).zip(delays) {
            if values.is_empty() {
                let _ = write!(table, " {:>width$}", "-");
                continue;
            }
            let value = median(values.clone());
            let _ = write!(table, " {value:>width$.2}");
            figures.push(Figure::new(*case, metric, "ms", value));
        }
    }
    report.add_table("lanes: small tells beside 16 MiB ones", table, figures);
}

/// p50 and p99 in milliseconds of small tells in another lane than the bulk's (none if there is but
/// one), then of such in the same.
async fn delays_beside_bulk(
    ca: &DevCa,
    lanes: u8,
    time: Duration,
) -> Result<[Option<f64>; 4], Error> {
    let Delays { other, same } = beside_bulk::delays(ca, &config(lanes)?, time).await?;
    let at = |sorted: &[f64], part| (!sorted.is_empty()).then(|| percentile(sorted, part) * 1e3);
    Ok([at(&other, 50.0), at(&other, 99.0), at(&same, 50.0), at(&same, 99.0)])
}
