//! Which of a node's identities a link was made with, and the one that the node has now.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use crate::tls::Identity;
use crate::wall_clock::WallClock;

/// The identity that the node has now.
pub(super) struct Present {
    identity: RwLock<Identity>,
    /// How many came before it.
    number: AtomicU64,
    clock: WallClock,
}

impl Present {
    pub(super) fn new(identity: &Identity, clock: &WallClock) -> Self {
        let identity = RwLock::new(identity.clone());
        Self { identity, number: AtomicU64::new(0), clock: clock.clone() }
    }

    pub(super) fn replace(&self, identity: &Identity) {
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = identity.clone();
        self.number.fetch_add(1, Ordering::Release);
    }

    pub(super) fn generation(self: &Arc<Self>) -> Generation {
        Generation { made: self.number.load(Ordering::Acquire), present: Arc::clone(self) }
    }
}

/// One of a node's identities, by its number.
#[derive(Clone)]
pub(super) struct Generation {
    made: u64,
    present: Arc<Present>,
}

impl Generation {
    pub(super) fn is_current(&self) -> bool {
        self.made == self.present.number.load(Ordering::Acquire)
    }

    pub(super) fn present_identity(&self) -> Identity {
        self.present.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What time it is for certificates.
    pub(super) fn now(&self) -> SystemTime {
        self.present.clock.now()
    }
}
