//! Simulated links: two nodes with real QUIC and TLS over a simulated network
//! (`tests/simulated/network.rs`): a rate, a delay, a bounded queue and loss drawn from a fixed seed, in
//! simulated time, so that the machine does not matter. Delivery has threads of its own, so two runs
//! differ a little where packets are lost, and not otherwise. One node tells as fast as the lanes take
//! tells of 16 KiB, and gossips 200 bytes every 20 ms from the beginning, so that the controller's startup
//! counts too. Each link is run with:
//!
//! | case | what |
//! |---|---|
//! | `low-delay` | the default |
//! | `cubic` | `Congestion::Cubic` |
//! | `one-stream` | Cubic, and the gossip in line behind the tells, as on one TCP connection; 8 MiB wait |
//! | `gossip-alone` | no tells |
//! | `two` | two flows with the default controller through one link |
//! | `beside-cubic` | a flow with the default controller, and one with Cubic |
//! | `both-ways` | tells and gossip in both directions, with the default controller; a row for each |

mod both;
mod links;
mod pictures;
mod run;

use std::time::Duration;

use cluster_quic::{Congestion, DevCa};

use crate::report::{Figure, Report, percentile, progress};
use crate::{Error, Options};
use links::{LINKS, Link};
use pictures::Run;
use run::Subject;

/// Simulated time of a run: gigabits cost real time.
fn time(options: &Options, link: &Link) -> Duration {
    let fast = link.bytes_per_second > 100e6;
    Duration::from_millis(match (options.quick, fast) {
        (true, true) => 1_000,
        (true, false) => 8_000,
        (false, true) => 15_000,
        (false, false) => 40_000,
    })
}

/// Runs the cases that are wanted; whether all reached their targets, or `None` if there are none.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<Option<bool>, Error> {
    let ca = DevCa::new("isolation")?;
    let (mut reached, mut any) = (true, false);
    for link in &LINKS {
        let mut runs = Vec::new();
        for subject in Subject::ALL {
            let name = format!("{}/{}", link.name, subject.name());
            if options.wants(&name) {
                headers(&mut any);
                progress(&name);
                let outcome = run::one(&ca, link, subject, time(options, link))?;
                let run = Run::new(subject, outcome);
                progress("");
                reached &= one(report, link, &name, &run);
                runs.push(run);
            }
        }
        let mut pairs = Vec::new();
        for (case, second) in [("two", Congestion::LowDelay), ("beside-cubic", Congestion::Cubic)] {
            let name = format!("{}/{case}", link.name);
            if options.wants(&name) && !link.drops {
                headers(&mut any);
                progress(&name);
                // They take their time to converge.
                let time = time(options, link) * if options.quick { 1 } else { 2 };
                let parts = run::two(&ca, link, second, time)?;
                progress("");
                let (sentence, fair) = two(report, second, &name, parts);
                reached &= fair;
                pairs.push(sentence);
            }
        }
        let name = format!("{}/both-ways", link.name);
        if options.wants(&name) && !link.drops {
            headers(&mut any);
            progress(&name);
            let outcomes = both::both(&ca, link, time(options, link))?;
            progress("");
            for (way, outcome) in ["there", "back"].into_iter().zip(outcomes) {
                let (sentence, within) =
                    way_of_both(report, link, &format!("{name}/{way}"), outcome);
                reached &= within;
                pairs.push(sentence);
            }
        }
        pictures::section(report, link, &runs, &pairs);
    }
    Ok(any.then_some(reached))
}

/// Prints them before the first row.
fn headers(printed: &mut bool) {
    if !std::mem::replace(printed, true) {
        println!(
            "{:<36} {:>9} {:>9} {:>9} {:>12} {:>8}",
            "simulated links", "p50 ms", "p99 ms", "max ms", "p99 at most", "share %"
        );
    }
}

/// Whether it reached its targets.
fn one(report: &mut Report, link: &Link, name: &str, run: &Run) -> bool {
    let [p99, _] = row(report, name, run, link.allowed());
    let allowed = link.allowed().as_secs_f64() * 1e3;
    run.subject != Subject::LowDelay || (p99 <= allowed && run.share >= link.least_share)
}

/// Prints and reports gossip's delays and the tells' share; returns p99 and the longest.
fn row(report: &mut Report, name: &str, run: &Run, allowed: Duration) -> [f64; 2] {
    let [p50, p99, max] = [50.0, 99.0, 100.0].map(|p| percentile(&run.sorted, p) * 1e3);
    let allowed = allowed.as_secs_f64() * 1e3;
    let share = run.share * 100.0;
    println!("{name:<36} {p50:>9.1} {p99:>9.1} {max:>9.1} {allowed:>12.1} {share:>8.1}");
    for (metric, value) in [("gossip p50", p50), ("gossip p99", p99), ("gossip max", max)] {
        report.figure(Figure::new(name, metric, "ms", value));
    }
    report.figure(Figure::new(name, "share of the link", "%", share));
    [p99, max]
}

/// In words, and whether it is fair.
fn two(report: &mut Report, second: Congestion, name: &str, parts: [f64; 2]) -> (String, bool) {
    let whole: f64 = parts.iter().sum();
    let first = parts[0] / whole;
    let sentence = format!(
        "the first has {:.0} % of what both get, {:.1} % of the link",
        first * 100.0,
        whole * 100.0
    );
    println!("{name:<36} {sentence}");
    report.figure(Figure::new(name, "first flow's part", "%", first * 100.0));
    report.figure(Figure::new(name, "share of the link", "%", whole * 100.0));
    let fair = match second {
        Congestion::LowDelay => (0.4..=0.6).contains(&first),
        _ => first >= 0.25,
    };
    (format!("{name}: {sentence}."), fair)
}

/// One of two directions, in words, and whether it reached its targets.
fn way_of_both(
    report: &mut Report,
    link: &Link,
    name: &str,
    outcome: run::Outcome,
) -> (String, bool) {
    let run = Run::new(Subject::LowDelay, outcome);
    let [p99, max] = row(report, name, &run, link.allowed_both_ways());
    let allowed = link.allowed_both_ways().as_secs_f64() * 1e3;
    let sentence = format!(
        "{name}: gossip's p99 is {p99:.1} ms, to stay within {allowed:.0} ms, at most {max:.1} ms; the tells \
         have {:.1} % of the link, to have {:.0} %.",
        run.share * 100.0,
        link.least_share_both_ways() * 100.0
    );
    (sentence, p99 <= allowed && run.share >= link.least_share_both_ways())
}
