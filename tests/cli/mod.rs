//! The real tool, run in folders of their own.

// Each test takes what it needs.
#![allow(dead_code)]

pub(crate) mod process;
#[cfg(unix)]
pub(crate) mod terminal;

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The tool with these arguments, in a folder.
pub(crate) fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cluster-quic"));
    command.args(args).current_dir(dir).stdin(Stdio::null());
    command
}

/// What the tool printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// The texts are in what was printed, wherever its lines are broken.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Self {
        let said = flat(&self.out) + &flat(&self.err);
        for text in texts {
            assert!(said.contains(text), "no {text:?} in:\n{self}");
        }
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}:\n{self}"))
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n{}\nstderr:\n{}", self.code, self.out, self.err)
    }
}

/// Runs the tool; whatever it prints for people fits into 80 columns, and nobody panics.
#[track_caller]
pub(crate) fn run(dir: &Path, args: &[&str]) -> Ran {
    let output = command(dir, args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let ran =
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    println!("$ cluster-quic {}\n{ran}", args.join(" "));
    assert!(!ran.err.contains("panicked"), "{ran}");
    if !args.contains(&"--json") {
        for line in ran.out.lines().chain(ran.err.lines()) {
            // clap does not break its own.
            let clap = line.starts_with("error: ");
            let fits = line.chars().count() <= 80 || line.split_whitespace().count() <= 4 || clap;
            assert!(fits, "{line:?} is too wide");
        }
    }
    ran
}

fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A UDP port of 127.0.0.1 that is free, and that the system gives to nobody who asks for any.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = std::process::id() + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (next % 10_000) as u16;
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A folder that goes with the test.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cli-{}-{count}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file that its owner alone can read.
    pub(crate) fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.0.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        self.mode(file, 0o600);
    }

    pub(crate) fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.0.join(file)).unwrap()
    }

    #[cfg(unix)]
    pub(crate) fn mode(&self, file: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(self.0.join(file), fs::Permissions::from_mode(mode)).unwrap();
    }

    #[cfg(not(unix))]
    pub(crate) fn mode(&self, _: &str, _: u32) {}
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
