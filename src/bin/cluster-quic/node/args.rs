//! The command line of `node`, and what of it cannot work.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use clap::Args;
use cluster_quic::{Address, Config};
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::identity::{IdentityArgs, duration};

/// How long a seed's name may take to be resolved, to say early that it is out of reach.
const RESOLVE: Duration = Duration::from_secs(2);

/// The system's name if nobody says otherwise.
const SYSTEM: &str = "cluster";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct NodeArgs {
    /// IP address and UDP port to listen on; 127.0.0.1 is for nodes of this machine alone, port 0 for any
    /// port [default: 127.0.0.1:4400, or 127.0.0.1:0 with --join]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,

    /// Host name or IPv4 address (and port) that the others reach the node by, if not the one it listens
    /// on; must be in its certificate
    #[arg(long, value_name = "HOST[:PORT]", value_parser = advertised)]
    advertise: Option<(String, Option<u16>)>,

    /// Name of the actor system: the same on all nodes [default: that of --join, or `cluster`]
    #[arg(long, value_name = "NAME")]
    system: Option<String>,

    /// Name of the cluster: the same on all nodes [default: that of the system]
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,

    /// A node of the cluster to join; several are tried in turn, until one answers. This node's own
    /// address is passed over, so that all nodes can be given the same
    #[arg(long, value_name = "ADDRESS")]
    pub(super) join: Vec<Address>,

    /// Down a member that cannot be reached for so long, and keep it out until it is started anew;
    /// 0 for never
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration_or_never)]
    pub(super) down_after: Never,

    /// At the end: how long to wait until everything is sent and acknowledged
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) drain: Duration,

    /// Lines in place of the live view, as always where standard output is no terminal
    #[arg(long)]
    pub(super) plain: bool,

    /// A line of status every so often, where lines are printed
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(super) every: Duration,

    /// Lines of JSON; implies --plain
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    pub(super) identity: IdentityArgs,
}

/// A time, or `None` for never. (clap would take a bare `Option` for an option that may be absent.)
#[derive(Debug, Clone, Copy)]
pub(super) struct Never(pub(super) Option<Duration>);

fn duration_or_never(text: &str) -> Result<Never, String> {
    if text == "0" { Ok(Never(None)) } else { duration(text).map(|time| Never(Some(time))) }
}

/// `HOST` or `HOST:PORT`; no numeric IPv6, which atomr's daemons cannot read.
fn advertised(text: &str) -> Result<(String, Option<u16>), String> {
    if text.starts_with('[') || text.matches(':').count() > 1 {
        return Err(NO_IPV6.into());
    }
    match text.rsplit_once(':') {
        None => Ok((text.to_owned(), None)),
        Some((host, port)) => match port.parse() {
            Ok(port) if port > 0 => Ok((host.to_owned(), Some(port))),
            _ => Err(format!("`{port}` is no port")),
        },
    }
}

const NO_IPV6: &str = "atomr's daemons cannot read numeric IPv6 addresses: advertise a host name that \
                       resolves to it, with --advertise";

const AFTER_HELP: &str = "\
A member of an atomr cluster, with a sink that counts tells. On a terminal it shows members, \
connections, lanes and gossip's delay; elsewhere it prints lines. Certificates that are replaced in \
their files are taken without a restart.

q, Ctrl-C, SIGTERM, or a terminal that is closed: it leaves the cluster and drains; once more, at once.

Examples:
  cluster-quic node --as node-a --system demo
  cluster-quic node --as node-b --join akka.quic://demo@127.0.0.1:4400
  cluster-quic node --system demo --listen 0.0.0.0:4400 --advertise node-a.lan \\
      --join akka.quic://demo@node-b.lan:4400

Exit codes: 0 ended in order, 1 it could not start or tells were lost, 2 usage.";

impl NodeArgs {
    fn listen(&self) -> SocketAddr {
        let port = if self.join.is_empty() { 4400 } else { 0 };
        self.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// # Errors
    /// Usage, if that would be no node that others can reach.
    pub(super) fn config(&self) -> Result<Config, Failure> {
        let listen = self.listen();
        if self.advertise.is_none() {
            if listen.ip().is_unspecified() {
                return Err(Failure::usage(format!(
                    "the node would listen on all of this machine's addresses ({listen}): say with \
                     --advertise by which of its certificate's names the others reach it"
                )));
            }
            if listen.is_ipv6() {
                return Err(Failure::usage(NO_IPV6));
            }
        }
        let of_seed = self.join.first().map_or(SYSTEM, Address::system);
        let mut config = Config::builder(self.system.as_deref().unwrap_or(of_seed)).bind(listen);
        if let Some(cluster) = &self.cluster {
            config = config.cluster(cluster);
        }
        if let Some((host, port)) = &self.advertise {
            config = config.advertise_host(host);
            if let Some(port) = port {
                config = config.advertise_port(*port);
            }
        }
        config.build().map_err(Failure::usage)
    }

    /// # Errors
    /// Usage, if a seed is out of reach of the address to listen on.
    pub(super) async fn check_seeds(&self) -> Result<(), Failure> {
        let listen = self.listen();
        if !listen.ip().is_loopback() {
            return Ok(());
        }
        for seed in &self.join {
            // What does not resolve now may do so later, and is told of when it is dialled.
            let found = timeout(RESOLVE, lookup_host((seed.host(), seed.port()))).await;
            let Ok(Ok(found)) = found else { continue };
            let found: Vec<_> = found.map(|address| address.ip()).collect();
            if !found.is_empty() && !found.iter().any(|ip| is_this_machine(*ip)) {
                return Err(Failure::usage(format!(
                    "{seed} is on another machine, and a node that listens on {listen} reaches this \
                     one alone: give an address of this machine's network to --listen, or 0.0.0.0 \
                     with --advertise"
                )));
            }
        }
        Ok(())
    }
}

/// Whether an address is one of this machine's: a socket can have those alone.
fn is_this_machine(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}
