//! Numbered tells, and a sink that checks them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use cluster_quic::{Address, RemoteMessageSink, RemoteTell, RemoteTellRef};

use crate::message::{Options, Received};

/// A tell numbered `n`, to one of 16 targets.
pub(crate) fn tell(n: u64, bytes: usize) -> RemoteTell {
    let mut payload = n.to_le_bytes().to_vec();
    payload.resize(bytes.max(payload.len()), 0x5a);
    RemoteTell {
        target_path: format!("/user/target-{}", n % 16),
        manifest: String::new(),
        payload,
        sender_path: None,
    }
}

/// Keeps numbers, and no payload.
pub(crate) struct Ledger {
    pause: Duration,
    remembers: bool,
    takes: Mutex<Option<u64>>,
    opened: Condvar,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    received: Received,
    numbers: HashSet<(Address, u64)>,
    last: HashMap<(Address, String), u64>,
}

impl Ledger {
    pub(crate) fn new(options: &Options) -> Arc<Self> {
        Arc::new(Self {
            pause: Duration::from_micros(options.pause_us),
            remembers: options.remembers,
            takes: Mutex::new(options.takes),
            opened: Condvar::new(),
            seen: Mutex::default(),
        })
    }

    /// Takes all that waits and comes.
    pub(crate) fn open(&self) {
        *self.takes.lock().unwrap() = None;
        self.opened.notify_all();
    }

    pub(crate) fn received(&self) -> Received {
        self.seen.lock().unwrap().received.clone()
    }
}

impl RemoteMessageSink for Ledger {
    fn deliver(&self, from: &Address, tell: RemoteTellRef<'_>) {
        let takes = self.takes.lock().unwrap();
        let mut takes = self.opened.wait_while(takes, |takes| *takes == Some(0)).unwrap();
        *takes = takes.map(|takes| takes - 1);
        drop(takes);
        std::thread::sleep(self.pause);
        let number = u64::from_le_bytes(*tell.payload.first_chunk().unwrap());
        let mut seen = self.seen.lock().unwrap();
        let seen = &mut *seen;
        let received = &mut seen.received;
        received.tells += 1;
        if !self.remembers {
            return;
        }
        received.duplicates += u64::from(!seen.numbers.insert((from.clone(), number)));
        received.lowest = Some(received.lowest.map_or(number, |lowest| lowest.min(number)));
        received.highest = received.highest.max(Some(number));
        let before = seen.last.insert((from.clone(), tell.target_path.into()), number);
        received.inversions += u64::from(before.is_some_and(|before| before > number));
    }
}
