//! A node in a process of its own: this test binary, run for [`child_process`] alone.

use std::collections::BTreeMap;
use std::process::Stdio;

use cluster_quic::Address;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::flood::flood;
use crate::ledger::tell;
use crate::message::{Command, Options, Reply, Report};
use crate::setup::{Folder, LIMIT, Node, identity};

/// Marks the lines that are meant for the test, beside those of the test harness.
const MARK: &str = "@ ";

/// The process, as the test holds it; dropped, it is killed.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    pub(crate) address: Address,
    pub(crate) incarnation: u64,
}

impl Process {
    pub(crate) async fn start(folder: &Folder, options: &Options) -> Self {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["child::child_process", "--exact", "--ignored", "--nocapture"])
            .env("NODE_DIR", folder.path())
            .env("NODE_OPTIONS", serde_json::to_string(options).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let Reply::Up { address, incarnation } = reply(&mut output).await else {
            panic!("the child says its address first")
        };
        Self { child, input, output, address: address.parse().unwrap(), incarnation }
    }

    /// Says `command`, and waits for the answer's number.
    pub(crate) async fn tell(&mut self, command: Command) -> u64 {
        self.say(&command).await;
        self.done().await
    }

    /// Says `command`; its answer is to be waited for with [`done`](Self::done).
    pub(crate) async fn say(&mut self, command: &Command) {
        let line = serde_json::to_string(command).unwrap() + "\n";
        self.input.write_all(line.as_bytes()).await.unwrap();
    }

    pub(crate) async fn done(&mut self) -> u64 {
        match reply(&mut self.output).await {
            Reply::Done(n) => n,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn report(&mut self) -> Report {
        self.say(&Command::Report).await;
        match reply(&mut self.output).await {
            Reply::Report(report) => *report,
            other => panic!("{other:?}"),
        }
    }

    /// Asks until `condition` holds.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        condition: impl Fn(&Report) -> bool,
    ) -> Report {
        let mut last = None;
        let waiting = async {
            loop {
                let report = self.report().await;
                if condition(&report) {
                    return report;
                }
                last = Some(report);
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(LIMIT, waiting).await;
        waited.unwrap_or_else(|_| panic!("not in time: {what}; at last {last:#?}"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// kill -9, and its end.
    pub(crate) async fn kill(mut self) {
        self.signal(Signal::KILL);
        timeout(LIMIT, self.child.wait()).await.expect("its end").unwrap();
    }
}

async fn reply(output: &mut Lines<BufReader<ChildStdout>>) -> Reply {
    let marked = async {
        loop {
            let line = output.next_line().await.unwrap().expect("the child lives");
            // The harness may have begun the line.
            if let Some((_, reply)) = line.split_once(MARK) {
                return serde_json::from_str(reply).unwrap();
            }
        }
    };
    timeout(LIMIT, marked).await.expect("an answer in time")
}

/// The body of [`Process`]; ends when its standard input does, so that no child outlives its test.
#[test]
#[ignore = "run by other tests, as a process of its own"]
fn child_process() {
    let Ok(dir) = std::env::var("NODE_DIR") else { return };
    let options = serde_json::from_str(&std::env::var("NODE_OPTIONS").unwrap()).unwrap();
    let workers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(2048)
        .enable_all()
        .build()
        .unwrap();
    let identity = identity(dir.as_ref());
    workers.block_on(async {
        let node = Node::start(&identity, &options);
        let (address, incarnation) =
            (node.transport.address().to_string(), node.transport.incarnation().0);
        answer(&Reply::Up { address, incarnation });
        let mut crowd = Vec::new();
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            answer(
                &obey(serde_json::from_str(&line).unwrap(), &node, &mut crowd, |node| {
                    Node::start(&identity, node)
                })
                .await,
            );
        }
    });
    // Sinks may block for ever.
    std::process::exit(0);
}

/// 256 handshakes take two busy cores seconds. Who gives up and comes again has them make more.
pub(crate) fn patient() -> Options {
    Options { dial_timeout_ms: 10_000, ..Options::default() }
}

fn answer(reply: &Reply) {
    println!("{MARK}{}", serde_json::to_string(reply).unwrap());
}

async fn obey(
    command: Command,
    node: &Node,
    crowd: &mut Vec<Node>,
    start: impl Fn(&Options) -> Node,
) -> Reply {
    match command {
        Command::Tell { to, numbers, bytes } => {
            let peer = node.transport.peer(&to.parse().unwrap()).unwrap();
            let count = numbers.end - numbers.start;
            for n in numbers {
                peer.tell_when_ready(tell(n, bytes)).await.unwrap();
            }
            Reply::Done(count)
        }
        Command::Flood { to } => {
            let peer = node.transport.peer(&to.parse().unwrap()).unwrap();
            peer.connect().await.unwrap();
            Reply::Done(flood(&peer))
        }
        Command::Flush { to } => {
            node.transport.flush(&to.parse().unwrap()).await.unwrap();
            Reply::Done(0)
        }
        Command::Open => {
            node.ledger.open();
            Reply::Done(0)
        }
        Command::Report => Reply::Report(Box::new(report(node))),
        Command::Join { to, nodes } => {
            let to: Address = to.parse().unwrap();
            let mut joining = JoinSet::new();
            for n in 0..nodes as u64 {
                let node = start(&patient());
                let to = to.clone();
                joining.spawn(async move {
                    node.transport.tell(&to, tell(n, 8)).unwrap();
                    node.transport.flush(&to).await.unwrap();
                    node
                });
            }
            crowd.extend(joining.join_all().await);
            Reply::Done(crowd.len() as u64)
        }
        Command::Leave => {
            let mut leaving = JoinSet::new();
            for node in crowd.drain(..) {
                leaving.spawn(async move { node.transport.shutdown(LIMIT).await.is_clean() });
            }
            let clean = leaving.join_all().await.into_iter().filter(|clean| *clean);
            Reply::Done(clean.count() as u64)
        }
    }
}

/// In user and kernel mode, in ticks of a hundredth of a second (proc(5)).
fn processor_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name, which may hold anything, in parentheses.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>() * 10
}

fn report(node: &Node) -> Report {
    let peers = node.transport.peers();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    };
    let mut peers_by_state = BTreeMap::new();
    for peer in &peers {
        let error = peer.last_error.as_ref().map(ToString::to_string);
        *peers_by_state.entry(format!("{:?}, {error:?}", peer.state)).or_default() += 1;
    }
    Report {
        peers_by_state,
        received: node.ledger.received(),
        connected: peers.iter().filter(|peer| peer.link.is_some()).count(),
        waiting: peers.iter().map(|peer| peer.tells_received().waiting_bytes).sum(),
        sent_packets: peers.iter().filter_map(|peer| peer.link).map(|l| l.sent_packets).sum(),
        tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        allocated: crate::ALLOCATED.current_usage(),
        descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
        processor_ms: processor_ms(),
        resident: kib("VmRSS:") * 1024,
        peak: kib("VmHWM:") * 1024,
    }
}
