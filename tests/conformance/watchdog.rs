//! A limit in real time for tests whose clock is paused. There `tokio::time::timeout` says nothing of a test that
//! hangs: with nothing else to do the clock jumps to its end, and with something to do for ever it stands still.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Generous for a busy machine: these tests take less than a second.
const LIMIT: Duration = Duration::from_secs(60);

/// Ends the process with a message unless it is dropped in time; a test's thread that hangs cannot be ended alone.
pub(crate) struct Watchdog {
    /// Dropped with the test.
    _alive: Sender<()>,
}

impl Watchdog {
    pub(crate) fn set(test: &'static str) -> Self {
        let (alive, over) = channel::<()>();
        std::thread::spawn(move || {
            if over.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                // Past the capture of what tests print, which would be lost with the process.
                let text = format!("\ntest in_process::{test} hangs: not over after {LIMIT:?}\n");
                let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
                std::process::exit(101);
            }
        });
        Self { _alive: alive }
    }
}
