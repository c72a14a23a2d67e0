//! qlog files: one per connection, as quinn writes them.

mod records;

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use quinn::{ClientConfig, QlogConfig, QlogStream, ServerConfig};

use super::settings::transport_config;
use super::unadmitted;
use crate::config::{Config, QlogSettings};
use crate::error::BindError;
use records::{Allowance, FILE, Records};

/// Makes a node's qlog files.
pub(super) struct Qlog {
    settings: QlogSettings,
    folder: PathBuf,
    config: Config,
    /// Of the node's socket, which is in every name.
    port: u16,
    files: AtomicU64,
    allowance: Arc<Allowance>,
    failed: AtomicBool,
}

impl Qlog {
    /// `None` if none are wanted. Makes the folder.
    pub(super) fn open(config: &Config, port: u16) -> Result<Option<Arc<Self>>, BindError> {
        let settings = config.qlog.clone();
        let Some(folder) = settings.folder.clone() else { return Ok(None) };
        std::fs::create_dir_all(&folder)
            .map_err(|source| BindError::Qlog { folder: folder.clone(), source })?;
        Ok(Some(Arc::new(Self {
            allowance: Allowance::new(settings.in_all),
            settings,
            folder,
            config: config.clone(),
            port,
            files: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        })))
    }

    /// What a connection to `peer` is made with.
    pub(super) fn client(&self, mut client: ClientConfig, peer: &str) -> ClientConfig {
        if let Some(stream) = self.stream("client", peer) {
            let mut transport = transport_config(&self.config);
            transport.qlog_stream(Some(stream));
            client.transport_config(Arc::new(transport));
        }
        client
    }

    /// What a connection from `peer` is accepted with.
    pub(super) fn server(&self, server: &ServerConfig, peer: &str) -> ServerConfig {
        let mut server = server.clone();
        if let Some(stream) = self.stream("server", peer) {
            let mut transport = unadmitted(&self.config);
            transport.qlog_stream(Some(stream));
            server.transport_config(Arc::new(transport));
        }
        server
    }

    fn stream(&self, role: &str, peer: &str) -> Option<QlogStream> {
        let paid = FILE.min(self.settings.per_connection);
        if !self.allowance.take(paid) {
            return None;
        }
        let name = self.name(role, peer);
        let file = match File::create_new(self.folder.join(&name)) {
            Ok(file) => BufWriter::new(file),
            Err(error) => {
                if !self.failed.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, name, "no qlog file");
                }
                return None;
            }
        };
        let allowance = Arc::clone(&self.allowance);
        let records = Records::new(file, self.settings.per_connection, paid, allowance);
        let mut qlog = QlogConfig::default();
        qlog.writer(Box::new(records)).title(Some(name));
        qlog.into_stream()
    }

    /// Names sort by time; no two are the same.
    fn name(&self, role: &str, peer: &str) -> String {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let n = self.files.fetch_add(1, Ordering::Relaxed);
        let safe = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' };
        let peer: String = peer.chars().map(safe).take(100).collect();
        format!("{}-{}-{n}-{role}-{peer}.sqlog", since.as_millis(), self.port)
    }
}
