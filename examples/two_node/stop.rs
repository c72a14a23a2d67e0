//! When to stop before the end: Ctrl-C, SIGTERM, or a parent process that is gone.

use std::io::Read;

use tokio::sync::watch;

/// Tells its holders when to stop.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Watches the signals, and for a `child` its standard input: the parent holds the other end, so
    /// that it closes whatever becomes of the parent.
    pub(crate) fn new(child: bool) -> Self {
        let (sender, receiver) = watch::channel(false);
        let parent = sender.clone();
        if child {
            std::thread::spawn(move || {
                let mut stdin = std::io::stdin().lock();
                while matches!(stdin.read(&mut [0; 64]), Ok(1..)) {}
                parent.send_replace(true);
            });
        }
        tokio::spawn(async move {
            signal().await;
            sender.send_replace(true);
        });
        Self(receiver)
    }

    /// Returns once it is time to stop. Cancel-safe.
    pub(crate) async fn wait(&mut self) {
        // An error means that nobody can ask us to stop any more.
        if self.0.wait_for(|stop| *stop).await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return ctrl_c().await;
    };
    tokio::select! {
        () = ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn signal() {
    ctrl_c().await;
}

async fn ctrl_c() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
