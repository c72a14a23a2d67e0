//! Two nodes in two processes: the lines of a file go from one to the other as a million tells,
//! while the delay of gossip on the same connection is measured.
//!
//! ```text
//! cargo run --release --example two_node
//! ```
//!
//! Or one node per terminal, with certificates from `cargo run --example dev_certs`:
//!
//! ```text
//! cargo run --release --example two_node -- node --listen 127.0.0.1:4400
//! cargo run --release --example two_node -- node --join akka.quic://demo@127.0.0.1:4400
//! ```
//!
//! Begin reading in `node.rs`, which makes a node and joins it to another. `sender.rs` and
//! `receiver.rs` are what the two nodes do; `gauge.rs` measures gossip, `watcher.rs`,
//! `screen.rs` and `summary.rs` show it, `pair.rs` starts the two processes.

mod args;
mod gauge;
mod lines;
mod node;
mod outcome;
mod pair;
mod receiver;
mod screen;
mod sender;
mod stop;
mod summary;
mod watcher;

use std::process::ExitCode;
use std::time::Duration;

use args::{Command, Role, USAGE};
use outcome::{Failure, complain};
use stop::Stop;

fn main() -> ExitCode {
    let command = match args::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(problem) => {
            complain(format_args!("{problem}\n\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    // What the library logs, for those who ask for it: RUST_LOG=cluster_quic=debug
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .init();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("cannot start tokio: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(command));
    // A thread that still waits for something must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome {
        Ok(code) => code,
        Err(Failure::Interrupted) => {
            complain("interrupted");
            ExitCode::from(130)
        }
        Err(Failure::Because(problem)) => {
            complain(problem);
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Help => {
            screen::say(USAGE);
            Ok(ExitCode::SUCCESS)
        }
        Command::Pair(load) => pair::run(&load, Stop::new(false)).await,
        Command::Node(options) => {
            let stop = Stop::new(options.child);
            match &options.role {
                Role::Listen => receiver::run(&options, stop).await,
                Role::Join { seed, load } => sender::run(&options, seed, load, stop).await,
            }
        }
    }
}
