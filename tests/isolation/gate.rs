//! A sink that blocks.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use cluster_quic::{Address, RemoteMessageSink, RemoteTellRef};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::world::NEVER;

/// The gate opens by itself after so long: a sink may hold up the test that is to open it.
const LIMIT: Duration = Duration::from_secs(60);

/// A sink whose calls for one node's tells, or all, block until it is opened.
pub(crate) struct Gate {
    blocked: Option<Address>,
    state: Arc<State>,
    entered: mpsc::UnboundedSender<()>,
}

#[derive(Default)]
struct State {
    open: Mutex<bool>,
    opened: Condvar,
}

/// Opens the gate when it goes: a runtime ends only when no sink blocks.
pub(crate) struct Hold {
    state: Arc<State>,
    entered: mpsc::UnboundedReceiver<()>,
}

impl Hold {
    /// Waits until `calls` more calls block.
    pub(crate) async fn blocks(&mut self, calls: usize) {
        for _ in 0..calls {
            let call = timeout(NEVER, self.entered.recv()).await;
            call.expect("a call that blocks").unwrap();
        }
    }

    /// What was seen until now was seen while sinks blocked.
    #[track_caller]
    pub(crate) fn still_blocks(&self) {
        assert!(!*self.state.open.lock().unwrap(), "sinks have held up the test for {LIMIT:?}");
    }
}

impl Gate {
    /// A closed one, for tells from `blocked`, or from everybody.
    pub(crate) fn new(blocked: Option<Address>) -> (Arc<Self>, Hold) {
        let state = Arc::<State>::default();
        let (entered, calls) = mpsc::unbounded_channel();
        let hold = Hold { state: Arc::clone(&state), entered: calls };
        (Arc::new(Self { blocked, state, entered }), hold)
    }
}

impl RemoteMessageSink for Gate {
    fn deliver(&self, from: &Address, tell: RemoteTellRef<'_>) {
        let blocks = self.blocked.as_ref().is_none_or(|blocked| blocked == from);
        if blocks && tell.manifest == "block" {
            let open = self.state.open.lock().unwrap();
            if !*open {
                let _ = self.entered.send(());
            }
            let waited = self.state.opened.wait_timeout_while(open, LIMIT, |open| !*open);
            *waited.unwrap().0 = true;
            self.state.opened.notify_all();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        *self.state.open.lock().unwrap() = true;
        self.state.opened.notify_all();
    }
}
