//! What is left of quarantined peers that were forgotten: which life of each is refused.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::address::{Address, Incarnation};

/// Refused lives by address; beyond the limit the one that was put in first goes.
pub(crate) struct Outcasts {
    limit: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    lives: HashMap<Address, Outcast>,
    next: u64,
}

struct Outcast {
    life: Incarnation,
    /// They are numbered in the order of their coming.
    number: u64,
}

impl Outcasts {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, known: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that `life` and those before it are refused.
    pub(crate) fn put(&self, address: &Address, life: Incarnation) {
        let mut known = self.lock();
        let number = known.next;
        known.next += 1;
        known.lives.insert(address.clone(), Outcast { life, number });
        if known.lives.len() > self.limit {
            let first = known.lives.iter().min_by_key(|(_, outcast)| outcast.number);
            if let Some(first) = first.map(|(address, _)| address.clone()) {
                known.lives.remove(&first);
            }
        }
    }

    /// The life that is refused at `address`; it is known anew, and remembers by itself.
    pub(crate) fn take(&self, address: &Address) -> Option<Incarnation> {
        self.lock().lives.remove(address).map(|outcast| outcast.life)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered() {
        let outcasts = Outcasts::new(2);
        let address = |port| Address::new("test", "h", port).unwrap();
        for port in 1..=3 {
            outcasts.put(&address(port), Incarnation(port.into()));
        }
        assert_eq!(outcasts.take(&address(1)), None);
        outcasts.put(&address(2), Incarnation(9));
        outcasts.put(&address(4), Incarnation(4));
        assert_eq!(outcasts.take(&address(3)), None, "the second was put in again");
        assert_eq!(outcasts.take(&address(2)), Some(Incarnation(9)));
        assert_eq!(outcasts.take(&address(2)), None, "taken");
        assert_eq!(outcasts.take(&address(4)), Some(Incarnation(4)));
        assert!(outcasts.lock().lives.is_empty());
    }
}
