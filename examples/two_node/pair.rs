//! Both nodes at once: two processes of this same program, each a node of its own.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use cluster_quic::DevCa;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use crate::args::Load;
use crate::outcome::{Failure, because};
use crate::screen::say;
use crate::stop::Stop;

/// How long a process may take to start, or to end once it is asked to.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts both nodes, waits for the sender, ends the receiver.
pub(crate) async fn run(load: &Load, mut stop: Stop) -> Result<ExitCode, Failure> {
    let certs = Folder::new()?;
    let ca = DevCa::new("two_node")?;
    for node in ["node-a", "node-b"] {
        ca.write_to(&certs.0, node, &["localhost", "127.0.0.1"])?;
    }

    let mut receiver = start(&certs, &["--listen", "127.0.0.1:0"], |command| {
        command.stdout(Stdio::piped());
        // The terminal's Ctrl-C is for the sender, which shows that it ends; we end this one.
        #[cfg(unix)]
        command.process_group(0);
    })?;
    let address = tokio::select! {
        address = timeout(PATIENCE, receiver.first_line()) => address,
        () = stop.wait() => return Err(Failure::Interrupted),
    };
    let address = address.map_err(|_| because("the receiving process does not start"))??;
    let process = receiver.child.id().unwrap_or_default();
    say(format_args!("node-a  {address}  process {process}"));

    let mut sender = start(&certs, &["--join", &address], |command| {
        command.arg("--file").arg(&load.file);
        command.arg(format!("--tells={}", load.tells));
        command.arg(format!("--pace={}", load.pace));
        command.arg(format!("--idle={}", load.idle.as_secs_f64()));
    })?;
    let ended = tokio::select! {
        ended = sender.child.wait() => ended?.code(),
        () = stop.wait() => sender.end().await?,
    };
    // An early end of the receiver shows in what the sender says; this is the reason.
    if let Some(status) = receiver.child.try_wait()? {
        return Err(because(format_args!("the receiving process ended early: {status}")));
    }
    if receiver.end().await? != Some(0) {
        return Err(because("the receiving process did not end in order"));
    }
    Ok(ended.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// This program again, as one node. It ends with its standard input, so with this process at the
/// latest.
struct Process {
    child: Child,
    /// Not left in the child, since waiting for it would close this.
    stdin: Option<ChildStdin>,
}

fn start(
    certs: &Folder,
    role: &[&str],
    more: impl FnOnce(&mut Command),
) -> Result<Process, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["node", "--child"]).args(role).arg("--certs").arg(&certs.0);
    command.stdin(Stdio::piped()).kill_on_drop(true);
    more(&mut command);
    let mut child = command.spawn()?;
    Ok(Process { stdin: child.stdin.take(), child })
}

impl Process {
    /// The address that the receiver prints.
    async fn first_line(&mut self) -> Result<String, Failure> {
        let stdout = self.child.stdout.take().ok_or_else(|| because("a process has no output"))?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        line.ok_or_else(|| because("the receiving process has failed"))
    }

    /// Asks it to end, and insists after a while. Its exit code, if it ended by itself.
    async fn end(&mut self) -> io::Result<Option<i32>> {
        drop(self.stdin.take());
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => Ok(status?.code()),
            Err(_) => self.child.kill().await.map(|()| None),
        }
    }
}

/// A new folder for certificates and keys, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        let unique = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let path = std::env::temp_dir().join(format!("two_node-{}-{unique}", std::process::id()));
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let named = |error| because(format_args!("{}: {error}", path.display()));
        builder.create(&path).map_err(named)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Best effort: it is in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
