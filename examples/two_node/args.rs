//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cluster_quic::Address;

pub(crate) const USAGE: &str = "\
usage: two_node [--file FILE] [--tells N] [--pace N] [--idle SECONDS]
       two_node node --listen ADDR [--certs DIR] [--name NAME]
       two_node node --join akka.quic://demo@HOST:PORT [--listen ADDR] [--certs DIR]
                     [--name NAME] [--file FILE] [--tells N] [--pace N]
                     [--idle SECONDS]

Sends the lines of a file from one cluster node to another as tells, and measures
how long gossip takes on the same connection meanwhile. Without `node` it starts both
nodes itself, as two processes with certificates made for the occasion. With `node` it
is one of them: the listening one receives (until Ctrl-C), the joining one sends.

  --file FILE     whose lines are sent; Cargo.lock of this repository if not given
  --tells N       send the file over and over, until at least N tells; 1000000
  --pace N        tells that the receiver handles per second, so that a backlog builds;
                  250000, and 0 for as many as it can
  --idle SECONDS  for how long gossip is measured before the tells; 3
  --listen ADDR   IP address and UDP port of the node, such as 127.0.0.1:4400
  --join ADDRESS  the node to join, as the listening one prints it
  --certs DIR     where `cargo run --example dev_certs` put the certificates; certs
  --name NAME     whose certificate to use; node-a to listen, node-b to join

Ends with 0 if every tell arrived, in order and unchanged, and gossip kept flowing;
with 1 if not, and 2 for arguments that make no sense.";

/// What to do.
pub(crate) enum Command {
    Help,
    Pair(Load),
    Node(NodeOptions),
}

/// What is sent.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) file: PathBuf,
    pub(crate) tells: u64,
    pub(crate) pace: u64,
    pub(crate) idle: Duration,
}

/// One node.
pub(crate) struct NodeOptions {
    pub(crate) role: Role,
    pub(crate) listen: SocketAddr,
    pub(crate) certs: PathBuf,
    pub(crate) name: String,
    /// Started by the demo itself: quiet, and ends with its standard input.
    pub(crate) child: bool,
}

pub(crate) enum Role {
    Listen,
    Join { seed: Address, load: Load },
}

/// Reads the arguments, without the program's name.
pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Command, String> {
    let (mut node, mut child) = (false, false);
    let (mut file, mut tells, mut pace, mut idle) = (None, None, None, None);
    let (mut listen, mut join, mut certs, mut name) = (None, None, None, None);
    let mut first = true;
    while let Some(arg) = args.next() {
        let (option, value) = match arg.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (option, Some(value.to_owned())),
            _ => (arg.as_str(), None),
        };
        let mut value = |what| match value.clone().or_else(|| args.next()) {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(format!("{option} needs {what}")),
        };
        match option {
            "-h" | "--help" => return Ok(Command::Help),
            "node" if first => node = true,
            "--child" => child = true,
            "--file" => file = Some(PathBuf::from(value("a file")?)),
            "--tells" => tells = Some(number("--tells", &value("a number")?, 1)?),
            "--pace" => pace = Some(number("--pace", &value("a number")?, 0)?),
            "--idle" => idle = Some(seconds(&value("seconds")?)?),
            "--listen" => listen = Some(socket(&value("an address")?)?),
            "--join" => join = Some(seed(&value("an address")?)?),
            "--certs" => certs = Some(PathBuf::from(value("a folder")?)),
            "--name" => name = Some(value("a name")?),
            _ => return Err(format!("`{arg}` is not understood")),
        }
        first = false;
    }
    let for_sender = file.is_some() || tells.is_some() || pace.is_some() || idle.is_some();
    let load = Load {
        file: file.unwrap_or_else(default_file),
        tells: tells.unwrap_or(1_000_000),
        pace: pace.unwrap_or(250_000),
        idle: idle.unwrap_or(Duration::from_secs(3)),
    };
    if !node {
        if listen.is_some() || join.is_some() || certs.is_some() || name.is_some() || child {
            return Err("--listen, --join, --certs and --name go with `node`".into());
        }
        return Ok(Command::Pair(load));
    }
    let (role, listen, default_name) = match (join, listen) {
        (Some(seed), listen) => {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            (Role::Join { seed, load }, listen.unwrap_or(any), "node-b")
        }
        (None, Some(_)) if for_sender => {
            return Err("--file, --tells, --pace and --idle are for the node that joins".into());
        }
        (None, Some(listen)) => (Role::Listen, listen, "node-a"),
        (None, None) => return Err("a node needs --listen ADDR or --join ADDRESS".into()),
    };
    Ok(Command::Node(NodeOptions {
        role,
        listen,
        certs: certs.unwrap_or_else(|| "certs".into()),
        name: name.unwrap_or_else(|| default_name.into()),
        child,
    }))
}

fn default_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")
}

fn number(option: &str, text: &str, least: u64) -> Result<u64, String> {
    match text.replace('_', "").parse() {
        Ok(number) if (least..=1_000_000_000_000).contains(&number) => Ok(number),
        _ => Err(format!("{option} {text}: must be a number of at least {least}")),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("--idle {text}: must be 0.1 to 3600 seconds")),
    }
}

fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("--listen {text}: must be IP address and port, as 127.0.0.1:4400"))
}

fn seed(text: &str) -> Result<Address, String> {
    text.parse().map_err(|error| format!("--join {text}: {error}"))
}
