//! Row 25: a mix of everything, for long.

use cluster_quic::Runtime;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::SECS;
use crate::runner::{self, Outcome};
use crate::schedule::Schedule;
use crate::seeds::{minutes, simulate};

const NODES: usize = 3;

/// In a process of its own, whose memory is that of the run.
#[test]
fn row_25_a_long_mix_keeps_the_ledger_and_leaves_memory_and_tasks_level() {
    let this = std::env::current_exe().unwrap();
    let mut child = std::process::Command::new(this);
    child.args(["--exact", "rows::mix::long_mix", "--ignored", "--nocapture"]);
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines().filter(|line| line.contains("row 25")) {
        println!("{line}");
    }
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{error}");
    assert!(text.contains("row 25"), "{text}");
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn long_mix() {
    let minutes = minutes(15);
    simulate(async || {
        let mut world = runner::world(&Schedule::part(0, NODES), Runtime::Simulated);
        let (begin, mut round) = (Instant::now(), 0);
        let (mut memory, mut tasks) = (Vec::new(), Vec::new());
        let mut sum = Outcome::default();
        while begin.elapsed() < SECS(minutes * 60) {
            round += 1;
            let schedule = Schedule::part(round, NODES);
            runner::follow(&mut world, &schedule).await;
            sum.faults += schedule.faults() as u64;
            world.forget();
            memory.push(resident());
            tasks.push(Handle::current().metrics().num_alive_tasks());
        }
        let held: usize = world.nodes.iter().map(|node| node.life().transport().held_bytes()).sum();
        assert_eq!(held, 0, "bytes held by the lanes at rest");
        let quarter = memory.len() / 4;
        let (early, late) = (median(&memory[quarter..2 * quarter]), median(&memory[3 * quarter..]));
        let (some, at_last) = (mean(&tasks[quarter..2 * quarter]), mean(&tasks[3 * quarter..]));
        println!(
            "row 25: {minutes} min, {} faults, {} tells: {early} kB resident in the second quarter, \
             {late} kB in the last; tasks {some} and {at_last}",
            sum.faults,
            world.delivered()
        );
        assert!(late <= early + early / 20, "memory grows: {memory:?}");
        // By which lanes have had something to send, a world at rest has between 60 and 105; a task left
        // behind by each fault would be hundreds.
        assert!(at_last <= some + some / 5, "tasks: {tasks:?}");
    });
}

fn mean(of: &[usize]) -> usize {
    of.iter().sum::<usize>() / of.len()
}

fn median(of: &[usize]) -> usize {
    let mut sorted = of.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2]
}

/// The process's resident memory in kB; zero where the system does not say.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
