//! `cluster-quic`: certificates, a ping that says how far it got, load, and a node, for the people who
//! run clusters over this transport. Feature `cli`; the library knows nothing of it.
//!
//! Here a command is only found and its end turned into an exit code. A command writes with
//! `writeln!` to standard output, never with `println!`, which panics when the reader has gone.

mod certificate;
mod certs;
mod failure;
mod figures;
mod identity;
mod load;
mod node;
mod ping;
mod probes;
mod report;
mod stop;
mod visitor;
mod words;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use failure::Failure;
use report::{WIDTH, wrap};

#[derive(Parser)]
#[command(
    name = "cluster-quic",
    version,
    about = "Tools for clusters over cluster-quic",
    long_about = None,
    max_term_width = 80,
    after_help = AFTER_HELP,
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make and check certificates
    Certs(certs::Certs),
    /// Find out how far one gets with a node, and why no further
    Ping(ping::Ping),
    /// Run a cluster node and watch it: members, peers, lanes, gossip's delay
    Node(node::NodeArgs),
    /// Send tells to a node, and see how gossip fares meanwhile
    Load(load::LoadArgs),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

const AFTER_HELP: &str = "\
Examples:
  cluster-quic certs init
  cluster-quic certs issue localhost 127.0.0.1
  cluster-quic node
  cluster-quic ping akka.quic://cluster@127.0.0.1:4400

Exit codes: 0 all is well, 1 something is wrong with what was checked or done, 2 the command line \
is wrong.";

const COMPLETIONS_HELP: &str = "\
Examples:
  cluster-quic completions fish > ~/.config/fish/completions/cluster-quic.fish
  source <(cluster-quic completions bash)

Exit codes: 0 printed, 2 the command line is wrong.";

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Certs(certs) => certs::run(&certs),
        Command::Ping(ping) => ping::run(&ping),
        Command::Node(args) => node::run(&args),
        Command::Load(args) => load::run(&args),
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
    let text = wrap(&format!("cluster-quic: {text}"), WIDTH - 2).join("\n  ");
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn completions(shell: Shell) -> Result<(), Failure> {
    // Not to standard output itself: clap_complete panics when that is closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cluster-quic", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Bash {
        // Its name has a hyphen, which clap_complete writes in two ways, so that nothing after a subcommand
        // would be completed (clap's issue 6421).
        script = script.replace("cluster__subcmd__quic", "cluster__quic");
    }
    Ok(std::io::stdout().write_all(script.as_bytes())?)
}
