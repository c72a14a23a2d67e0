//! The tool as a process that goes on: what it has printed so far, and signals to it.

use std::io::Read;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longer than anything takes on the slowest machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Killed when dropped.
pub(crate) struct Running {
    child: Child,
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
}

impl Running {
    pub(crate) fn start(dir: &Path, args: &[&str]) -> Self {
        let mut command = super::command(dir, args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = collect(child.stdout.take().unwrap());
        let err = collect(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    /// With an output that the caller reads, or does not.
    pub(crate) fn start_into(dir: &Path, args: &[&str], out: impl Into<Stdio>) -> Self {
        let mut child =
            super::command(dir, args).stdout(out).stderr(Stdio::piped()).spawn().unwrap();
        let err = collect(child.stderr.take().unwrap());
        Self { child, out: Arc::default(), err }
    }

    /// A node; returns its address too.
    pub(crate) fn node(dir: &Path, args: &[&str]) -> (Self, String) {
        let node = Self::start(dir, &[&["node", "--every", "200ms"], args].concat());
        node.until("its address", |text| text.contains(" is up"));
        let out = node.out();
        let address = out.split_whitespace().find(|word| word.starts_with("akka.quic://")).unwrap();
        (node, address.trim_end_matches(',').to_owned())
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8(self.out.lock().unwrap().clone()).unwrap()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8(self.err.lock().unwrap().clone()).unwrap()
    }

    /// Waits until what was printed is as wanted.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        let begin = Instant::now();
        while !wanted(&self.out()) {
            let (out, err) = (self.out(), self.err());
            assert!(begin.elapsed() < LIMIT, "no {what} in:\n{out}\n{err}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Waits for its end, and for all that it has printed.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < LIMIT, "still runs:\n{}\n{}", self.out(), self.err());
            std::thread::sleep(Duration::from_millis(10));
        };
        // The readers hold theirs until the pipes are closed.
        while Arc::strong_count(&self.out) + Arc::strong_count(&self.err) > 2 {
            assert!(begin.elapsed() < 2 * LIMIT);
            std::thread::sleep(Duration::from_millis(1));
        }
        println!("{status}:\n{}\n{}", self.out(), self.err());
        assert!(!self.err().contains("panicked"));
        status
    }
}

fn collect(mut from: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let text = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut buf = [0; 4096];
        while let Ok(1..) = from.read(&mut buf).inspect(|n| {
            into.lock().unwrap().extend_from_slice(&buf[..*n]);
        }) {}
    });
    text
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
