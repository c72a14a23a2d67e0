//! `cluster-quic load`: tells to a node, and how its gossip fares meanwhile.
//!
//! `sender` sends while `run` looks, `meter` measures gossip, `progress` shows how far it is, `outcome` is what
//! comes out.

mod meter;
mod outcome;
mod progress;
mod run;
mod sender;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use atomr_cluster::GossipPdu;
use clap::Args;
use cluster_quic::{
    Address, BindError, ClusterTransport, Config, Event, Events, Identity, MAX_FRAME, Peer,
    RemoteMessageSink, RemoteTellRef, gossip_inbox,
};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::identity::{IdentityArgs, between, duration};
use crate::stop::Stop;
use crate::visitor;
use meter::Meter;
use outcome::{Ending, Outcome};
use progress::Progress;
use run::Run;
use sender::Plan;

/// What ending takes at most, after an interruption and in general.
const LEAVE: Duration = Duration::from_secs(5);

/// The largest payload: a frame has a path and lengths besides.
const MAX_SIZE: u64 = MAX_FRAME as u64 - 1024;

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct LoadArgs {
    /// The node: akka.quic://SYSTEM@HOST:PORT, as it advertises itself
    address: Address,

    /// Bytes of payload of a tell; k and M are 1024 and 1024 k
    #[arg(long, short = 's', value_name = "BYTES", default_value = "1k", value_parser = size)]
    size: u64,

    /// Tells a second [default: as many as the node takes]
    #[arg(long, short = 'r', value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: Option<u64>,

    /// For how long to send [default: 10s, if there is no --count]
    #[arg(long = "for", short = 'd', value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,

    /// How many tells to send
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// How many target paths to send to: /user/load/0, /user/load/1, ... They spread over the lanes
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    targets: u16,

    /// For how long to measure gossip alone before, to compare with
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    idle: Duration,

    /// Do not measure gossip: for a node whose gossip is not atomr's, which would end the connection
    #[arg(long)]
    no_gossip: bool,

    /// How long to wait for the node: to be reached at first, to come back after a cut, and for any
    /// tell to be acknowledged
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = between("10ms", "1440m"))]
    patience: Duration,

    /// Name of the cluster, if it is not the system's
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,

    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    identity: IdentityArgs,
}

const AFTER_HELP: &str = "\
The tells wait for room in their lanes (back-pressure), and at the end for their acknowledgements: \
each says that the node's sink has returned. `cluster-quic node` counts them; an application's node \
treats them as tells to actors that are not there. The sender is no member of the cluster.

Gossip's delay is a round trip through the node's atomr daemon, on the gossip lane of the same \
connection.

Ctrl-C ends early, with the figures so far; once more, at once.

Examples:
  cluster-quic load akka.quic://demo@127.0.0.1:4400
  cluster-quic load akka.quic://demo@node-a.lan:4400 -s 64k -r 1000 -d 1m
  cluster-quic load akka.quic://demo@node-a.lan:4400 --count 100000 --json

Exit codes: 0 every tell was acknowledged, 1 the node was not reached or tells were lost, 2 usage.";

/// `64`, `1k`, `2M`.
fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1024),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1024 * 1024),
        _ => (text, 1),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match bytes {
        Some(bytes) if bytes <= MAX_SIZE => Ok(bytes),
        Some(_) => Err(format!("at most {MAX_SIZE} bytes fit into a tell")),
        None => Err("a size is written as 64, 1k or 2M".into()),
    }
}

/// Takes what the node may send: nothing that anybody here waits for.
struct Ignore;

impl RemoteMessageSink for Ignore {
    fn deliver(&self, _from: &Address, _tell: RemoteTellRef<'_>) {}

    fn may_block(&self) -> bool {
        false
    }
}

pub(crate) fn run(args: &LoadArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::wrong)?;
    let result = runtime.block_on(load(args));
    // A name that is being resolved keeps its thread for as long as the system likes.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn load(args: &LoadArgs) -> Result<(), Failure> {
    let identity = args.identity.load()?;
    let mut stop = Stop::new();
    let resolved = tokio::select! {
        resolved = visitor::resolve(&args.address, args.patience) => resolved,
        name = stop.wait() => Err(interrupted(name)),
    };
    let addresses = match resolved {
        Ok(addresses) => addresses,
        Err(reason) => return Err(not_reached(args, &reason)?),
    };
    let node = args.node(&identity, &addresses)?;
    let (inbox, received) = gossip_inbox::<GossipPdu>(1024);
    node.start(inbox, Arc::new(Ignore)).map_err(Failure::wrong)?;
    let peer = node.peer(&args.address).map_err(Failure::wrong)?;
    let mut events = node.events();
    if let Err(reason) = reach(args, &peer, &mut events, &mut stop).await {
        node.shutdown(Duration::ZERO).await;
        return Err(not_reached(args, &reason)?);
    }
    let meter = Meter::new(peer.clone(), node.address().to_string());
    let mut run = Run {
        args,
        peer: &peer,
        events,
        received,
        meter,
        progress: Progress::new(),
        cut: false,
        hurry: false,
    };
    let (ending, took, idle) = run.all(&mut stop).await;
    run.progress.end();
    let deadline = if ending == Ending::Done && !run.hurry { LEAVE } else { Duration::ZERO };
    leave(&node, deadline, &mut stop).await;
    let outcome = Outcome {
        node: args.address.to_string(),
        size: args.size,
        targets: args.targets,
        ending,
        took,
        idle_took: idle,
        stats: peer.stats(),
        backlog: run.progress.backlog,
        gossip: (!args.no_gossip).then(|| run.meter.figures()),
    };
    outcome.print(args.json)?;
    if outcome.is_well() { Ok(()) } else { Err(Failure::Told) }
}

/// Ends within `deadline`, or at once when it is told to stop.
async fn leave(node: &ClusterTransport, deadline: Duration, stop: &mut Stop) {
    tokio::select! {
        _ = node.shutdown(deadline) => {}
        _ = stop.wait() => {
            node.shutdown(Duration::ZERO).await;
        }
    }
}

/// The failure to print. With --json it stands in the output too.
fn not_reached(args: &LoadArgs, reason: &str) -> Result<Failure, Failure> {
    let address = &args.address;
    if args.json {
        let value = serde_json::json!({ "node": address.to_string(), "error": reason });
        crate::report::json(&mut std::io::stdout(), &value)?;
    }
    Ok(Failure::wrong(format!(
        "{address} is not reached: {reason}. `cluster-quic ping {address}` takes a closer look"
    )))
}

/// Connects, or says why not.
async fn reach(
    args: &LoadArgs,
    peer: &Peer,
    events: &mut Events,
    stop: &mut Stop,
) -> Result<(), String> {
    let hopeless = async {
        loop {
            match events.recv().await {
                Some(Event::DialFailed { error, .. }) if error.is_misconfiguration() => {
                    return crate::report::tame(&error.to_string());
                }
                Some(_) => {}
                None => return "this node has ended".into(),
            }
        }
    };
    tokio::select! {
        connected = timeout(args.patience, peer.connect()) => match connected {
            Ok(connected) => connected.map_err(|error| error.to_string()),
            Err(_) => Err(match peer.stats().last_error {
                Some(error) => crate::report::tame(&error.to_string()),
                None => format!("no answer within {:?}", args.patience),
            }),
        },
        reason = hopeless => Err(reason),
        name = stop.wait() => Err(interrupted(name)),
    }
}

fn interrupted(signal: &str) -> String {
    format!("interrupted ({signal}) before it answered")
}

impl LoadArgs {
    /// A node for the time of the load. Its address has a name that its certificate covers, and a port at
    /// which no node is: the system's choice could be that of a real node with this certificate, whose
    /// place in the other node's memory this one would take.
    fn node(&self, identity: &Identity, to: &[SocketAddr]) -> Result<ClusterTransport, Failure> {
        // Not one that atomr's daemons cannot read, if there is another: they answer gossip by it.
        let names = identity.names();
        let plain = |name: &&String| !name.starts_with('*') && !name.contains(':');
        let name = names.iter().find(plain).or(names.first());
        let host = name.map(|name| name.replacen('*', "load", 1)).unwrap_or_default();
        let config = Config::builder(self.address.system())
            .cluster(self.cluster.as_deref().unwrap_or(self.address.system()))
            .advertise_host(host)
            .advertise_port(visitor::port(&self.address)?)
            .dial_timeout(self.patience.min(Duration::from_secs(5)))
            .retention(self.patience.max(Duration::from_millis(100)))
            .idle_timeout(self.silence())
            .keep_alive(self.silence() / 5);
        let bind = |ip| {
            let config = config.clone().bind(SocketAddr::new(ip, 0)).build()?;
            ClusterTransport::bind(config, identity)
        };
        let node = match bind(visitor::any(to)) {
            // A machine may have names for IPv6 addresses, and no IPv6.
            Err(BindError::Socket { .. }) if to.iter().any(SocketAddr::is_ipv4) => {
                bind(Ipv4Addr::UNSPECIFIED.into())
            }
            node => node,
        };
        node.map_err(|error| match error {
            BindError::Config(error) => Failure::usage(error),
            error => Failure::wrong(error),
        })
    }

    /// Silence after which the node is taken for gone.
    fn silence(&self) -> Duration {
        self.patience.clamp(Duration::from_secs(2), Duration::from_secs(10))
    }

    fn plan(&self) -> Plan {
        let time = match (self.time, self.count) {
            (None, None) => Some(Duration::from_secs(10)),
            (time, _) => time,
        };
        Plan {
            size: self.size as usize,
            rate: self.rate,
            time,
            count: self.count,
            targets: self.targets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster_quic::{InProcessNetwork, RecordingSink, RemoteTell};

    /// In simulated time.
    #[tokio::test(start_paused = true)]
    async fn who_is_in_a_hurry_does_not_wait_for_the_end() {
        let network = InProcessNetwork::new();
        let config = Config::builder("sys").retention(Duration::from_secs(3600)).build();
        let node = ClusterTransport::in_process(config.unwrap(), &network, "a").unwrap();
        node.start(gossip_inbox::<String>(1).0, RecordingSink::new()).unwrap();
        let nobody = "akka.quic://sys@nobody:1".parse().unwrap();
        let [target_path, manifest] = ["/user/a", "text"].map(str::to_owned);
        let tell = RemoteTell { target_path, manifest, payload: vec![1], sender_path: None };
        node.tell(&nobody, tell).unwrap();
        let (signals, receiver) = tokio::sync::mpsc::unbounded_channel();
        signals.send("SIGINT").unwrap();
        let begin = tokio::time::Instant::now();
        leave(&node, Duration::from_secs(600), &mut Stop::of(receiver)).await;
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
        assert_eq!(node.peer_stats(&nobody).unwrap().tells().pending_frames(), 0, "it has ended");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("64"), Ok(64));
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("4k"), Ok(4096));
        assert_eq!(size("1M"), Ok(1 << 20));
        for wrong in ["", "k", "-1", "1g", "1.5k", "99999M", "99999999999999999999"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
