//! Certificates and CA bundles change while the node runs: what users call, and what the node remembers.
//!
//! New connections take a new identity at once. Standing ones are their drivers' concern
//! (`driver/certificates.rs`), as is what becomes of peers that the new CA bundle does not vouch for.

mod expiry;
mod files;
mod own;
#[cfg(test)]
mod tests;
mod watch;
mod watcher;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::error::BindError;
use crate::event::Event;
use crate::node::Node;
use crate::tls::Identity;
use crate::transport::ClusterTransport;
pub(crate) use expiry::Warnings;
pub use files::IdentityFiles;
pub(crate) use own::warn_of_own;
pub use watch::IdentityWatch;

/// What a node shows and trusts, one identity after the other; none where the backend has no certificates.
#[derive(Default)]
pub(crate) struct Identities {
    present: Mutex<Option<Identity>>,
    number: AtomicU64,
}

impl Identities {
    pub(crate) fn new(first: Option<&Identity>) -> Self {
        Self { present: Mutex::new(first.cloned()), number: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Identity>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn present(&self) -> Option<Identity> {
        self.lock().clone()
    }

    /// How many came before the present one.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }
}

impl Node {
    /// New connections are made with `identity` from now on; an error changes nothing.
    pub(crate) fn renew(&self, identity: &Identity) -> Result<(), BindError> {
        // Held throughout: of two renewals at once one is first, in everything.
        let mut present = self.identities.lock();
        self.give_backend(identity)?;
        if let Some(present) = &mut *present {
            *present = identity.clone();
        }
        self.identities.number.fetch_add(1, Ordering::Release);
        drop(present);
        let (fingerprint, expires) = (identity.fingerprint(), identity.not_after());
        let until = crate::tls::iso_utc(expires);
        tracing::info!(certificate = %fingerprint, %until, "identity replaced");
        self.emit(Event::IdentityRenewed { fingerprint, expires });
        Ok(())
    }
}

impl ClusterTransport {
    /// Replaces the node's certificate, key and CA bundle, without a restart and without losing a tell or
    /// its place: new connections use them at once, and standing ones are replaced within the next
    /// second, make before break. Peers see neither an end nor a failure: [`Event::PeerUp`] comes again. A
    /// replacement that fails leaves the old connection as it is, is reported as
    /// [`Event::DialFailed`], and is tried again. [`Event::IdentityRenewed`] says that the identity is in use.
    ///
    /// **Peers that the new CA bundle does not vouch for** are cut off: each such connection is replaced,
    /// for the peer may have a better certificate by now, and ends when the peer has none (a quarter second
    /// and a round trip later), or cannot be reached for
    /// [`dial_timeout`](crate::ConfigBuilder::dial_timeout), with [`Event::PeerDown`] and
    /// [`AssociationError::Certificate`](crate::AssociationError::Certificate).
    ///
    /// Gossip that is on its way on an old connection may be lost with it, as over any change of
    /// connections. On the in-process backend there is nothing to replace.
    ///
    /// To change to another CA: give every node a bundle with both, then certificates of the new one, then
    /// the new one's bundle. Stateless resets keep the keys of the identity that the node was bound with,
    /// so after a restart with another key the peers of the old process find out by their idle timeout or
    /// by the new process's first dial.
    ///
    /// # Errors
    /// [`BindError`], if the certificate does not cover the node's address or cannot be used. The old
    /// identity then stays.
    pub fn renew(&self, identity: &Identity) -> Result<(), BindError> {
        self.node().renew(identity)
    }

    /// [`renew`](Self::renew) with what `files` hold now. Blocks while they are read.
    ///
    /// # Errors
    /// [`BindError::Identity`] says which file is at fault and why, or as [`renew`](Self::renew). The old
    /// identity then stays.
    pub fn renew_from_files(&self, files: &IdentityFiles) -> Result<(), BindError> {
        self.renew(&files.load_at(self.node().config.wall_clock.now())?)
    }

    /// Looks at `files` every `period` ([`IdentityFiles::PERIOD`] suits most; at least 10 ms) and takes over
    /// what is new in them, as [`renew`](Self::renew) does.
    ///
    /// The content is compared, whatever the files' dates and names say: it makes no difference whether they
    /// are written anew, renamed into place, or replaced by the symbolic links of a Kubernetes volume.
    /// They are read on a thread that nothing else waits for.
    ///
    /// The three files are one whole that is not replaced at one instant. So a new content is taken once
    /// it has stood still for a second (or for `period`, if that is shorter), and only if it is in order,
    /// key and certificate belonging together. What is not in order for a whole `period` is rejected:
    /// the node keeps its identity, and [`Event::IdentityRejected`], the log and
    /// [`IdentityWatch::last_error`] say why, once for each content. It is looked at again all the same,
    /// since a certificate may be wrong only in that its time has not come.
    ///
    /// Files that already differ from the node's identity when this is called are taken likewise.
    ///
    /// The watch ends with the transport, and when the handle is dropped; see [`IdentityWatch::detach`].
    pub fn watch_identity(&self, files: IdentityFiles, period: Duration) -> IdentityWatch {
        IdentityWatch::start(self.node(), files, period)
    }

    /// When the node's own certificate expires; `None` on the in-process backend.
    /// [`PeerStats::certificate_expires`](crate::PeerStats::certificate_expires) has the peers'.
    pub fn identity_expires(&self) -> Option<SystemTime> {
        self.node().identities.present().map(|identity| identity.not_after())
    }
}
