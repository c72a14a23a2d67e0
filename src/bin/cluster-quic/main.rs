//! `cluster-quic`: certificates, a ping that says how far it got, load, and a node, for the people who
//! run clusters over this transport. Feature `cli`; the library knows nothing of it.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

#[derive(Parser)]
#[command(name = "cluster-quic", version, about, long_about = None)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print a completion script for a shell.
    Completions { shell: Shell },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, "cluster-quic", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}
