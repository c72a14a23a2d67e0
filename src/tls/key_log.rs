//! The secrets of connections, for who has to read recorded traffic.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Where the TLS secrets of a node's connections go, for
/// [`ConfigBuilder::key_log`](crate::ConfigBuilder::key_log).
///
/// Whoever has them and the packets can read all that the connections carry. They are for looking for a fault
/// with Wireshark, not for production.
#[derive(Clone)]
pub struct KeyLog(Arc<dyn Fn(&str) + Send + Sync>);

impl KeyLog {
    /// Calls `line` with each line of a key log in NSS's format, without its end, while a handshake is under
    /// way. It must not block for long.
    pub fn new(line: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(line))
    }

    /// Appends to a file, which on Unix only its owner can read if it is made here. What cannot be written is
    /// left out, with a line in the log.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn to_file(path: impl AsRef<Path>) -> std::io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = Mutex::new(options.open(path)?);
        Ok(Self::new(move |line| {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            // One write, so that processes which share the file do not break lines.
            if let Err(error) = file.write_all(format!("{line}\n").as_bytes()) {
                tracing::warn!(%error, "the key log cannot be written");
            }
        }))
    }

    pub(crate) fn for_rustls(&self) -> Arc<dyn rustls::KeyLog> {
        Arc::new(self.clone())
    }
}

impl fmt::Debug for KeyLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyLog")
    }
}

impl rustls::KeyLog for KeyLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        (self.0)(&format!("{label} {} {}", hex(client_random), hex(secret)));
    }
}
