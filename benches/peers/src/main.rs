//! What else there is for Rust, beside this crate's transport, in one run:
//!
//! ```text
//! cargo run --release -p cluster-quic-peers                 everything, about six minutes
//! cargo run --release -p cluster-quic-peers -- --quick      the same in about a minute, and rougher
//! cargo run --release -p cluster-quic-peers -- gossip 1KiB  cases whose name contains all of these
//! ```
//!
//! | subject | what |
//! |---|---|
//! | `cluster-quic` | `ClusterTransport` over QUIC, with its defaults |
//! | `zenoh` | two zenoh peers, QUIC with a stream per priority; see `zenoh_quic.rs` for its settings and why |
//! | `tonic` | gRPC: client-streaming calls on one channel, HTTP/2 over TLS; see `grpc.rs` |
//!
//! Both nodes of a subject live in this process and talk over 127.0.0.1, with mutual TLS 1.3, certificates
//! of the same CA, and the same library for cryptography (aws-lc). Ours and tonic share a tokio runtime of
//! two workers; zenoh has its own, as always. What is measured, for payloads of 64 B to 1 MiB:
//!
//! * `rate`: tells to one target. A round lasts from the first send until the receiver has the last tell.
//!   The number of tells comes from a warm-up; the rounds of all subjects are interleaved, so that whatever
//!   else the machine does hits all of them alike, and a ratio is the median of the rounds' ratios. Every
//!   payload begins with a sequence number, by which the receiver counts inversions (a tell behind one that was
//!   sent later) and losses.
//! * `gossip`: how long 200 bytes take one way, sent every 10 ms from a thread of its own, while tells are
//!   sent as fast as the subject takes them (and, for comparison, alone: `idle`). Both ends share the clock. All
//!   rounds' delays are put together for p50, p99 and max. Ours goes by `send_gossip`, zenoh's with
//!   its highest priority, tonic's in a second call on the same channel.
//!
//! If our transport lost or reordered a tell, the exit code is 1. The figures also go to
//! `bench/peers.json`, and with charts to `bench/peers.html`, in cargo's target directory.

#[path = "../../throughput/counter.rs"]
#[allow(dead_code, reason = "only throughput has windows and processor time")]
mod counter;
mod grpc;
mod measure;
mod options;
mod ours;
#[path = "../../throughput/process.rs"]
#[allow(dead_code, reason = "the counter needs a part of it")]
mod process;
#[path = "../../report/mod.rs"]
mod report;
mod results;
mod subject;
mod zenoh_quic;

use std::process::ExitCode;
use std::sync::Arc;

use cluster_quic::DevCa;

use crate::measure::Case;
use crate::options::Options;
use crate::results::{OURS, Results, TONIC, ZENOH};

/// An error of any kind: a benchmark only prints it.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// The payloads, in bytes, after gossip alone.
const LOADS: [Option<usize>; 5] = [None, Some(64), Some(1 << 10), Some(64 << 10), Some(1 << 20)];

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("peers: {problem}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("peers: our tells were lost or came out of order");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether our transport kept all tells in order.
fn run(options: Options) -> Result<bool, Error> {
    // zenoh takes what is installed, and ring otherwise.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| "there is a provider of cryptography already")?;
    let mut results = Results::new();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // In a task, so that senders share the workers with everything else.
    let mut results = runtime.block_on(runtime.spawn(async move {
        all_cases(&options, &mut results).await?;
        Ok::<_, Error>(results)
    }))??;
    results.print();
    let sound = results.is_sound();
    let written = results.write()?;
    println!("\nwritten to {}\n       and {}", written.json.display(), written.html.display());
    runtime.shutdown_background();
    Ok(sound)
}

async fn all_cases(options: &Options, results: &mut Results) -> Result<(), Error> {
    let ca = DevCa::new("peers")?;
    let cases = [
        Case { name: OURS, subject: Arc::new(ours::Ours::new(&ca).await?) },
        Case { name: ZENOH, subject: Arc::new(zenoh_quic::Zenoh::new(&ca).await?) },
        Case { name: TONIC, subject: Arc::new(grpc::Grpc::new(&ca).await?) },
    ];
    for payload in LOADS {
        measure::interleaved(&cases, payload, options, results).await?;
    }
    if results.is_empty() {
        return Err("no case has such a name; --help tells how they are made".into());
    }
    Ok(())
}
