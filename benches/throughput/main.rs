//! How many tells per second, and how many bytes, against what there is otherwise.
//!
//! ```text
//! cargo bench --bench throughput                 all cases, about three minutes
//! cargo bench --bench throughput -- --quick      the same in under a minute
//! cargo bench --bench throughput -- quic 64B     cases whose name contains all of these
//! cargo bench --bench throughput -- lanes        what the number of tell lanes does
//! ```
//!
//! Both nodes live in this process, on one tokio runtime of two workers, and talk over 127.0.0.1:
//!
//! | case | what |
//! |---|---|
//! | `quic` | this crate's `ClusterTransport`, one target path, hence one tell lane |
//! | `quic-8-targets` | the same with eight target paths, spread over the default lanes |
//! | `tcp` | `atomr_cluster::TcpClusterTransport` |
//! | `quinn` | bare quinn: the same frames in 64 KiB chunks on one stream, cut and decoded |
//! | `in-process` | this crate's in-process backend |
//! | `atomr-in-process` | `atomr_cluster::InProcessClusterTransport` |
//!
//! A round lasts from the first send until the sink has the last tell. Its number of tells comes
//! from a warm-up; the rounds of all cases of one payload size are interleaved, so that whatever
//! else the machine does hits all of them alike, and a ratio is the median of the rounds' ratios.
//! Rates are of payload. Every payload begins with a sequence number per target, by which the sink
//! counts inversions (a tell behind one that was sent later) and losses. If one of this crate's
//! transports shows any, the exit code is 1.
//!
//! atomr's transports take everything at once into unbounded queues (and TCP spawns a task per
//! tell), so their sender keeps to a window of tells that the sink has not counted yet: 512 KiB, but
//! at least 256 and at most 8192 tells. More makes them no faster; see `atomr.rs`.
//!
//! The figures also go to `bench/throughput.json` in cargo's target directory.

mod atomr;
mod bare;
mod counter;
mod lanes;
mod measure;
mod options;
mod ours;
mod report;

use std::process::ExitCode;
use std::sync::Arc;

use cluster_quic::DevCa;

use crate::measure::{Case, Subject};
use crate::options::Options;
use crate::report::Report;

/// An error of any kind: a benchmark only prints it.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// The payloads, in bytes.
pub(crate) const PAYLOADS: [usize; 3] = [64, 1024, 64 * 1024];

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("throughput: {problem}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("throughput: tells were lost or came out of order");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("throughput: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether our transports kept all tells in order.
fn run(options: Options) -> Result<bool, Error> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // In a task, so that senders share the workers with everything else.
    let report = runtime.block_on(runtime.spawn(async move {
        let mut report = Report::default();
        if options.lanes {
            lanes::measure(&options, &mut report).await?;
        } else {
            all_cases(&options, &mut report).await?;
        }
        Ok::<_, Error>(report)
    }))??;
    report.print();
    println!("\nwritten to {}", report.write()?.display());
    runtime.shutdown_background();
    Ok(report.is_sound())
}

async fn all_cases(options: &Options, report: &mut Report) -> Result<(), Error> {
    let ca = DevCa::new("throughput")?;
    let quic: Arc<dyn Subject> = Arc::new(ours::quic(&ca, ours::config()?).await?);
    let cases = [
        Case::new("quic", Arc::clone(&quic)).ours(),
        Case::new("quic-8-targets", quic).targets(8).ours(),
        Case::new("tcp", Arc::new(atomr::Tcp::new().await?)),
        Case::new("quinn", Arc::new(bare::Bare::new(&ca).await?)),
        Case::new("in-process", Arc::new(ours::in_process(ours::config()?)?)).ours(),
        Case::new("atomr-in-process", Arc::new(atomr::InProcess::new())),
    ];
    for payload in PAYLOADS {
        measure::interleaved(&cases, payload, options, report).await?;
    }
    if report.is_empty() {
        return Err("no case has such a name".into());
    }
    Ok(())
}
