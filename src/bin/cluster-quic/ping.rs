//! `ping`: how far one gets with a node, step by step, and why no further.
//!
//! Two ways to a node are used. A probe of QUIC itself (`probe`) says whether anything answers, and how
//! soon, without a connection. Then the library dials as it always does, as a node of its own that goes in
//! order after a moment: what it says of a failure is what a real node would say, and the pinged node sees
//! a peer that came and shut down. Only when certificates keep the two apart, a third look (`peek`) tells
//! whose certificate it was.

mod hint;
mod outcome;
mod peek;
mod probe;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use clap::Args;
use cluster_quic::{
    Address, AssociationError, ClusterTransport, Config, Event, Events, Identity, Peer,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::certificate::Description;
use crate::failure::Failure;
use crate::identity::{IdentityArgs, between, duration};
use crate::report::Line;
use crate::visitor;
use hint::{Known, explain};
use outcome::{Outcome, Probes};
use probe::Answer;

/// How long the first probe waits at most: what drops it may still let a connection through.
const PROBE: Duration = Duration::from_secs(2);

/// What leaving may take.
const LEAVE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Ping {
    /// The node: akka.quic://SYSTEM@HOST:PORT, as it advertises itself
    address: Address,

    #[command(flatten)]
    identity: IdentityArgs,

    /// Probes for the round-trip time
    #[arg(long, short = 'c', value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,

    /// Time between probes
    #[arg(long, short = 'i', value_name = "TIME", default_value = "200ms", value_parser = duration)]
    interval: Duration,

    /// How long each step may take: 5s, 250ms
    #[arg(long, short = 't', value_name = "TIME", default_value = "5s",
          value_parser = between("10ms", "10m"))]
    timeout: Duration,

    /// The cluster's name, if it is not the system's
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
The steps: name (resolved to which addresses), QUIC (something answers on the UDP port), TLS (whose \
certificate), greeting (of that cluster, and which life of it), lanes. Then the round-trip time of \
probes that open no connection, and what was negotiated.

The pinged node sees a peer with a name of this certificate and a port below 1024 that comes and \
shuts down. Nothing is sent to its actors.

Examples:
  cluster-quic ping akka.quic://demo@127.0.0.1:4400
  cluster-quic ping akka.quic://demo@node-a.lan:4400 --certs certs --as node-b
  cluster-quic ping akka.quic://demo@node-a.lan:4400 --json -c 1 -t 2s

Exit codes: 0 associated, 1 not (the last line says why), 2 usage.";

pub(crate) fn run(ping: &Ping) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::wrong)?;
    let result = runtime.block_on(ping.run());
    // A name that is being resolved keeps its thread for as long as the system likes.
    runtime.shutdown_timeout(LEAVE);
    result
}

impl Ping {
    async fn run(&self) -> Result<(), Failure> {
        let files = self.identity.files()?;
        let identity = self.identity.load()?;
        let ours = CertificateDer::from_pem_file(&files.cert).map_err(Failure::wrong)?;
        let ours = Description::of(&ours, SystemTime::now()).map_err(Failure::wrong)?;
        let mut outcome = Outcome::new(&self.address, self.json);
        outcome.begin(&ours)?;
        self.steps(&identity, &ours, &mut outcome).await?;
        outcome.end()
    }

    /// Step by step; the first that is wrong is the last.
    async fn steps(
        &self,
        identity: &Identity,
        ours: &Description,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        // Before the first limit begins: the first random number of a process takes a tenth of a second of
        // work, and seconds on a busy machine.
        let port = visitor::port(&self.address)?;
        let Some(addresses) = self.resolve(outcome).await? else { return Ok(()) };
        let answered = match self.ask(&addresses, outcome).await? {
            Asked::Answered(to) => Some(to),
            Asked::Nothing => None,
            Asked::Refused => return Ok(()),
        };
        // Dialled is what has answered: a machine may have names for IPv6 addresses, and no IPv6.
        let tried = answered.map_or(addresses.clone(), |to| vec![to]);
        let node = self.node(identity, &tried, port)?;
        let result = tokio::select! {
            result = self.associate(&node, ours, &addresses, answered, outcome) => result,
            _ = tokio::signal::ctrl_c() => {
                self.settle(&node).await;
                Err(Failure::wrong("interrupted"))
            }
        };
        // Whatever came of it, the node hears a goodbye.
        node.shutdown(LEAVE).await;
        result
    }

    async fn resolve(&self, outcome: &mut Outcome) -> Result<Option<Vec<SocketAddr>>, Failure> {
        let addresses = match visitor::resolve(&self.address, self.timeout).await {
            Ok(addresses) => addresses,
            Err(text) => {
                outcome.line(Line::wrong("name", text).hint(hint::NO_NAME))?;
                return Ok(None);
            }
        };
        outcome.resolved = addresses.iter().map(ToString::to_string).collect();
        let host = self.address.host();
        let text = if host.parse::<std::net::IpAddr>().is_ok() {
            format!("{host} is an address")
        } else {
            let ips: Vec<_> = addresses.iter().map(|to| to.ip().to_string()).collect();
            format!("{host} is {}", ips.join(", "))
        };
        outcome.line(Line::good("name", text))?;
        Ok(Some(addresses))
    }

    /// Asks all addresses at once whether they speak QUIC.
    async fn ask(&self, addresses: &[SocketAddr], outcome: &mut Outcome) -> Result<Asked, Failure> {
        let limit = self.timeout.min(PROBE);
        let mut questions = JoinSet::new();
        for &to in addresses {
            questions.spawn(async move { (to, probe::ask(to, limit).await) });
        }
        let mut failed = Vec::new();
        while let Some(answer) = questions.join_next().await {
            match answer.map_err(Failure::wrong)? {
                (to, Answer::Quic { rtt, versions }) => {
                    outcome.versions = versions;
                    let text = format!("{to} answered after {}", outcome::ms(rtt));
                    outcome.answered = Some(to.to_string());
                    outcome.line(Line::good("QUIC", text))?;
                    return Ok(Asked::Answered(to));
                }
                other => failed.push(other),
            }
        }
        if failed.iter().any(|(_, answer)| matches!(answer, Answer::Silence)) {
            let text = format!("{} to a probe; dialling anyway", hint::no_answer(limit));
            outcome.line(Line::note("QUIC", text))?;
            return Ok(Asked::Nothing);
        }
        let unreachable = failed.iter().all(|(_, answer)| matches!(answer, Answer::Unreachable(_)));
        let each = failed.iter().map(|(to, answer)| match answer {
            Answer::Unreachable(error) => format!("{to} cannot be reached: {error}"),
            _ => format!("{to}: port unreachable (ICMP)"),
        });
        let text = each.collect::<Vec<_>>().join("\n");
        outcome.line(Line::wrong("QUIC", text).hint(match unreachable {
            true => hint::UNREACHABLE,
            false => hint::PORT_UNREACHABLE,
        }))?;
        Ok(Asked::Refused)
    }

    /// A node for the moment, with a name that its certificate covers.
    fn node(
        &self,
        identity: &Identity,
        addresses: &[SocketAddr],
        port: u16,
    ) -> Result<ClusterTransport, Failure> {
        let plain = identity.names().iter().find(|name| !name.starts_with('*'));
        let host = plain.or(identity.names().first()).map(|name| name.replacen('*', "ping", 1));
        let config = Config::builder(self.address.system())
            .cluster(self.cluster.as_deref().unwrap_or(self.address.system()))
            .bind(SocketAddr::new(visitor::any(addresses), 0))
            .advertise_host(host.unwrap_or_default())
            .advertise_port(port)
            .dial_timeout(self.timeout)
            .build()
            .map_err(Failure::usage)?;
        ClusterTransport::bind(config, identity).map_err(Failure::wrong)
    }

    async fn associate(
        &self,
        node: &ClusterTransport,
        ours: &Description,
        addresses: &[SocketAddr],
        answered: Option<SocketAddr>,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let mut events = node.events();
        let peer = node.peer(&self.address).map_err(Failure::wrong)?;
        let error = tokio::select! {
            connected = peer.connect() => connected.err().map(|error| AssociationError::Refused(error.to_string())),
            error = failed(&mut events) => Some(error),
        };
        // It may have gone again in the same moment.
        let error = match (error, peer.connection()) {
            (None, Some(shown)) => {
                let stats = peer.stats();
                outcome.associated(&shown, stats.incarnation, node.address())?;
                let to = answered.or(shown.remote);
                return self.measure(&peer, to, outcome).await;
            }
            (None, None) => peer.stats().last_error.unwrap_or(AssociationError::Goodbye),
            (Some(error), _) => error,
        };
        let theirs = match (&error, answered.or(addresses.first().copied())) {
            (AssociationError::Certificate(_), Some(to)) => {
                peek::certificate(to, self.address.host(), self.timeout).await
            }
            _ => None,
        };
        let theirs = theirs.and_then(|der| Description::of(&der, SystemTime::now()).ok());
        let known = Known {
            address: &self.address,
            cluster: self.cluster.as_deref().unwrap_or(self.address.system()),
            answered: answered.is_some(),
            theirs: theirs.as_ref(),
            ours,
        };
        let line = explain(&error, &known);
        if let Some(theirs) = theirs {
            outcome.shown(theirs, false)?;
        }
        outcome.line(line)?;
        Ok(())
    }

    /// Lets a dial that is under way come to its end. One that is given up while the node says yes to it
    /// ends there as superseded, and not with a goodbye, so that the node would dial back.
    async fn settle(&self, node: &ClusterTransport) {
        let mut events = node.events();
        let Ok(peer) = node.peer(&self.address) else { return };
        let settled = async {
            tokio::select! {
                _ = peer.connect() => {}
                _ = failed(&mut events) => {}
            }
        };
        let _ = timeout(LEAVE, settled).await;
    }

    async fn measure(
        &self,
        peer: &Peer,
        to: Option<SocketAddr>,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let Some(to) = to else { return Ok(()) };
        let mut probes = Probes::default();
        let mut next = Instant::now();
        for _ in 0..self.count {
            sleep_until(next).await;
            next = Instant::now() + self.interval;
            probes.add(match probe::ask_once(to, self.timeout.min(PROBE)).await {
                Answer::Quic { rtt, .. } => Some(rtt),
                _ => None,
            });
        }
        outcome.measured(&probes, peer.stats().link.as_ref())?;
        Ok(())
    }
}

enum Asked {
    Answered(SocketAddr),
    /// Nothing came, which may be the probe's fault.
    Nothing,
    /// Nobody is there: the last line says so.
    Refused,
}

/// Waits for a failed dial.
async fn failed(events: &mut Events) -> AssociationError {
    loop {
        match events.recv().await {
            Some(Event::DialFailed { error, .. } | Event::PeerDown { reason: error, .. }) => {
                return error;
            }
            Some(_) => {}
            None => return AssociationError::ShuttingDown,
        }
    }
}
