//! Runs in simulated time, and many of them by their seeds.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Instant;

/// Runs in a runtime of its own, whose clock is paused: it goes on to the next timer when nothing is
/// left to do. No task of the run's may panic, which tokio would keep to itself.
pub(crate) fn simulate<T>(run: impl AsyncFnOnce() -> T) -> T {
    name_seeds();
    let panics = Arc::<AtomicU64>::default();
    let before = PANICS.replace(Some(Arc::clone(&panics)));
    let of_threads = Arc::clone(&panics);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    // Those that sinks are called on.
    builder.on_thread_start(move || PANICS.set(Some(Arc::clone(&of_threads))));
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    let result = runtime.block_on(run());
    runtime.shutdown_background();
    PANICS.set(before);
    assert_eq!(panics.load(Ordering::Relaxed), 0, "tasks have panicked");
    result
}

thread_local! {
    /// What this thread is at.
    static CURRENT: Cell<Option<u64>> = const { Cell::new(None) };
    /// Where the panics of this thread's run are counted.
    static PANICS: RefCell<Option<Arc<AtomicU64>>> = const { RefCell::new(None) };
}

/// Says the seed with every panic, and counts it: one within another ends the process, and nothing is said after
/// it; and one in a task ends nothing but the task.
fn name_seeds() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if let Some(seed) = CURRENT.get() {
                eprintln!("with seed {seed}:");
            }
            if let Some(panics) = PANICS.with_borrow(Option::clone) {
                panics.fetch_add(1, Ordering::Relaxed);
            }
            before(info);
        }));
    });
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

/// The seed to run alone, if the environment names one.
pub(crate) fn only() -> Option<u64> {
    number("CLUSTER_QUIC_SEED")
}

/// How many simulated minutes a long run takes.
pub(crate) fn minutes(usual: u64) -> u64 {
    number("CLUSTER_QUIC_MINUTES").unwrap_or(usual)
}

/// The seeds to run: `count` of them, unless the environment says otherwise.
fn chosen(count: u64) -> std::ops::Range<u64> {
    match only() {
        Some(seed) => seed..seed + 1,
        None => 0..number("CLUSTER_QUIC_SEEDS").unwrap_or(count),
    }
}

/// Runs `count` seeds (or those that the environment names) on two threads, each in a world of its
/// own. Panics with the seeds that failed; `describe` says what each of these did.
pub(crate) fn over_seeds<T: Send>(
    test: &str,
    count: u64,
    run: impl Fn(u64) -> T + Sync,
    describe: impl Fn(u64) -> String + Sync,
) -> Vec<T> {
    name_seeds();
    let seeds = chosen(count);
    let begin = Instant::now();
    let (next, failed) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.lock().unwrap().len() >= 3 {
                        return;
                    }
                    CURRENT.set(Some(seed));
                    match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                        Ok(result) => results.lock().unwrap().push((seed, result)),
                        Err(_) => {
                            println!("{test}: seed {seed} failed\n{}", describe(seed));
                            println!("again: CLUSTER_QUIC_SEED={seed} cargo test --test simulation {test}");
                            failed.lock().unwrap().push(seed);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{test}: failed with seeds {failed:?}");
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|(seed, _)| *seed);
    println!("{test}: {} seeds in {:.1} s", results.len(), begin.elapsed().as_secs_f64());
    results.into_iter().map(|(_, result)| result).collect()
}
