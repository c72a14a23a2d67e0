//! How long gossip takes.

use std::fmt;
use std::time::Duration;

use cluster_quic::{Peer, RemoteTellRef};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until};

use crate::world::{Node, Probe, tell};

/// What is sent how often, and how many times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probes {
    pub(crate) size: usize,
    pub(crate) every: Duration,
    pub(crate) count: usize,
}

/// As much as a small cluster's membership takes, every 20 ms for two seconds.
pub(crate) const SMALL: Probes = Probes { size: 200, every: Duration::from_millis(20), count: 100 };

/// After the last probe those that are under way are given so long.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) struct Delays {
    sorted: Vec<Duration>,
    missing: usize,
}

impl Delays {
    /// Gossips to `peer`, and listens at `node`.
    pub(crate) async fn of(probes: Probes, peer: &Peer, node: &mut Node) -> Self {
        let send = |number| peer.send_gossip(&Probe::new(number, probes.size)).unwrap();
        let inbox = &mut node.gossip;
        Self::measure(probes, send, async || inbox.recv().await.map(|g| g.message.number)).await
    }

    /// Tells `target`, whose sink passes on what it gets.
    pub(crate) async fn of_tells(
        probes: Probes,
        peer: &Peer,
        target: &str,
        sink: &mut mpsc::UnboundedReceiver<usize>,
    ) -> Self {
        let send = |number: usize| {
            let payload = &number.to_le_bytes();
            let tell = RemoteTellRef { manifest: "probe", ..tell(target, payload) };
            // Where the lane is full, it comes as late as the others.
            let _ = peer.tell(tell);
        };
        Self::measure(probes, send, async || sink.recv().await).await
    }

    /// What does not arrive counts as long as it has been waited for.
    async fn measure(
        probes: Probes,
        send: impl Fn(usize),
        mut receive: impl AsyncFnMut() -> Option<usize>,
    ) -> Self {
        let mut sent = Vec::new();
        let mut took = vec![None; probes.count];
        let mut tick = interval(probes.every);
        let end = Instant::now() + probes.every * probes.count as u32 + PATIENCE;
        while took.iter().any(Option::is_none) {
            tokio::select! {
                biased;
                Some(number) = receive() => took[number] = Some(Instant::now() - sent[number]),
                _ = tick.tick(), if sent.len() < probes.count => {
                    send(sent.len());
                    sent.push(Instant::now());
                }
                () = sleep_until(end) => break,
            }
        }
        let missing = took.iter().filter(|took| took.is_none()).count();
        let mut sorted: Vec<_> =
            sent.into_iter().zip(took).map(|(sent, took)| took.unwrap_or(end - sent)).collect();
        sorted.sort();
        Self { sorted, missing }
    }

    pub(crate) fn median(&self) -> Duration {
        self.sorted[self.sorted.len() / 2]
    }

    pub(crate) fn max(&self) -> Duration {
        self.sorted[self.sorted.len() - 1]
    }

    #[track_caller]
    pub(crate) fn within(&self, median: u64, max: u64) {
        let within = |took: Duration, limit| took <= Duration::from_millis(limit);
        assert!(
            within(self.median(), median) && within(self.max(), max),
            "gossip took {self}; {median} ms are allowed in the middle, {max} ms at most"
        );
        println!("gossip took {self}");
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sorted, missing } = self;
        let (median, max) = (self.median(), self.max());
        write!(f, "{median:?} in the middle of {}, {max:?} at most", sorted.len())?;
        if *missing > 0 {
            write!(f, ", {missing} of them were still waited for")?;
        }
        Ok(())
    }
}
