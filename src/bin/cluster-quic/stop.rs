//! When to stop: SIGINT, SIGTERM, SIGHUP (the terminal is gone).

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Tells of signals to stop, each by its name.
pub(crate) struct Stop(UnboundedReceiver<&'static str>);

impl Stop {
    /// Watches from now on. Call within a runtime.
    pub(crate) fn new() -> Self {
        let (sender, receiver) = unbounded_channel();
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let signals = [
                (SignalKind::interrupt(), "SIGINT"),
                (SignalKind::terminate(), "SIGTERM"),
                (SignalKind::hangup(), "SIGHUP"),
            ];
            for (kind, name) in signals {
                // Without it the signal keeps its usual effect.
                let Ok(mut signals) = signal(kind) else { continue };
                let sender = sender.clone();
                tokio::spawn(async move {
                    while signals.recv().await.is_some() && sender.send(name).is_ok() {}
                });
            }
        }
        #[cfg(not(unix))]
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() && sender.send("Ctrl-C").is_ok() {}
        });
        Self(receiver)
    }

    /// Returns at the next signal. Cancel-safe.
    pub(crate) async fn wait(&mut self) -> &'static str {
        match self.0.recv().await {
            Some(name) => name,
            // Nobody can ask us to stop any more.
            None => std::future::pending().await,
        }
    }
}
