//! How long gossip takes while tells saturate the link, and how much of the link the tells get.
//!
//! ```text
//! cargo bench --bench isolation                  all links, about two minutes
//! cargo bench --bench isolation -- --quick       shorter runs, in under a minute
//! cargo bench --bench isolation -- 40ms cubic    cases whose name contains all of these
//! ```
//!
//! Two nodes with real QUIC and TLS talk over a simulated network (`tests/simulated/network.rs`): a
//! rate, a delay, a bounded queue and loss drawn from a fixed seed, in simulated time. Delivery has
//! threads of its own, so two runs differ a little where packets are lost, and not otherwise. One node
//! tells as fast as the lanes take tells of 16 KiB, and gossips 200 bytes every 20 ms from the
//! beginning, so that the controller's startup counts too. Each link is run with:
//!
//! | case | what |
//! |---|---|
//! | `low-delay` | the default |
//! | `cubic` | `Congestion::Cubic` |
//! | `one-stream` | Cubic, and the gossip in line behind the tells, as on one TCP connection; 8 MiB wait |
//! | `gossip-alone` | no tells |
//! | `two` | two flows with the default controller through one link |
//! | `beside-cubic` | a flow with the default controller, and one with Cubic |
//!
//! The exit code is 1 if the default controller misses a target in a full run. The figures also go to
//! `bench/isolation.json` in cargo's target directory, and with pictures to `bench/isolation.html`.

mod links;
#[path = "../../tests/simulated/network.rs"]
#[allow(dead_code)] // It has faults that only the tests use.
mod network;
mod pictures;
mod probe;
#[path = "../report/mod.rs"]
mod report;
mod simulated;

use std::process::ExitCode;
use std::time::Duration;

use cluster_quic::{Congestion, DevCa};

use links::{LINKS, Link};
use pictures::Run;
use report::{Figure, Report, percentile, progress};
use simulated::Subject;

/// An error of any kind: a benchmark only prints it.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "\
usage: cargo bench --bench isolation -- [--quick] [NAME]...

  --quick   shorter runs, in which the startup weighs more; targets are not judged
  NAME      only cases whose name contains it, such as 40ms, low-delay, cubic, two";

struct Options {
    quick: bool,
    names: Vec<String>,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.names.iter().all(|filter| name.contains(filter.as_str()))
    }

    /// Simulated time of a run: gigabits cost real time.
    fn time(&self, link: &Link) -> Duration {
        let fast = link.bytes_per_second > 100e6;
        Duration::from_secs(match (self.quick, fast) {
            (true, true) => 2,
            (true, false) => 20,
            (false, true) => 15,
            (false, false) => 40,
        })
    }
}

fn main() -> ExitCode {
    let mut options = Options { quick: false, names: Vec::new() };
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--bench" => {}
            "--quick" => options.quick = true,
            "--help" | "-h" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            name if !name.starts_with('-') => options.names.push(argument),
            _ => {
                eprintln!("isolation: there is no option {argument}\n\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) if options.quick => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("isolation: a target was missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("isolation: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all targets were reached.
fn run(options: &Options) -> Result<bool, Error> {
    let ca = DevCa::new("isolation")?;
    let mut report = Report::new("isolation", "Gossip beside tells that saturate a link");
    let (mut reached, mut any) = (true, false);
    println!(
        "{:<36} {:>9} {:>9} {:>9} {:>12} {:>8}",
        "case", "p50 ms", "p99 ms", "max ms", "p99 at most", "share %"
    );
    for link in &LINKS {
        let mut runs = Vec::new();
        for subject in Subject::ALL {
            let name = format!("{}/{}", link.name, subject.name());
            if options.wants(&name) {
                progress(&name);
                let outcome = simulated::one(&ca, link, subject, options.time(link))?;
                let run = Run::new(subject, outcome);
                progress("");
                reached &= one(&mut report, link, &name, &run);
                runs.push(run);
            }
        }
        let mut pairs = Vec::new();
        for (case, second) in [("two", Congestion::LowDelay), ("beside-cubic", Congestion::Cubic)] {
            let name = format!("{}/{case}", link.name);
            if options.wants(&name) && !link.drops {
                progress(&name);
                // They take their time to converge.
                let time = options.time(link) * if options.quick { 1 } else { 2 };
                let parts = simulated::two(&ca, link, second, time)?;
                progress("");
                let (sentence, fair) = two(&mut report, second, &name, parts);
                reached &= fair;
                pairs.push(sentence);
            }
        }
        any |= !runs.is_empty() || !pairs.is_empty();
        pictures::section(&mut report, link, &runs, &pairs);
    }
    if !any {
        return Err("no case has such a name".into());
    }
    let written = report.write()?;
    println!("\nwritten to {} and {}", written.json.display(), written.html.display());
    Ok(reached)
}

/// Whether it reached its targets.
fn one(report: &mut Report, link: &Link, name: &str, run: &Run) -> bool {
    let [p50, p99, max] = [50.0, 99.0, 100.0].map(|p| percentile(&run.sorted, p) * 1e3);
    let allowed = link.allowed().as_secs_f64() * 1e3;
    let share = run.share * 100.0;
    println!("{name:<36} {p50:>9.1} {p99:>9.1} {max:>9.1} {allowed:>12.1} {share:>8.1}");
    for (metric, value) in [("gossip p50", p50), ("gossip p99", p99), ("gossip max", max)] {
        report.figure(Figure::new(name, metric, "ms", value));
    }
    report.figure(Figure::new(name, "share of the link", "%", share));
    run.subject != Subject::LowDelay || (p99 <= allowed && run.share >= link.least_share)
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
