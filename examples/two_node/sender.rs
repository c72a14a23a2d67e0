//! The node that joins: sends the lines, watches, and checks what the receiver reports.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use atomr_cluster::RemoteMessageSink;
use cluster_quic::{Address, Event, Events, Peer, RemoteTellRef};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::args::{Load, NodeOptions};
use crate::gauge::{self, Heard, Phase};
use crate::lines::{Source, target_of};
use crate::node::{Node, load_identity};
use crate::outcome::{Failure, because};
use crate::receiver::{BEGIN, DESK, FINISH, LINES};
use crate::screen::Screen;
use crate::stop::Stop;
use crate::summary::{Report, Sent, print};
use crate::watcher::Watcher;

/// Who waits longer than this for anything gives up.
const PATIENCE: Duration = Duration::from_secs(15);

/// Takes the receiver's answers.
struct Answers(UnboundedSender<String>);

impl RemoteMessageSink for Answers {
    fn deliver(&self, _target: &str, _manifest: &str, payload: &[u8], _sender: Option<&str>) {
        let _ = self.0.send(String::from_utf8_lossy(payload).into_owned());
    }
}

/// Joins `seed`, sends, reports; the exit code says whether all went well.
pub(crate) async fn run(
    options: &NodeOptions,
    seed: &Address,
    load: &Load,
    mut stop: Stop,
) -> Result<ExitCode, Failure> {
    let identity = load_identity(&options.certs, &options.name)?;
    let source = Source::open(&load.file, load.tells)?;
    let (sender, answers) = unbounded_channel();
    let (node, heard) = Node::start(options.listen, &identity, Arc::new(Answers(sender)))?;
    let outcome = tokio::select! {
        outcome = converse(&node, &options.name, seed, load, source, answers, heard) => outcome,
        () = stop.wait() => Err(Failure::Interrupted),
    };
    // After a failure nothing is left to wait for.
    let deadline = Duration::from_secs(if outcome.is_ok() { 5 } else { 0 });
    node.transport.shutdown(deadline).await;
    let well = outcome?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn converse(
    node: &Node,
    name: &str,
    seed: &Address,
    load: &Load,
    source: Source,
    mut answers: UnboundedReceiver<String>,
    heard: UnboundedReceiver<Heard>,
) -> Result<bool, Failure> {
    let mut screen = Screen::new();
    let mut events = node.transport.events();
    let peer = node.transport.peer(seed)?;
    screen.note(format_args!("{name}  {}  process {}", node.address(), std::process::id()));

    let join = async {
        node.join(seed).await?;
        let pace = load.pace.to_le_bytes();
        while ask(node, &peer, BEGIN, &pace, &mut answers).await?.members < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok::<_, Failure>(peer.flush().await?)
    };
    tokio::select! {
        joined = timeout(PATIENCE, join) => {
            joined.map_err(|_| unreachable(&peer, "no cluster"))??;
        }
        Some(hopeless) = misconfiguration(&mut events, &mut screen) => return Err(hopeless),
    }
    screen.note("gossip has spread: each node sees both of them Up");
    let before = peer.stats();

    let expected = tokio::task::spawn_blocking({
        let source = source.clone();
        move || source.digest()
    })
    .await??;
    let (phase, phases) = watch::channel(Some(Phase::Idle));
    let probes = tokio::spawn(gauge::probe(peer.clone(), node.address().clone(), phases));
    let mut watcher = Watcher::new(&peer, &mut screen, &mut events, heard, source.tells());

    // First without tells, then with as many as the lanes take.
    watcher.idle(load.idle).await?;
    phase.send_replace(Some(Phase::Backlog));
    let begin = Instant::now();
    let lines = tokio::task::spawn_blocking({
        let (source, peer) = (source.clone(), peer.clone());
        move || send_lines(&source, &peer)
    });
    let all = async {
        lines.await??;
        Ok(peer.flush().await?)
    };
    watcher.until(all).await?;
    let (took, backlog_bytes) = (begin.elapsed(), watcher.backlog_bytes);

    phase.send_replace(None);
    let probes = probes.await?;
    watcher.settle(probes.iter().sum()).await;
    let after = peer.stats();
    let report = timeout(PATIENCE, ask(node, &peer, FINISH, &[], &mut answers));
    let report = report.await.map_err(|_| unreachable(&peer, "no report"))??;
    let lanes = before.lanes.iter().zip(&after.lanes);
    let used =
        lanes.filter(|((_, before), (_, after))| after.accepted_frames > before.accepted_frames);
    let (lanes, before, after) = (used.count(), before.tells(), after.tells());
    let sent = Sent {
        sha256: expected,
        members: node.members_up_with(seed).unwrap_or(0),
        tells: after.accepted_frames - before.accepted_frames,
        acknowledged: after.acknowledged_frames - before.acknowledged_frames,
        bytes: after.acknowledged_bytes - before.acknowledged_bytes,
        lanes,
        backlog_bytes,
        pace: load.pace,
        probes,
        took,
    };
    Ok(print(screen.style, &source, &sent, &report))
}

/// Sends every line, as fast as the lanes take them. On a blocking thread: it reads files.
fn send_lines(source: &Source, peer: &Peer) -> Result<(), Failure> {
    let runtime = Handle::current();
    let mut payload = Vec::new();
    source.each(|number, line| {
        payload.clear();
        payload.extend_from_slice(&number.to_le_bytes());
        payload.extend_from_slice(line);
        let tell = RemoteTellRef {
            target_path: LINES[target_of(number)],
            manifest: "line",
            payload: &payload,
            sender_path: None,
        };
        match peer.tell(tell) {
            // The lane is full: wait for room, as a fast sender should.
            Err(error) if error.is_full() => {
                runtime.block_on(peer.tell_when_ready(error.into_inner())).map_err(because)
            }
            done => done.map_err(because),
        }
    })
}

/// A question to the receiver, and its answer.
async fn ask(
    node: &Node,
    peer: &Peer,
    question: &str,
    payload: &[u8],
    answers: &mut UnboundedReceiver<String>,
) -> Result<Report, Failure> {
    let asker = format!("{}/user/asker", node.address());
    let tell =
        RemoteTellRef { target_path: DESK, manifest: question, payload, sender_path: Some(&asker) };
    peer.tell_when_ready(tell).await.map_err(because)?;
    let answer = answers.recv().await.ok_or_else(|| because("the transport has ended"))?;
    Report::from_text(&answer)
}

/// Returns once dialling has failed in a way that trying again does not mend.
async fn misconfiguration(events: &mut Events, screen: &mut Screen) -> Option<Failure> {
    loop {
        if let Event::DialFailed { peer, error, .. } = events.recv().await? {
            if error.is_misconfiguration() {
                return Some(because(format_args!("cannot connect to {peer}: {error}")));
            }
            screen.note(format_args!("not connected yet: {error}"));
        }
    }
}

fn unreachable(peer: &Peer, what: &str) -> Failure {
    let why = match peer.stats().last_error {
        Some(error) => format!(": {error}"),
        None => String::new(),
    };
    because(format_args!("{what} with {} within {PATIENCE:?}{why}", peer.address()))
}
