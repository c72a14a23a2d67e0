//! What a node's sink has received, and the tells that it can tell apart.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cluster_quic::{Address, RemoteMessageSink, RemoteTell, RemoteTellRef};

/// Which life of which node sent a tell, and its number among that life's tells to the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    /// The sender's number in its world.
    pub(crate) from: u64,
    pub(crate) incarnation: u64,
    pub(crate) target: u64,
    pub(crate) number: u64,
}

/// How many target paths there are.
pub(crate) const TARGETS: u64 = 8;

pub(crate) fn target_path(target: u64) -> String {
    format!("/user/{target}")
}

/// A tell that says who sent it, and is filled up to `size` bytes.
pub(crate) fn tell(record: Record, size: usize) -> RemoteTell {
    let mut payload = Vec::with_capacity(size.max(32));
    for word in [record.from, record.incarnation, record.target, record.number] {
        payload.extend(word.to_le_bytes());
    }
    payload.resize(size.max(32), record.number as u8);
    RemoteTell {
        target_path: target_path(record.target),
        manifest: "simulated".into(),
        payload,
        sender_path: None,
    }
}

pub(crate) fn read(tell: &RemoteTellRef<'_>) -> Record {
    let word = |n: usize| {
        let bytes = &tell.payload[n * 8..n * 8 + 8];
        u64::from_le_bytes(bytes.try_into().unwrap())
    };
    let record = Record { from: word(0), incarnation: word(1), target: word(2), number: word(3) };
    assert_eq!(tell.target_path, target_path(record.target), "handed to the wrong target");
    assert!(
        tell.payload[32..].iter().all(|byte| *byte == record.number as u8),
        "a payload was damaged on the way"
    );
    record
}

/// Records what arrives while its node lives.
#[derive(Default)]
pub(crate) struct Sink(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    records: Vec<(Address, Record)>,
    /// How many from which life of which node.
    counts: BTreeMap<(u64, u64), u64>,
    /// The node was killed: a dead process handles nothing.
    dead: bool,
}

impl Sink {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn records(&self) -> Vec<(Address, Record)> {
        self.heard().records.clone()
    }

    /// How many tells have arrived from one life of a node.
    pub(crate) fn count(&self, from: u64, incarnation: u64) -> u64 {
        self.heard().counts.get(&(from, incarnation)).copied().unwrap_or(0)
    }

    /// How many tells have arrived from all lives of a node.
    pub(crate) fn count_of(&self, from: u64) -> u64 {
        self.heard().counts.range((from, 0)..=(from, u64::MAX)).map(|(_, count)| count).sum()
    }

    /// How many tells have arrived.
    pub(crate) fn total(&self) -> u64 {
        self.heard().counts.values().sum()
    }

    /// Forgets the records, and keeps the counts.
    pub(crate) fn clear(&self) {
        self.heard().records.clear();
    }

    pub(crate) fn kill(&self) {
        self.heard().dead = true;
    }
}

impl RemoteMessageSink for Sink {
    fn deliver(&self, from: &Address, tell: RemoteTellRef<'_>) {
        let record = read(&tell);
        let mut heard = self.heard();
        if !heard.dead {
            *heard.counts.entry((record.from, record.incarnation)).or_default() += 1;
            heard.records.push((from.clone(), record));
        }
    }
}
