//! `cluster-quic node`: a member of an atomr cluster, and a look at it.
//!
//! `member` is the node, `gossip` what measures its gossip, `counter` its sink. `sample` reads figures,
//! `model` makes of them what is shown, `view` draws it, `screen` and `plain` put it out. `ending` is its end.

mod args;
mod counter;
mod display;
mod ending;
mod gossip;
mod journal;
mod member;
mod model;
mod plain;
mod sample;
mod screen;
mod view;

pub(crate) use counter::LOAD;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use cluster_quic::{Address, Config, Event, IdentityFiles};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval};

use crate::failure::Failure;
use crate::identity::Files;
use crate::stop::Stop;
use crate::words::{self, Level};
pub(crate) use args::NodeArgs;
use display::Display;
use member::ClusterNode;
use model::Model;
use screen::Input;

/// How often figures are read and shown.
const LOOK: Duration = Duration::from_millis(250);

/// How long a seed is given before it is reported and tried again.
const SEED: Duration = Duration::from_secs(10);

/// Runs a node until it is told to stop.
pub(crate) fn run(args: &NodeArgs) -> Result<(), Failure> {
    let config = args.config()?;
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::wrong)?;
    let result = runtime.block_on(watch(args, config));
    // A name that is being resolved keeps its thread for as long as the system likes.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn watch(args: &NodeArgs, config: Config) -> Result<(), Failure> {
    args.check_seeds().await?;
    let Files { cert, key, ca } = args.identity.files()?;
    let files = IdentityFiles::new(cert, key, ca);
    let mut stop = Stop::new();
    let (node, mut events, mut delays) =
        ClusterNode::start(config, files, args.down_after.0).await?;
    let address = node.transport.address();
    let incarnation = node.transport.incarnation().to_string();
    let mut model =
        Model::new(address.to_string(), words::short(address), incarnation.clone(), Instant::now());
    let text = format!("node {address} is up, incarnation {incarnation}");
    model.journal.add(SystemTime::now(), Level::Good, text);

    let mut display = match Display::open(args.plain, args.json, args.every) {
        Ok(display) => display,
        Err(error) => {
            node.transport.shutdown(Duration::ZERO).await;
            let text = format!("the terminal cannot be used: {error}; try --plain");
            return Err(Failure::wrong(text));
        }
    };
    let (joined, mut joins) = unbounded_channel();
    let join = join_any(&node, &args.join, joined);
    tokio::pin!(join);
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let why = loop {
        tokio::select! {
            _ = tick.tick() => {
                model.observe(node.sample(), Instant::now(), SystemTime::now());
                if let Err(error) = display.show(&model) {
                    break unseen(&error);
                }
            }
            Some(event) = events.recv() => note(&mut model, &event),
            Some(delay) = delays.recv() => model.gossip.add(delay, Instant::now()),
            Some((level, text)) = joins.recv() => {
                model.journal.add(SystemTime::now(), level, text);
            }
            () = &mut join => {}
            name = stop.wait() => break name,
            input = display.input() => match input {
                Input::Quit => break "q",
                Input::Gone => break "the terminal is gone",
                Input::Redraw => if let Err(error) = display.show(&model) {
                    break unseen(&error);
                },
            },
        }
    };

    stop.ending();
    model.ending = Some("draining; again to end at once".into());
    model.journal.add(
        SystemTime::now(),
        Level::Plain,
        format!("{why}: leaving the cluster, then draining"),
    );
    let hurry = Notify::new();
    let ending = ending::end(&node.transport, node.leave(), args.drain, hurry.notified());
    tokio::pin!(ending);
    let report = loop {
        tokio::select! {
            report = &mut ending => break report,
            _ = tick.tick() => {
                model.observe(node.sample(), Instant::now(), SystemTime::now());
                // Whether anybody looks makes no difference any more.
                let _ = display.show(&model);
            }
            Some(event) = events.recv() => note(&mut model, &event),
            // Once more: not to be waited for.
            _ = stop.wait() => hurry.notify_one(),
            input = display.input() => match input {
                Input::Quit => hurry.notify_one(),
                Input::Gone => {}
                Input::Redraw => _ = display.show(&model),
            },
        }
    };
    model.observe(node.sample(), Instant::now(), SystemTime::now());
    if display.close(&model)
        && let Err(error) = ending::print(&report, &model, args.json)
    {
        unseen(&error);
    }
    ending::verdict(&report)
}

fn note(model: &mut Model, event: &Event) {
    let now = SystemTime::now();
    if let Some((level, text)) = words::describe(event, now) {
        model.journal.add(now, level, text);
    }
}

/// The output cannot be written: a reason to end, as nobody sees the node any more. That its reader has
/// gone is no fault; anything else is said where it may still be read.
fn unseen(error: &io::Error) -> &'static str {
    if error.kind() != io::ErrorKind::BrokenPipe {
        crate::say(&format!("the output cannot be written: {error}; the node leaves"));
    }
    "the output is closed"
}

/// Tries one seed after the other, until one answers, and tells of it. Then it waits for ever.
async fn join_any(node: &ClusterNode, seeds: &[Address], tell: UnboundedSender<(Level, String)>) {
    // All nodes of a cluster may be given the same list: one cannot join itself.
    let own = node.transport.address();
    let others: Vec<_> = seeds.iter().filter(|seed| *seed != own).collect();
    if others.is_empty() && !seeds.is_empty() {
        let text = "no --join but this node itself: it is the first of its cluster";
        let _ = tell.send((Level::Good, text.into()));
    }
    for seed in others.into_iter().cycle() {
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
