//! Every input that the fuzz targets keep (`fuzz/corpus`) through the targets' own code, in an ordinary
//! test.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub)]
mod targets;

/// Panics in this process: one in a task of a node's ends the task, and nobody waits for it.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// One target at a time, so that a panic is its own.
static TURN: Mutex<()> = Mutex::new(());

fn replay(target: &str, run: fn(&[u8])) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(info);
    }));
    PANICS.store(0, Ordering::Relaxed);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> =
        std::fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= 10, "{} inputs in {}", inputs.len(), corpus.display());
    for input in inputs {
        // Shown if it fails.
        println!("{}", input.display());
        run(&std::fs::read(&input).unwrap());
        assert_eq!(PANICS.load(Ordering::Relaxed), 0, "a task panicked");
    }
}

#[test]
fn frames() {
    replay("frames", targets::frames);
}

#[test]
fn control() {
    replay("control", targets::control);
}

#[test]
fn node() {
    replay("node", targets::node);
}
