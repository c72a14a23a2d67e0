//! The node's sink: counts tells, and does nothing else with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cluster_quic::{Address, RemoteMessageSink, RemoteTellRef};

/// Where `load` sends to; `/user/load/3` is below it.
pub(crate) const LOAD: &str = "/user/load";

/// Tells received, by target.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    load: Count,
    others: Count,
}

#[derive(Debug, Default)]
struct Count {
    tells: AtomicU64,
    bytes: AtomicU64,
}

/// How many tells, and the bytes of their payloads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) tells: u64,
    pub(crate) bytes: u64,
}

impl Counter {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// For `load`'s targets, and for all others.
    pub(crate) fn read(&self) -> (Counted, Counted) {
        (self.load.read(), self.others.read())
    }
}

impl Count {
    fn read(&self) -> Counted {
        Counted { tells: self.tells.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }
}

impl RemoteMessageSink for Counter {
    fn deliver(&self, _from: &Address, tell: RemoteTellRef<'_>) {
        let below = tell.target_path.strip_prefix(LOAD);
        let is_load = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let count = if is_load { &self.load } else { &self.others };
        count.tells.fetch_add(1, Relaxed);
        count.bytes.fetch_add(tell.payload.len() as u64, Relaxed);
    }

    fn may_block(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_the_load_s_path_is_counted_apart() {
        let counter = Counter::new();
        let from = "akka.quic://sys@host:1".parse().unwrap();
        for target_path in ["/user/load", "/user/load/7", "/user/loader", "/user/x", "/user/loa"] {
            let payload = b"abc";
            let tell = RemoteTellRef { target_path, manifest: "", payload, sender_path: None };
            counter.deliver(&from, tell);
        }
        let counted = |tells| Counted { tells, bytes: 3 * tells };
        assert_eq!(counter.read(), (counted(2), counted(3)));
    }
}
