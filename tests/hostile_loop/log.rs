//! What a log gets: counted, not written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Counts the library's lines that a log at its usual level would have, or everybody's.
#[derive(Clone, Default)]
pub(crate) struct Lines {
    count: Arc<AtomicU64>,
    all: bool,
}

impl Lines {
    /// Also of what the library stands on.
    #[allow(dead_code, reason = "not by all tests")]
    pub(crate) fn of_all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Counts those of this thread, as long as the guard lives.
    pub(crate) fn count(&self) -> tracing::subscriber::DefaultGuard {
        tracing::subscriber::set_default(self.clone())
    }

    pub(crate) fn so_far(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
            && (self.all || metadata.target().starts_with("cluster_quic"))
    }

    fn event(&self, _: &Event<'_>) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
