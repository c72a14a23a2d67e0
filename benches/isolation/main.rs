//! How long gossip takes while tells do their worst, and what the tells get meanwhile.
//!
//! ```text
//! cargo bench --bench isolation                  everything, about ten minutes
//! cargo bench --bench isolation -- --quick       shorter runs, in under a minute
//! cargo bench --bench isolation -- 40ms cubic    cases whose name contains all of these
//! cargo bench --bench isolation -- loopback      real sockets alone; Mbit and Gbit are the simulated links
//! ```
//!
//! Two halves: [`simulated`] links, where the network is what gossip could wait for, and [`loopback`],
//! where it is queues, locks, threads and the processor.
//!
//! The exit code is 1 if the default controller misses a target in a full run. The figures also go to
//! `bench/isolation.json` in cargo's target directory, and with pictures to `bench/isolation.html`.

#[path = "../beside_bulk/mod.rs"]
mod beside_bulk;
mod loopback;
#[path = "../../tests/simulated/network.rs"]
#[allow(dead_code)] // It has faults that only the tests use.
mod network;
mod options;
mod probe;
#[path = "../throughput/process.rs"]
#[allow(dead_code)] // Memory and limits are the other benchmark's.
mod process;
#[path = "../report/mod.rs"]
mod report;
mod simulated;

use std::process::ExitCode;

use options::Options;
use report::Report;

/// An error of any kind: a benchmark only prints it.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("isolation: {problem}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
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
    let mut report = Report::new("isolation", "Gossip beside tells");
    let loopback = loopback::measure(options, &mut report)?;
    let simulated = simulated::measure(options, &mut report)?;
    let reached: Vec<_> = [loopback, simulated].into_iter().flatten().collect();
    if reached.is_empty() {
        return Err("no case has such a name".into());
    }
    let written = report.write()?;
    println!("\nwritten to {}\n       and {}", written.json.display(), written.html.display());
    Ok(reached.into_iter().all(|reached| reached))
}
