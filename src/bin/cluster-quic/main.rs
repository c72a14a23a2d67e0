//! `cluster-quic`: certificates, a ping that says how far it got, load, and a node, for the people who
//! run clusters over this transport. Feature `cli`; the library knows nothing of it.
//!
//! Here a command is only found and its end turned into an exit code. A command writes with
//! `writeln!` to standard output, never with `println!`, which panics when the reader has gone.

mod failure;
mod figures;
mod identity;
mod node;
mod probes;
mod stop;
mod words;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use failure::Failure;

#[derive(Parser)]
#[command(
    name = "cluster-quic",
    version,
    about = "Tools for clusters over cluster-quic",
    long_about = None,
    after_help = EXIT_CODES,
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Node(node::NodeArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

const EXIT_CODES: &str = "\
Exit codes: 0 all is well, 1 something is wrong with what was checked or done, 2 the command line \
is.";

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Node(args) => node::run(&args),
        Command::Completions { shell } => completions(shell),
    };
    match result {
        Ok(()) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(Failure::Told) => ExitCode::FAILURE,
        Err(Failure::Wrong(text)) => {
            say(&text);
            ExitCode::FAILURE
        }
        Err(Failure::Usage(text)) => {
            say(&text);
            ExitCode::from(2)
        }
    }
}

/// One message to standard error, which may be closed too.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "cluster-quic: {text}");
}

fn completions(shell: Shell) -> Result<(), Failure> {
    // Not to standard output itself: clap_complete panics when that is closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cluster-quic", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}
