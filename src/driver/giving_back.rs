//! Lost tells on their way back to the user: in order, whatever time his hook takes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{Span, warn};

use crate::address::Address;
use crate::dead_letters::give_back;
use crate::node::Node;
use crate::outbound::Loss;

/// Gives back what is lost of the tells to one peer, in order: on one blocking thread, while there is any.
#[derive(Default)]
pub(super) struct GivingBack {
    losses: Arc<Losses>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Losses(Mutex<LossesState>);

#[derive(Default)]
struct LossesState {
    waiting: VecDeque<Loss>,
    /// A thread is at it, or about to be.
    attended: bool,
}

impl GivingBack {
    /// Has `losses` given to the node's hook, if it has one, after those before.
    pub(super) fn push(
        &mut self,
        node: &Arc<Node>,
        to: &Address,
        losses: impl IntoIterator<Item = Loss>,
    ) {
        if node.dead_letters.get().is_none() {
            return;
        }
        let mut state = self.losses.lock();
        state.waiting.extend(losses);
        if state.waiting.is_empty() || std::mem::replace(&mut state.attended, true) {
            return;
        }
        drop(state);
        let (node, to, losses) = (Arc::clone(node), to.clone(), Arc::clone(&self.losses));
        let span = Span::current();
        self.thread = Some(spawn_blocking(move || {
            let _in_span = span.enter();
            let Some(hook) = node.dead_letters.get() else { return };
            while let Some(loss) = losses.next() {
                let panics = give_back(&to, &loss, hook);
                if panics > 0 {
                    warn!(peer = %to, panics, "the dead letters' hook panicked");
                }
            }
        }));
    }

    /// Whether nothing is being given back.
    pub(super) fn is_over(&self) -> bool {
        !self.losses.lock().attended
    }

    /// Waits until nothing is. Cancel-safe.
    pub(super) async fn over(&mut self) {
        if let Some(thread) = &mut self.thread {
            let _ = thread.await;
            self.thread = None;
        }
    }
}

impl Losses {
    fn next(&self) -> Option<Loss> {
        let mut state = self.lock();
        let next = state.waiting.pop_front();
        state.attended = next.is_some();
        next
    }

    fn lock(&self) -> MutexGuard<'_, LossesState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::runtime::Handle;

    use super::*;
    use crate::config::Config;
    use crate::dead_letters::DeadLetter;
    use crate::frame::RemoteTellRef;
    use crate::outbound::{Budget, Patience, TellLane};

    const LIMIT: Duration = Duration::from_secs(20);

    fn loss(target_path: &str) -> Loss {
        let lane = TellLane::new(1024, Arc::new(Budget::new(1 << 20)));
        let tell = RemoteTellRef { target_path, manifest: "m", payload: b"", sender_path: None };
        lane.push(&tell, tell.encoded_len(), Patience::None).unwrap();
        lane.abandon().unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_slow_hook_gets_one_loss_after_the_other() {
        let config = Config::builder("sys").build().unwrap();
        let address = |host| Address::new("sys", host, 1).unwrap();
        let node = Arc::new(Node::new(address("a"), config, None, Handle::current()));
        let (begun, letters) = mpsc::channel();
        let (proceed, turn) = mpsc::channel();
        let turn = Mutex::new(turn);
        let hook = move |letter: DeadLetter<'_>| {
            begun.send(letter.tell.target_path.to_owned()).unwrap();
            // Whoever comes meanwhile says so before he waits for the turn.
            turn.lock().unwrap().recv_timeout(LIMIT).unwrap();
        };
        assert!(node.dead_letters.set(Box::new(hook)).is_ok());
        let mut giving_back = GivingBack::default();
        for target in ["0", "1", "2"] {
            giving_back.push(&node, &address("b"), [loss(target)]);
        }
        for target in ["0", "1", "2"] {
            assert_eq!(letters.recv_timeout(LIMIT).unwrap(), target);
            let meanwhile = letters.recv_timeout(Duration::from_millis(50));
            assert!(meanwhile.is_err(), "{meanwhile:?}");
            assert!(!giving_back.is_over());
            proceed.send(()).unwrap();
        }
        giving_back.over().await;
        assert!(giving_back.is_over());
        // And again after a rest.
        proceed.send(()).unwrap();
        giving_back.push(&node, &address("b"), [loss("3")]);
        giving_back.over().await;
        assert_eq!(letters.try_recv().unwrap(), "3");
    }
}
