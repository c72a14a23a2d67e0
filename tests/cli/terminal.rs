//! The tool on a terminal: a real pseudo-terminal, and an emulator that says what is to be seen.

use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use super::process::LIMIT;

/// Killed when dropped.
pub(crate) struct Terminal {
    /// `None` once it is closed.
    master: Option<Box<dyn MasterPty + Send>>,
    keys: Option<Box<dyn Write + Send>>,
    child: Box<dyn Child + Send + Sync>,
    seen: Arc<Mutex<vt100::Parser>>,
    closed: Arc<AtomicBool>,
    /// The settings before the tool began.
    #[cfg(unix)]
    pub(crate) before: String,
}

impl Terminal {
    pub(crate) fn start(dir: &Path, args: &[&str], columns: u16, rows: u16) -> Self {
        let pty = native_pty_system().openpty(size(columns, rows)).unwrap();
        #[cfg(unix)]
        let before = format!("{:?}", pty.master.get_termios().unwrap());
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_cluster-quic"));
        command.args(args);
        command.cwd(dir);
        command.env("TERM", "xterm-256color");
        command.env_remove("NO_COLOR");
        let child = pty.slave.spawn_command(command).unwrap();
        // The slave stays open in the child alone, so that its end is seen here.
        drop(pty.slave);
        let parser = vt100::Parser::new(length(rows), length(columns), 0);
        let seen = Arc::new(Mutex::new(parser));
        let (mut reader, into) = (pty.master.try_clone_reader().unwrap(), Arc::clone(&seen));
        let closed = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&closed);
        std::thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buf) {
                into.lock().unwrap().process(&buf[..n]);
                if over.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let keys = pty.master.take_writer().unwrap();
        Self {
            master: Some(pty.master),
            keys: Some(keys),
            child,
            seen,
            closed,
            #[cfg(unix)]
            before,
        }
    }

    /// What is to be seen, a line a row.
    pub(crate) fn text(&self) -> String {
        let seen = self.seen.lock().unwrap();
        let (_, columns) = seen.screen().size();
        let rows = seen.screen().rows(0, columns.get());
        rows.map(|row| row.trim_end().to_owned())
            .collect::<Vec<_>>()
            .join("\n")
            .trim_end()
            .to_owned()
    }

    /// Waits until what is to be seen is as wanted.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let begin = Instant::now();
        loop {
            let text = self.text();
            if wanted(&text) {
                return text;
            }
            assert!(begin.elapsed() < LIMIT, "no {what} in:\n{text}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        let to = self.keys.as_mut().unwrap();
        to.write_all(keys.as_bytes()).unwrap();
        to.flush().unwrap();
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.seen.lock().unwrap().set_size(length(rows), length(columns));
        self.master.as_ref().unwrap().resize(size(columns, rows)).unwrap();
    }

    /// Closes its window, so to say. The last that holds the terminal is the thread that reads: it lets go
    /// with the next thing drawn.
    pub(crate) fn close(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        (self.keys, self.master) = (None, None);
    }

    /// Whether it is in the alternate screen, and whether its cursor is hidden.
    pub(crate) fn is_taken(&self) -> (bool, bool) {
        let seen = self.seen.lock().unwrap();
        (seen.screen().alternate_screen(), seen.screen().hide_cursor())
    }

    /// How the line discipline is set: echo, line by line, ...
    #[cfg(unix)]
    pub(crate) fn settings(&self) -> String {
        format!("{:?}", self.master.as_ref().unwrap().get_termios().unwrap())
    }

    #[track_caller]
    pub(crate) fn end(&mut self) -> u32 {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.exit_code();
            }
            assert!(begin.elapsed() < LIMIT, "still runs:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn length(of: u16) -> NonZeroU16 {
    NonZeroU16::new(of).unwrap()
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
