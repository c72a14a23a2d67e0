//! Recording what connections carry, to look for a fault: TLS secrets, qlog files.

#[cfg(feature = "qlog")]
use std::path::PathBuf;

use super::ConfigBuilder;
use crate::tls::KeyLog;

/// Where qlog files go, if anywhere, and how large they may grow in bytes: each, and all together.
#[cfg(feature = "qlog")]
#[derive(Debug, Clone)]
pub(crate) struct QlogSettings {
    pub(crate) folder: Option<PathBuf>,
    pub(crate) per_connection: u64,
    pub(crate) in_all: u64,
}

#[cfg(feature = "qlog")]
impl Default for QlogSettings {
    fn default() -> Self {
        Self { folder: None, per_connection: 64 * 1024 * 1024, in_all: 1024 * 1024 * 1024 }
    }
}

impl ConfigBuilder {
    /// Writes the TLS secrets of the node's connections to `log`, for decrypting recorded traffic. Default:
    /// nowhere, whatever the environment says (`SSLKEYLOGFILE` is not looked at). A node that does it says so
    /// in its log when it starts.
    pub fn key_log(mut self, log: KeyLog) -> Self {
        self.0.key_log = Some(log);
        self
    }

    /// Writes a qlog file for each QUIC connection into `folder`, which is made if it is not there: JSON-SEQ, as
    /// qvis reads it, named `<time in ms>-<own port>-<number>-<client or server>-<peer>.sqlog`. Default: none.
    ///
    /// Files are written where packets are sent and received, which a slow disk slows down. Strangers who
    /// connect make files too. [`qlog_limits`](Self::qlog_limits) bounds them. The in-process backend has none.
    #[cfg(feature = "qlog")]
    pub fn qlog(mut self, folder: impl Into<PathBuf>) -> Self {
        self.0.qlog.folder = Some(folder.into());
        self
    }

    /// How many bytes one qlog file may have, and how many all of them together that the node writes, where each
    /// counts for 64 KiB at least. A file ends when either is reached. Default 64 MiB and 1 GiB. There are none
    /// without [`qlog`](Self::qlog), whichever is called first.
    #[cfg(feature = "qlog")]
    pub fn qlog_limits(mut self, per_connection: u64, in_all: u64) -> Self {
        (self.0.qlog.per_connection, self.0.qlog.in_all) = (per_connection, in_all);
        self
    }
}
