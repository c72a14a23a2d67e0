//! The three files of an identity, and what they hold.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::tls::{Identity, IdentityError, Pem, sha256};

/// Where an [`Identity`] is kept: three PEM files, as [`Identity::from_pem_files`] takes them. Remembers
/// the paths, so that it can be loaded again and again.
///
/// ```no_run
/// use cluster_quic::{ClusterTransport, Config, IdentityFiles};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let files = IdentityFiles::new("/tls/tls.crt", "/tls/tls.key", "/tls/ca.crt");
/// let node = ClusterTransport::bind(Config::builder("sys").build()?, &files.load()?)?;
/// node.watch_identity(files, IdentityFiles::PERIOD).detach();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    certificate_chain: PathBuf,
    private_key: PathBuf,
    ca_bundle: PathBuf,
}

const ROLES: [&str; 3] = ["certificate chain", "private key", "CA bundle"];

impl IdentityFiles {
    /// How often [`watch_identity`](crate::ClusterTransport::watch_identity) should look: often enough for
    /// certificates that live for minutes, and seldom enough for a network file system.
    pub const PERIOD: Duration = Duration::from_secs(10);

    /// Takes the paths as they are, without looking at the files.
    pub fn new(
        certificate_chain: impl Into<PathBuf>,
        private_key: impl Into<PathBuf>,
        ca_bundle: impl Into<PathBuf>,
    ) -> Self {
        Self {
            certificate_chain: certificate_chain.into(),
            private_key: private_key.into(),
            ca_bundle: ca_bundle.into(),
        }
    }

    /// Loads what the files hold now. Blocks while they are read.
    ///
    /// # Errors
    /// As [`Identity::from_pem_files`].
    pub fn load(&self) -> Result<Identity, IdentityError> {
        self.load_at(SystemTime::now())
    }

    pub(super) fn load_at(&self, now: SystemTime) -> Result<Identity, IdentityError> {
        self.identity(self.read(), now)
    }

    fn paths(&self) -> [&Path; 3] {
        [&self.certificate_chain, &self.private_key, &self.ca_bundle]
    }

    pub(super) fn read(&self) -> Contents {
        Contents(self.paths().map(std::fs::read))
    }

    /// What was read, if it makes an identity.
    pub(super) fn identity(
        &self,
        contents: Contents,
        now: SystemTime,
    ) -> Result<Identity, IdentityError> {
        let [chain, key, ca_bundle] = contents.0;
        let [chain_at, key_at, ca_bundle_at] = self.paths();
        let chain = Pem::found(ROLES[0], chain_at, chain)?;
        let key = Pem::found(ROLES[1], key_at, key)?;
        let ca_bundle = Pem::found(ROLES[2], ca_bundle_at, ca_bundle)?;
        Identity::load(&chain, &key, &ca_bundle, now)
    }
}

/// What reading the three files came to.
pub(super) struct Contents(pub(super) [io::Result<Vec<u8>>; 3]);

impl Contents {
    /// The same for the same content, or the same kind of failure.
    pub(super) fn hash(&self) -> [u8; 32] {
        let each = self.0.iter().map(|read| match read {
            Ok(bytes) => sha256(bytes),
            Err(error) => sha256(format!("unreadable: {:?}", error.kind()).as_bytes()),
        });
        sha256(&each.flatten().collect::<Vec<u8>>())
    }
}
