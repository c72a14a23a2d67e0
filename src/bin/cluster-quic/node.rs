//! `cluster-quic node`: a member of an atomr cluster, and a look at it.
//!
//! `member` is the node, `gossip` what measures its gossip, `counter` its sink. `sample` reads figures,
//! `model` makes of them what is shown, `view` draws it, `screen` and `plain` put it out.

mod counter;
mod gossip;
mod journal;
mod member;
mod model;
mod plain;
mod sample;
mod screen;
mod view;

pub(crate) use counter::LOAD;

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use cluster_quic::{Address, Config, ShutdownReport};
use tokio::time::{MissedTickBehavior, interval};

use crate::failure::Failure;
use crate::figures::{bytes, thousands};
use crate::identity::{IdentityArgs, duration};
use crate::stop::Stop;
use crate::words::{self, Level};
use member::ClusterNode;
use model::Model;
use plain::Plain;
use screen::{Input, Screen};

/// How often figures are read and shown.
const LOOK: Duration = Duration::from_millis(250);

/// How long a seed is given before it is reported and tried again.
const SEED: Duration = Duration::from_secs(10);

/// The system's name if nobody says otherwise.
const SYSTEM: &str = "cluster";

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// IP address and UDP port to listen on [default: 127.0.0.1:4400; with --join port 0, any]
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

    /// A node of the cluster to join; several are tried in turn, until one answers
    #[arg(long, value_name = "ADDRESS")]
    join: Vec<Address>,

    /// Down a member that cannot be reached for so long, and keep it out until it is started anew;
    /// 0 for never
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration_or_never)]
    down_after: Never,

    /// At the end: how long to wait until everything is sent and acknowledged
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    drain: Duration,

    /// Lines in place of the live view, as always where standard output is no terminal
    #[arg(long)]
    plain: bool,

    /// A line of status every so often, where lines are printed
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    every: Duration,

    /// Lines of JSON; implies --plain
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    identity: IdentityArgs,
}

/// A time, or `None` for never. (clap would take a bare `Option` for an option that may be absent.)
#[derive(Debug, Clone, Copy)]
struct Never(Option<Duration>);

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

impl NodeArgs {
    fn config(&self) -> Result<Config, Failure> {
        let port = if self.join.is_empty() { 4400 } else { 0 };
        let listen = self.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], port)));
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
}

/// Runs a node until it is told to stop.
pub(crate) fn run(args: &NodeArgs) -> Result<(), Failure> {
    let config = args.config()?;
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::wrong)?;
    runtime.block_on(watch(args, config))
}

async fn watch(args: &NodeArgs, config: Config) -> Result<(), Failure> {
    let identity = args.identity.load()?;
    let mut stop = Stop::new();
    let (node, mut delays) = ClusterNode::start(config, &identity, args.down_after.0)?;
    let mut events = node.transport.events();
    let address = node.transport.address();
    let incarnation = node.transport.incarnation().to_string();
    let mut model =
        Model::new(address.to_string(), words::short(address), incarnation.clone(), Instant::now());
    let text = format!("node {address} is up, incarnation {incarnation}");
    model.journal.add(SystemTime::now(), Level::Good, text);

    let mut display = Display::open(args)?;
    let (joined, mut joins) = tokio::sync::mpsc::unbounded_channel();
    let join = join_any(&node, &args.join, joined);
    tokio::pin!(join);
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let why = loop {
        tokio::select! {
            _ = tick.tick() => {
                model.observe(node.sample(), Instant::now(), SystemTime::now());
                display.show(&model)?;
            }
            Some(event) = events.recv() => {
                if let Some((level, text)) = words::describe(&event) {
                    model.journal.add(SystemTime::now(), level, text);
                }
            }
            Some(delay) = delays.recv() => model.gossip.add(delay, Instant::now()),
            Some((level, text)) = joins.recv() => {
                model.journal.add(SystemTime::now(), level, text);
            }
            () = &mut join => {}
            name = stop.wait() => break name,
            input = display.input() => match input {
                Input::Quit => break "q",
                Input::Redraw => display.show(&model)?,
            },
        }
    };

    model.ending = Some("draining; again to end at once".into());
    model.journal.add(
        SystemTime::now(),
        Level::Plain,
        format!("{why}: leaving the cluster, then draining"),
    );
    let ending = async {
        node.leave().await;
        node.transport.shutdown(args.drain).await
    };
    tokio::pin!(ending);
    let report = loop {
        tokio::select! {
            report = &mut ending => break report,
            _ = tick.tick() => {
                model.observe(node.sample(), Instant::now(), SystemTime::now());
                display.show(&model)?;
            }
            Some(event) = events.recv() => {
                if let Some((level, text)) = words::describe(&event) {
                    model.journal.add(SystemTime::now(), level, text);
                }
            }
            // Once more: not to be waited for.
            _ = stop.wait() => break node.transport.shutdown(Duration::ZERO).await,
            input = display.input() => match input {
                Input::Quit => break node.transport.shutdown(Duration::ZERO).await,
                Input::Redraw => display.show(&model)?,
            },
        }
    };
    model.observe(node.sample(), Instant::now(), SystemTime::now());
    display.close(&model)?;
    finish(args, &model, &report)
}

/// Tries one seed after the other, until one answers, and tells of it. Then it waits for ever.
async fn join_any(
    node: &ClusterNode,
    seeds: &[Address],
    tell: tokio::sync::mpsc::UnboundedSender<(Level, String)>,
) {
    for seed in seeds.iter().cycle() {
        match node.join(seed, SEED).await {
            Ok(()) => {
                let text = format!("joined through {}", words::short(seed));
                let _ = tell.send((Level::Good, text));
                break;
            }
            Err(silent) => {
                let _ = tell.send((Level::Bad, format!("{silent}; trying on")));
            }
        }
    }
    std::future::pending().await
}

/// The report, and the exit code by it.
fn finish(args: &NodeArgs, model: &Model, report: &ShutdownReport) -> Result<(), Failure> {
    let lost: u64 = report.lost.iter().map(|(_, lost)| lost.frames).sum();
    let mut out = io::stdout().lock();
    if args.json {
        let of_peer = |(peer, lost): &(Address, cluster_quic::Lost)| serde_json::json!({"peer": peer.to_string(), "tells": lost.frames, "bytes": lost.bytes});
        let lost: Vec<_> = report.lost.iter().map(of_peer).collect();
        let line = serde_json::json!({
            "at": crate::figures::timestamp(SystemTime::now()),
            "ended": {
                "address": model.address,
                "clean": report.is_clean(),
                "seconds": report.took.as_secs_f64(),
                "acknowledged": report.acknowledged,
                "lost": lost,
                "received": {
                    "load": { "tells": model.load.tells, "bytes": model.load.bytes },
                    "others": { "tells": model.others.tells, "bytes": model.others.bytes },
                },
            }
        });
        writeln!(out, "{line}")?;
    } else {
        let others = match model.others.tells {
            0 => String::new(),
            number => format!(", and {} for other targets", thousands(number)),
        };
        let what = if lost == 0 {
            "nothing lost".into()
        } else {
            format!("{} tells lost", thousands(lost))
        };
        writeln!(
            out,
            "node {} ended after {}\n\
             drained in {:.2} s, {what}; sent: {} tells acknowledged\n\
             received: {} tells ({}) for {LOAD}{others}",
            model.address,
            crate::figures::span(model.age),
            report.took.as_secs_f64(),
            thousands(report.acknowledged),
            thousands(model.load.tells),
            bytes(model.load.bytes),
        )?;
    }
    out.flush()?;
    if lost > 0 { Err(Failure::Told) } else { Ok(()) }
}

/// Where it is shown.
enum Display {
    Screen(Box<Screen>),
    Plain(Plain),
}

impl Display {
    fn open(args: &NodeArgs) -> Result<Self, Failure> {
        if args.plain || args.json || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return Ok(Self::Plain(Plain::new(args.json, args.every, Instant::now())));
        }
        let failed =
            |error| Failure::wrong(format!("the terminal cannot be used: {error}; try --plain"));
        Ok(Self::Screen(Box::new(Screen::open().map_err(failed)?)))
    }

    fn show(&mut self, model: &Model) -> io::Result<()> {
        match self {
            Self::Screen(screen) => screen.show(model),
            Self::Plain(plain) => plain.show(model, Instant::now(), SystemTime::now()),
        }
    }

    /// Cancel-safe.
    async fn input(&mut self) -> Input {
        match self {
            Self::Screen(screen) => screen.input().await,
            Self::Plain(_) => std::future::pending().await,
        }
    }

    /// Shows what is left, and gives the terminal back.
    fn close(mut self, model: &Model) -> io::Result<()> {
        match &mut self {
            Self::Screen(_) => Ok(()),
            Self::Plain(_) => self.show(model),
        }
    }
}
