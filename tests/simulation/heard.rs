//! What a node has heard of gossip, and what it got back of its own tells.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster_quic::{Address, DeadLetter, Gossip, LostReason};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::sink::{Record, read};

/// Gossip that can be told apart.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Talk {
    pub(crate) incarnation: u64,
    /// Among all gossip of that life.
    pub(crate) number: u64,
    /// After the world's beginning.
    pub(crate) sent: Duration,
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gossip is never sent again and the newest displaces older: of each life every message comes once at most, in
/// order, and none after one of a later life.
#[derive(Default)]
pub(crate) struct Ears(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    /// Per sender the last one's life and number.
    last: BTreeMap<Address, (u64, u64)>,
    delays: Vec<Duration>,
    wrong: Vec<String>,
}

impl Ears {
    /// Until the node is gone.
    pub(crate) async fn listen(&self, mut inbox: mpsc::Receiver<Gossip<Talk>>, begin: Instant) {
        while let Some(Gossip { from, message, .. }) = inbox.recv().await {
            let mut heard = lock(&self.0);
            let now = (message.incarnation, message.number);
            let before = heard.last.insert(from.clone(), now).unwrap_or_default();
            if before >= now {
                heard.wrong.push(format!("{message:?} from {from} after {before:?}"));
            }
            heard.delays.push(begin.elapsed().saturating_sub(message.sent));
        }
    }

    /// The life and the number of the last from a node.
    pub(crate) fn last(&self, from: &Address) -> (u64, u64) {
        lock(&self.0).last.get(from).copied().unwrap_or_default()
    }

    pub(crate) fn wrong(&self) -> Vec<String> {
        lock(&self.0).wrong.clone()
    }

    /// How long each took.
    pub(crate) fn delays(&self) -> Vec<Duration> {
        lock(&self.0).delays.clone()
    }

    pub(crate) fn clear(&self) {
        lock(&self.0).delays.clear();
    }
}

/// Tells that came back.
#[derive(Default)]
pub(crate) struct Letters(Mutex<Returned>);

#[derive(Default)]
struct Returned {
    counts: Vec<(Address, LostReason, u64)>,
    /// Those that were said to be never sent.
    unsent: Vec<(Address, Record)>,
}

impl Letters {
    pub(crate) fn take(&self, letter: DeadLetter<'_>) {
        let DeadLetter { to, tell, reason, sent, .. } = letter;
        let mut returned = lock(&self.0);
        let same = |(a, r, _): &(Address, LostReason, u64)| (a, *r) == (to, reason);
        match returned.counts.iter().position(same) {
            Some(at) => returned.counts[at].2 += 1,
            None => returned.counts.push((to.clone(), reason, 1)),
        }
        if !sent {
            returned.unsent.push((to.clone(), read(&tell)));
        }
    }

    pub(crate) fn count(&self, to: &Address, reason: LostReason) -> u64 {
        let returned = lock(&self.0);
        let same = |(a, r, _): &&(Address, LostReason, u64)| (a, *r) == (to, reason);
        returned.counts.iter().find(same).map_or(0, |(_, _, count)| *count)
    }

    pub(crate) fn unsent(&self) -> Vec<(Address, Record)> {
        lock(&self.0).unsent.clone()
    }

    pub(crate) fn clear(&self) {
        lock(&self.0).unsent.clear();
    }
}
