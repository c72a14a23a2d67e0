//! 256 nodes join one at once, and leave, over and over: what they took comes back.
//!
//! `CLUSTER_QUIC_ROUNDS=500 cargo test --test processes crowd -- --nocapture` does so for an hour.

use std::time::Instant;

use crate::child::{Process, patient};
use crate::message::{Command, Options, Report};
use crate::setup::Folder;

const PROCESSES: usize = 4;
const NODES: usize = 64;
const ALL: usize = PROCESSES * NODES;
const ROUNDS: usize = 4;

/// What may be in use more at the end than after the first round: half a kilobyte for each that joins at once.
const LEFT: usize = ALL * 512;
/// Times what they took at once that may stay resident: the allocator keeps pages, in an arena for each few threads.
const KEPT: u64 = 4;

async fn all(crowd: &mut [Process], command: impl Fn() -> Command) -> u64 {
    for process in crowd.iter_mut() {
        process.say(&command()).await;
    }
    let mut sum = 0;
    for process in crowd {
        sum += process.done().await;
    }
    sum
}

#[tokio::test]
async fn a_crowd_of_256_joins_and_leaves_and_what_it_took_comes_back() {
    let folder = Folder::new();
    let rounds =
        std::env::var("CLUSTER_QUIC_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let forgetful = Options { retention_ms: 200, remembers: false, ..patient() };
    let mut node = Process::start(&folder, &forgetful).await;
    let to = node.address.to_string();
    let before = node.report().await;
    let mut crowd = Vec::new();
    for _ in 0..PROCESSES {
        crowd.push(Process::start(&folder, &Options::default()).await);
    }
    let (mut own, mut spent) = (Vec::new(), 0);
    for process in &mut crowd {
        let report = process.report().await;
        own.push(report.descriptors);
        spent += report.processor_ms;
    }
    let mut left: Vec<Report> = Vec::new();
    let mut most = 0;
    for round in 1..=rounds {
        let begin = Instant::now();
        let joined = all(&mut crowd, || Command::Join { to: to.clone(), nodes: NODES }).await;
        let took = begin.elapsed();
        assert_eq!(joined, ALL as u64);
        let up = node.until("all are associated", |report| report.connected == ALL).await;
        most = most.max(up.allocated);
        assert_eq!(up.received.tells, (round * ALL) as u64);
        assert_eq!(up.descriptors, before.descriptors, "one socket for all");
        let clean = all(&mut crowd, || Command::Leave).await;
        assert_eq!(clean, ALL as u64);
        let begin = Instant::now();
        let gone = |report: &Report| report.connected == 0 && report.tasks == before.tasks;
        let after = node.until("their tasks are gone", gone).await;
        println!(
            "round {round}: {ALL} up in {took:?}, and gone {:?} after; tasks {} -> {} -> {}, descriptors {} -> {}, \
             allocated {} -> {} -> {} KiB, resident {} -> {} -> {} KiB",
            begin.elapsed(),
            before.tasks,
            up.tasks,
            after.tasks,
            before.descriptors,
            after.descriptors,
            before.allocated / 1024,
            up.allocated / 1024,
            after.allocated / 1024,
            before.resident / 1024,
            up.resident / 1024,
            after.resident / 1024,
        );
        assert_eq!(after.descriptors, before.descriptors);
        left.push(after);
    }
    let last = left.last().unwrap();
    let grown = last.allocated.saturating_sub(left[0].allocated);
    assert!(grown < LEFT, "{} KiB more in use than after the first round", grown / 1024);
    let kept = last.resident.saturating_sub(before.resident);
    let at_once = (most - before.allocated) as u64;
    assert!(kept < KEPT * at_once, "{} KiB stay of {} at once", kept / 1024, at_once / 1024);
    let mut theirs = 0;
    for (process, own) in crowd.iter_mut().zip(own) {
        theirs += process.report().await.processor_ms;
        process.until("the nodes' sockets are closed", |report| report.descriptors == own).await;
    }
    let joins = (rounds * ALL) as f64;
    println!(
        "processor time per join and leave: {:.1} ms here, {:.1} ms there",
        (last.processor_ms - before.processor_ms) as f64 / joins,
        (theirs - spent) as f64 / joins,
    );
}
