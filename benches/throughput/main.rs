//! How many tells per second, how soon, and at what cost, against what there is otherwise.
//!
//! ```text
//! cargo bench --bench throughput                 all groups but lanes, about seven minutes
//! cargo bench --bench throughput -- --quick      the same in under a minute
//! cargo bench --bench throughput -- rates        one group, or several
//! cargo bench --bench throughput -- quic 64B     cases whose name contains all of these
//! cargo bench --bench throughput -- lanes        what the number of tell lanes does
//! ```
//!
//! All nodes live in this process, on a tokio runtime of two workers, and talk over 127.0.0.1:
//!
//! | group | case | what |
//! |---|---|---|
//! | `idle` | `idle-1000` | memory and processor time of idle associations; see `idle.rs` |
//! | `latency` | `quic`, `quinn`, `tcp`, `in-process`, each with `/latency` | one tell at a time on an idle association; see `latency.rs` |
//! | `rates` | `quic` | this crate's `ClusterTransport`, one target path, hence one tell lane |
//! | | `quic-8-targets` | the same with eight target paths, spread over the default lanes |
//! | | `quic-prompt` | as `quic`, with a sink that says it does not block (`may_block`), so that it is called where tells are received, as those of `tcp` and `quinn` are |
//! | | `tcp` | `atomr_cluster::TcpClusterTransport` |
//! | | `quinn` | bare quinn, with its Cubic: the same frames in 64 KiB chunks on one stream, cut and decoded |
//! | | `in-process` | this crate's in-process backend |
//! | | `atomr-in-process` | `atomr_cluster::InProcessClusterTransport` |
//! | `senders` | `quic-1-sender` | one task, one target path |
//! | | `quic-1-sender-8-targets` | one task, eight target paths |
//! | | `quic-8-senders` | eight tasks that share one `Peer`, each with a target path of its own |
//! | `peers` | `quic-1-peer`, `quic-4-peers`, `quic-32-peers` | one node and one task that sends to so many other nodes in turn: the rate of all together |
//! | | `tcp-1-peer`, `tcp-4-peers`, `tcp-32-peers` | the same with `TcpClusterTransport` |
//! | `lanes` | `lanes-1` to `lanes-16` | the number of tell lanes; only if named |
//!
//! Cases of `rates` and those after it have their payload in their name, as in `quic/1KiB`.
//!
//! A round lasts from the first send until the sink has the last tell. Its number of tells comes
//! from a warm-up; the rounds of all cases of one payload size are interleaved, so that whatever
//! else the machine does hits all of them alike, and a ratio is the median of the rounds' ratios.
//! Rates are of payload. Processor time ("CPU") is the whole process's, sender and receiver, per tell;
//! it varies less than a rate, and is left out where the system is not Linux. Every payload begins
//! with a sequence number per target, by which the sink counts inversions (a tell behind one that was
//! sent later) and losses. If one of this crate's transports shows any, or something that is waited for
//! does not come in time, the exit code is 1.
//!
//! atomr's transports take everything at once into unbounded queues (and TCP spawns a task per
//! tell), so their sender keeps to a window of tells that the sink has not counted yet: 512 KiB, but
//! at least 256 and at most 8192 tells. More makes them no faster; see `atomr.rs`.
//!
//! The figures also go to `bench/throughput.json` in cargo's target directory, and a page with charts to
//! `bench/throughput.html`.

mod atomr;
mod bare;
#[path = "../beside_bulk/mod.rs"]
mod beside_bulk;
mod counter;
mod idle;
mod lanes;
mod latency;
mod measure;
mod options;
mod ours;
mod peers;
mod process;
mod rates;
mod report;
mod senders;
mod targets;

use std::process::ExitCode;
use std::sync::Arc;

use crate::options::{Group, Options};
use crate::report::Report;

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
    let options = Arc::new(options);
    let report = on_a_runtime(idle_associations(Arc::clone(&options), Report::new()))?;
    let report = on_a_runtime(single_tells(Arc::clone(&options), report))?;
    let mut report = on_a_runtime(under_load(options, report))?;
    if report.is_empty() {
        return Err("no case has such a name".into());
    }
    report.print();
    let written = report.write()?;
    println!("\nwritten to {}\n       and {}", written.json.display(), written.html.display());
    Ok(report.is_sound())
}

/// On a runtime of its own. On one that has had a thousand associations, and has none of their tasks left, a
/// sink's thread wakes up 40 us later, for a cause that is not known; bare quinn, which has none, does not.
fn on_a_runtime(
    groups: impl Future<Output = Result<Report, Error>> + Send + 'static,
) -> Result<Report, Error> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // In a task, so that senders share the workers with everything else.
    let report = runtime.block_on(runtime.spawn(groups))??;
    runtime.shutdown_background();
    Ok(report)
}

/// First, as long as the process has used little memory.
async fn idle_associations(options: Arc<Options>, mut report: Report) -> Result<Report, Error> {
    if options.runs(Group::Idle) {
        idle::measure(&options, &mut report).await?;
    }
    Ok(report)
}

async fn single_tells(options: Arc<Options>, mut report: Report) -> Result<Report, Error> {
    if options.runs(Group::Latency) {
        latency::measure(&options, &mut report).await?;
    }
    Ok(report)
}

async fn under_load(options: Arc<Options>, mut report: Report) -> Result<Report, Error> {
    if options.runs(Group::Rates) {
        rates::measure(&options, &mut report).await?;
    }
    if options.runs(Group::Senders) {
        senders::measure(&options, &mut report).await?;
    }
    if options.runs(Group::Peers) {
        peers::measure(&options, &mut report).await?;
    }
    if options.runs(Group::Lanes) {
        lanes::measure(&options, &mut report).await?;
    }
    Ok(report)
}
