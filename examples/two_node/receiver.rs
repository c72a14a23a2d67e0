//! The node that listens: takes the lines, and reports to the sender what it got.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atomr_cluster::RemoteMessageSink;
use cluster_quic::{Address, RemoteTell};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::args::NodeOptions;
use crate::gauge::{self, Gauge, Heard, Phase};
use crate::lines::{Digests, TARGETS};
use crate::node::{Node, load_identity};
use crate::outcome::Failure;
use crate::screen::{say, thousands};
use crate::stop::Stop;
use crate::summary::Report;

/// The actors of this node, as paths: one per target, and one that answers questions.
pub(crate) const LINES: [&str; TARGETS] = [
    "/user/lines-0",
    "/user/lines-1",
    "/user/lines-2",
    "/user/lines-3",
    "/user/lines-4",
    "/user/lines-5",
    "/user/lines-6",
    "/user/lines-7",
];
pub(crate) const DESK: &str = "/user/desk";

/// What the desk is asked (as manifests).
pub(crate) const BEGIN: &str = "begin";
pub(crate) const FINISH: &str = "finish";

/// Where received tells go.
struct Lines {
    targets: [Mutex<Target>; TARGETS],
    desk: UnboundedSender<Question>,
}

/// What came for one target.
struct Target {
    received: u64,
    next: u64,
    out_of_order: u64,
    digest: aws_lc_rs::digest::Context,
}

struct Question {
    finish: bool,
    /// Path of the actor that asked; it begins with its node's address.
    asker: String,
}

/// The transport calls this on its own threads, for each lane in order.
impl RemoteMessageSink for Lines {
    fn deliver(&self, target: &str, manifest: &str, payload: &[u8], sender: Option<&str>) {
        if let Some(number) = LINES.iter().position(|path| *path == target) {
            self.target(number).take(payload);
        } else if let (DESK, BEGIN | FINISH, Some(asker)) = (target, manifest, sender) {
            if manifest == BEGIN {
                self.reset();
            }
            let question = Question { finish: manifest == FINISH, asker: asker.to_owned() };
            let _ = self.desk.send(question);
        }
    }
}

impl Target {
    /// A line is its number (8 bytes, little-endian) and its text.
    fn take(&mut self, payload: &[u8]) {
        let Some((number, line)) = payload.split_first_chunk() else {
            self.out_of_order += 1;
            return;
        };
        let number = u64::from_le_bytes(*number);
        if number != self.next {
            self.out_of_order += 1;
        }
        self.next = number.wrapping_add(TARGETS as u64);
        self.received += 1;
        self.digest.update(line);
    }
}

impl Lines {
    fn new(desk: UnboundedSender<Question>) -> Arc<Self> {
        let digest = || aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let target =
            |number| Target { received: 0, next: number as u64, out_of_order: 0, digest: digest() };
        let targets = std::array::from_fn(|number| Mutex::new(target(number)));
        Arc::new(Self { targets, desk })
    }

    fn target(&self, number: usize) -> MutexGuard<'_, Target> {
        self.targets[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the next sender.
    fn reset(&self) {
        let fresh = Self::new(self.desk.clone());
        for number in 0..TARGETS {
            std::mem::swap(&mut *self.target(number), &mut *fresh.target(number));
        }
    }

    fn report(&self, gauge: &Gauge, members: usize) -> Report {
        let mut report = Report {
            members,
            idle: gauge.figures(Phase::Idle),
            backlog: gauge.figures(Phase::Backlog),
            longest_gap: gauge.longest_gap(),
            of_daemons: gauge.of_daemons,
            ..Report::default()
        };
        let digests = std::array::from_fn(|number| {
            let target = self.target(number);
            report.received += target.received;
            report.out_of_order += target.out_of_order;
            target.digest.clone()
        });
        report.sha256 = Digests { targets: digests }.combined();
        report
    }
}

/// Receives until told to stop.
pub(crate) async fn run(
    options: &NodeOptions,
    mut stop: Stop,
) -> Result<std::process::ExitCode, Failure> {
    let identity = load_identity(&options.certs, &options.name)?;
    let (desk, mut questions) = unbounded_channel();
    let lines = Lines::new(desk);
    let (node, mut heard) = Node::start(options.listen, &identity, lines.clone())?;
    if options.child {
        say(node.address()); // The parent reads it, and nothing else.
    } else {
        say(format_args!(
            "{} listens at {}\nJoin it from another terminal (Ctrl-C ends this one):\n\n    \
             cargo run --release --example two_node -- node --join {}\n",
            options.name,
            node.address(),
            node.address()
        ));
    }
    let mut gauge = Gauge::default();
    loop {
        tokio::select! {
            Some(what) = heard.recv() => match what {
                Heard::Probe { phase, delay, from } => {
                    gauge.add(phase, delay);
                    if let Ok(peer) = node.transport.peer(&from) {
                        gauge::echo(&peer, phase, delay);
                    }
                }
                Heard::Daemon => gauge.of_daemons += 1,
                Heard::Echo { .. } => {}
            },
            Some(question) = questions.recv() => {
                let Some(asker) = node_of(&question.asker) else { continue };
                let report = if question.finish {
                    let members = node.members_up_with(&asker).unwrap_or(0);
                    lines.report(&gauge, members)
                } else {
                    gauge = Gauge::default();
                    // Answered once gossip has told us of the other node.
                    let _ = timeout(Duration::from_secs(10), node.sees_up(&asker)).await;
                    Report::default()
                };
                if !options.child {
                    tell_people(&question, &asker, &report);
                }
                let answer = RemoteTell {
                    target_path: question.asker,
                    manifest: if question.finish { "report" } else { "ready" }.into(),
                    payload: report.to_text().into_bytes(),
                    sender_path: None,
                };
                if let Err(error) = node.transport.tell(&asker, answer) {
                    say(format_args!("no answer to {asker}: {error}"));
                }
            }
            () = stop.wait() => break,
        }
    }
    node.transport.shutdown(Duration::from_secs(2)).await;
    Ok(std::process::ExitCode::SUCCESS)
}

fn tell_people(question: &Question, asker: &Address, report: &Report) {
    if !question.finish {
        return say(format_args!("{asker} joined and sends"));
    }
    let order = match report.out_of_order {
        0 => "all in order".to_owned(),
        wrong => format!("{wrong} out of order"),
    };
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    say(format_args!(
        "{} lines from {asker}, {order}\n  SHA-256 {}\n  gossip p99 {:.2} ms idle, {:.2} ms under \
         the backlog",
        thousands(report.received),
        report.sha256,
        ms(report.idle.p99),
        ms(report.backlog.p99)
    ));
}

/// The address that an actor's full path begins with.
fn node_of(path: &str) -> Option<Address> {
    path.split_once("/user/")?.0.parse().ok()
}
