//! Loopback: real sockets on 127.0.0.1, where what gossip could wait for is queues, locks, threads and the
//! processor. Each case is run with
//!
//! | subject | what |
//! |---|---|
//! | `low-delay` | this crate's transport as it is by default |
//! | `cubic` | with `Congestion::Cubic` |
//! | `tcp` | `atomr_cluster::TcpClusterTransport` |
//!
//! in interleaved rounds, so that whatever else the machine does hits all of them alike. The cases:
//!
//! | case | what |
//! |---|---|
//! | `idle` | no tells |
//! | `1KiB`, `64B`, `64KiB`, `16MiB` | tells of that size to 8 targets, as many as the lanes take |
//! | `two-runtimes` | tells of 1 KiB; a runtime of two workers for each node |
//! | `blocked-sink`, `blocked-one-thread` | the sink blocks 2 s for each tell of 1 KiB |
//! | `hogged-runtime` | the application never lets go of its runtime; ours has its own |
//! | `busy-threads` | two more threads that each want a core |
//! | `backlog-10B`, `-1MB`, `-100MB` | ten tells queued at once, and gossip until they have arrived |
//! | `backlog-100MB-of-1kB` | the same as 100 000 tells |
//! | `small-beside-16MiB` | small tells, and 16 MiB tells to another target; ours alone |
//!
//! **What keeps the cores busy** is the transport itself. Both nodes are in this process, with what tells,
//! on one tokio runtime of two workers (but for the cases that say otherwise): a task that tells in a loop
//! until a lane is full, in each of the four default lanes up to 32 MiB; encryption, system calls and
//! decryption; and a thread per lane that decodes and hands tells to the sink, which only counts them. That
//! is more than two threads that want to run. The rows say how many cores the process got, and how many
//! went to others: where those two do not make the machine's number of cores, it was not busy; where others
//! got much, the delays are of that machine, and not of this transport. `busy-threads` adds what nobody
//! can hide from, and is not judged.
//!
//! **Gossip** is a probe of 200 bytes every 5 ms (1 ms in the `backlog` cases), sent and received by tasks
//! as a membership daemon would be. It carries the time at which it was handed to the transport, and its
//! delay ends when the receiving task has it; one clock, since it is one process. What has not come by the
//! end counts with the time that it has been waited for, and is counted (`missing`).
//!
//! **TCP** takes all tells at once into queues without bounds, so what tells over it keeps no more ahead of
//! the sink than our lanes hold: 128 MiB, and at most 131 072 tells.
//!
//! Targets, of `low-delay`: gossip's p99 at most 2 ms (all but `idle` and `busy-threads`); where tells flow
//! freely also at most a two-hundredth of TCP's in the same run, at no less than 0.8 of Cubic's rate.

mod backlog;
mod bulk;
mod case;
mod machine;
mod measured;
mod pair;
mod pictures;
mod places;
mod round;
mod rows;
mod sink;
mod tcp;
mod times;

use cluster_quic::DevCa;
use tokio::runtime::Builder;

use crate::report::Report;
use crate::{Error, Options};
use backlog::BACKLOGS;
use case::{CASES, Subject};
use measured::{Compared, P99_MS};
use rows::Rows;

/// Runs the cases that are wanted; whether all reached their targets, or `None` if there are none.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<Option<bool>, Error> {
    let ca = DevCa::new("isolation")?;
    // Waits, and does nothing else.
    let director = Builder::new_current_thread().enable_all().build()?;
    let mut rows = Rows::default();
    let mut missed = Vec::new();
    let mut all = Vec::new();
    for case in CASES {
        let Some(compared) = Compared::measure(options, &director, &ca, case)? else { continue };
        rows.compared(&compared);
        report.figures(compared.figures());
        missed.extend(compared.missed());
        all.push(compared);
    }
    pictures::overview(report, &all);
    let mut drained = Vec::new();
    for backlog in BACKLOGS {
        let mut subjects = Vec::new();
        for subject in Subject::ALL {
            let measuring = backlog::measure(options, &ca, &backlog, subject);
            let Some(one) = director.block_on(measuring)? else { continue };
            let name = backlog::name(&backlog, subject);
            rows.delays(report, &name, &one.sorted);
            let p99 = one.p(99.0);
            if subject == Subject::LowDelay && p99 > P99_MS {
                missed.push(format!("{name}: gossip p99 {p99:.2} ms, at most {P99_MS} ms"));
            }
            subjects.push(one);
        }
        if !subjects.is_empty() {
            drained.push((backlog, subjects));
        }
    }
    pictures::backlogs(report, &drained);
    let bulk = bulk::measure(options, &director)?;
    if let Some(delays) = &bulk {
        rows.delays(report, &format!("{}/other-lane", bulk::NAME), &delays.other);
        rows.delays(report, &format!("{}/same-lane", bulk::NAME), &delays.same);
        pictures::bulk(report, delays);
    }
    for compared in &all {
        pictures::case(report, compared);
    }
    for missed in &missed {
        println!("missed: {missed}");
    }
    let any = !all.is_empty() || !drained.is_empty() || bulk.is_some();
    Ok(any.then_some(missed.is_empty()))
}
