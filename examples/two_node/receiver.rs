//! The node that listens: takes the lines, and reports to the sender what it got.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use atomr_cluster::RemoteMessageSink;
use aws_lc_rs::digest::{Context, SHA256};
use cluster_quic::{Address, RemoteTell};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::args::NodeOptions;
use crate::gauge::{self, Gauge, Heard, Phase};
use crate::lines::{Digests, TARGETS};
use crate::node::{Node, load_identity};
use crate::outcome::{Failure, complain};
use crate::screen::{milliseconds, say, thousands};
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

/// Question to the desk: begin anew, and handle as many tells a second as the payload says.
pub(crate) const BEGIN: &str = "begin";
/// Question to the desk: what came?
pub(crate) const FINISH: &str = "finish";

/// Where received tells go.
struct Lines {
    targets: [Mutex<Target>; TARGETS],
    desk: UnboundedSender<Question>,
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
            let mut target = self.target(number);
            target.take(payload);
            target.work();
        } else if let (DESK, Some(asker)) = (target, sender) {
            if let (BEGIN, Ok(pace)) = (manifest, payload.try_into()) {
                self.reset(u64::from_le_bytes(pace));
            }
            let question = Question { finish: manifest == FINISH, asker: asker.to_owned() };
            let _ = self.desk.send(question);
        }
    }
}

/// What came for one target.
struct Target {
    received: u64,
    next: u64,
    out_of_order: u64,
    digest: Context,
    /// How many tells a second it handles; as many as come if 0.
    pace: f64,
    /// When the first one came.
    began: Option<Instant>,
}

impl Target {
    fn new(number: usize, pace: u64) -> Self {
        Self {
            received: 0,
            next: number as u64,
            out_of_order: 0,
            digest: Context::new(&SHA256),
            pace: pace as f64 / TARGETS as f64,
            began: None,
        }
    }

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

    /// Takes the time that a busy actor would. What comes meanwhile waits at its sender.
    fn work(&mut self) {
        let began = *self.began.get_or_insert_with(Instant::now);
        if self.pace > 0.0 {
            let until = began + Duration::from_secs_f64(self.received as f64 / self.pace);
            let ahead = until.saturating_duration_since(Instant::now());
            if ahead > Duration::from_millis(1) {
                std::thread::sleep(ahead);
            }
        }
    }
}

impl Lines {
    fn new(desk: UnboundedSender<Question>) -> Arc<Self> {
        let targets = std::array::from_fn(|number| Mutex::new(Target::new(number, 0)));
        Arc::new(Self { targets, desk })
    }

    fn target(&self, number: usize) -> MutexGuard<'_, Target> {
        self.targets[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the next sender.
    fn reset(&self, pace: u64) {
        for number in 0..TARGETS {
            *self.target(number) = Target::new(number, pace);
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
pub(crate) async fn run(options: &NodeOptions, mut stop: Stop) -> Result<ExitCode, Failure> {
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
                if !question.finish {
                    gauge = Gauge::default();
                }
                let report = answer(&node, &lines, &gauge, &question);
                if let (false, Some(report)) = (options.child, report) {
                    tell_people(&question, &report);
                }
            }
            () = stop.wait() => break,
        }
    }
    node.transport.shutdown(Duration::from_secs(2)).await;
    Ok(ExitCode::SUCCESS)
}

/// Sends what came to the actor that asks.
fn answer(node: &Node, lines: &Lines, gauge: &Gauge, question: &Question) -> Option<Report> {
    let address: Address = question.asker.split_once("/user/")?.0.parse().ok()?;
    let report = lines.report(gauge, node.members_up_with(&address).unwrap_or(0));
    let tell = RemoteTell {
        target_path: question.asker.clone(),
        manifest: "report".into(),
        payload: report.to_text().into_bytes(),
        sender_path: None,
    };
    match node.transport.tell(&address, tell) {
        Ok(()) => Some(report),
        Err(error) => {
            complain(format_args!("no answer to {address}: {error}"));
            None
        }
    }
}

fn tell_people(question: &Question, report: &Report) {
    if !question.finish {
        if report.members > 0 {
            say(format_args!("{} asks to begin", question.asker));
        }
        return;
    }
    let order = match report.out_of_order {
        0 => "in order".to_owned(),
        wrong => format!("{wrong} out of order"),
    };
    say(format_args!(
        "{} tells received, {order}\n  SHA-256 {}\n  gossip p99 {} idle, {} with the backlog",
        thousands(report.received),
        report.sha256,
        milliseconds(report.idle.p99),
        milliseconds(report.backlog.p99)
    ));
}
