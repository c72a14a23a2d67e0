//! What is measured: two nodes in this process, of which one sends to the other.

use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Instant;

use crate::Error;
use crate::counter::{Counter, Load};

pub(crate) type Sending = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// What a tell is called where the subject has room for it.
pub(crate) const MANIFEST: &str = "bench";

/// A gossip message: when it was sent, and the rest of 200 bytes.
pub(crate) type Probe = [u8; 200];

/// A sending and a receiving node.
pub(crate) trait Subject: Send + Sync {
    /// Sends all of it as fast as the subject takes it, with sequence numbers from 0 per target.
    fn send(self: Arc<Self>, load: Load) -> Sending;

    /// Sends one gossip message, as urgent as the subject can.
    fn gossip(&self, probe: Probe) -> Result<(), Error>;

    /// What receives both.
    fn receiver(&self) -> &Receiver;
}

/// What counts tells and times gossip at the receiving node.
pub(crate) struct Receiver {
    pub(crate) tells: Counter,
    /// How long gossip took, in milliseconds.
    delays: Mutex<Vec<f64>>,
}

/// Both nodes' clock.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A message that says when it was made.
pub(crate) fn probe() -> Probe {
    let mut probe = [0x5a; size_of::<Probe>()];
    probe[..8].copy_from_slice(&(EPOCH.elapsed().as_nanos() as u64).to_le_bytes());
    probe
}

impl Receiver {
    pub(crate) fn new() -> Arc<Self> {
        LazyLock::force(&EPOCH);
        Arc::new(Self { tells: Counter::new(), delays: Mutex::default() })
    }

    /// Takes one gossip message.
    pub(crate) fn hear(&self, probe: &[u8]) {
        let now = EPOCH.elapsed();
        if let Some(sent) = probe.first_chunk::<8>() {
            let delay = now.as_nanos() as f64 - u64::from_le_bytes(*sent) as f64;
            self.lock().push(delay / 1e6);
        }
    }

    /// How many gossip messages came since the last [`take_delays`](Self::take_delays).
    pub(crate) fn heard(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn take_delays(&self) -> Vec<f64> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<f64>> {
        self.delays.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
