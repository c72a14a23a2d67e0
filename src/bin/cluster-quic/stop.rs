//! When to stop: SIGINT, SIGTERM, SIGHUP (the terminal is gone).

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The terminal is gone.
const HANG_UP: &str = "SIGHUP";

/// Tells of signals to stop, each by its name.
pub(crate) struct Stop {
    signals: UnboundedReceiver<&'static str>,
    /// It ends already.
    ending: bool,
}

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
                (SignalKind::hangup(), HANG_UP),
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
        Self::of(receiver)
    }

    /// What tells of the signals may be anything.
    pub(crate) fn of(signals: UnboundedReceiver<&'static str>) -> Self {
        Self { signals, ending: false }
    }

    /// It ends already, without a signal.
    pub(crate) fn ending(&mut self) {
        self.ending = true;
    }

    /// Returns at the next signal. A SIGHUP while it ends is none: the kernel sends it when a terminal goes, and
    /// the shell once more, so it does not say that somebody has lost patience. Cancel-safe.
    pub(crate) async fn wait(&mut self) -> &'static str {
        loop {
            match self.signals.recv().await {
                Some(HANG_UP) if self.ending => {}
                Some(name) => {
                    self.ending = true;
                    return name;
                }
                // Nobody can ask us to stop any more.
                None => return std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_terminal_that_goes_is_told_once() {
        let (signals, receiver) = unbounded_channel();
        let mut stop = Stop::of(receiver);
        for name in [HANG_UP, HANG_UP, "SIGTERM", HANG_UP, "SIGINT"] {
            signals.send(name).unwrap();
        }
        for name in [HANG_UP, "SIGTERM", "SIGINT"] {
            assert_eq!(stop.wait().await, name);
        }
        // It was noticed otherwise.
        let (signals, receiver) = unbounded_channel();
        let mut stop = Stop::of(receiver);
        stop.ending();
        for name in [HANG_UP, "SIGINT"] {
            signals.send(name).unwrap();
        }
        assert_eq!(stop.wait().await, "SIGINT");
    }
}
