//! `certs`: development certificates made, and any certificates looked at.

mod check;
mod contents;
mod make;
mod show;
mod trust;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::failure::Failure;
use crate::identity::{CERTS, IdentityArgs};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Certs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a development CA in a folder
    Init(Init),
    /// Issue a certificate for host names and IP addresses, signed by that CA
    Issue(Issue),
    /// Show what certificates say
    Show(Show),
    /// Check that a node can work with a certificate, its key and a CA bundle
    Check(Check),
}

const EXAMPLES: &str = "\
Examples:
  cluster-quic certs init
  cluster-quic certs issue localhost 127.0.0.1 ::1
  cluster-quic certs issue --as node-a node-a.lan 192.0.2.7
  cluster-quic certs show certs/node-a.pem
  cluster-quic certs check --as node-a --name node-a.lan

Exit codes: 0 all is well, 1 something is wrong with what was checked, 2 the command line is wrong.";

#[derive(Debug, Args)]
#[command(after_help = "\
The folder gets ca.pem, the CA bundle of every node, and ca-key.pem, with which certificates are \
issued: whoever has it can join the cluster as any node. For development only.

Examples:
  cluster-quic certs init
  cluster-quic certs init --certs /tmp/demo --name demo

Exit codes: 0 made, 1 there is a CA already or it cannot be written, 2 usage.")]
struct Init {
    /// The folder; it is made if need be
    #[arg(long, value_name = "DIR", default_value = CERTS)]
    certs: PathBuf,

    /// The CA's name, for people to read
    #[arg(long, default_value = "cluster-quic")]
    name: String,

    /// Replace the CA that is there: nodes with its certificates are then strangers
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Writes NAME.pem and NAME-key.pem, beside ca.pem the three files that a node takes. The first host \
names the files, unless --as does. A certificate is valid for 30 days; issue it again with --force.

Examples:
  cluster-quic certs issue localhost 127.0.0.1 ::1
  cluster-quic certs issue --as node-a node-a.lan 192.0.2.7

Exit codes: 0 issued, 1 there is one already, no CA, or it cannot be written, 2 usage.")]
struct Issue {
    /// Host names and IP addresses under which other nodes dial this one
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<String>,

    /// The folder with the CA
    #[arg(long, value_name = "DIR", default_value = CERTS)]
    certs: PathBuf,

    /// The files' name, without .pem
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,

    /// Replace the certificate and key that are there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cluster-quic certs show certs/node-a.pem certs/ca.pem
  cluster-quic certs show --json certs/node-a.pem

Exit codes: 0 shown, 1 a file cannot be read or holds no certificate, 2 usage.")]
struct Show {
    /// PEM files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Print JSON: a list of files, each with its certificates
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Says all that is wrong, not only the first.

Examples:
  cluster-quic certs check --as node-a --name node-a.lan
  cluster-quic certs check --cert node.pem --key node-key.pem --ca ca.pem

Exit codes: 0 a node can work with them, 1 something is wrong, 2 usage.")]
struct Check {
    #[command(flatten)]
    identity: IdentityArgs,

    /// A host that the certificate has to cover; may be given several times
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(certs: &Certs) -> Result<(), Failure> {
    match &certs.command {
        Command::Init(init) => make::init(&init.certs, &init.name, init.force),
        Command::Issue(issue) => {
            make::issue(&issue.certs, issue.name.as_deref(), &issue.hosts, issue.force)
        }
        Command::Show(show) => show::run(&show.files, show.json),
        Command::Check(check) => check::run(&check.identity.files()?, &check.names, check.json),
    }
}
