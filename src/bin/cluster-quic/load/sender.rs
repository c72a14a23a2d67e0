//! Sends the tells.

use std::time::{Duration, Instant};

use cluster_quic::{Peer, RemoteTellRef};
use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::node::LOAD;

/// What to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Bytes of payload.
    pub(crate) size: usize,
    /// Tells per second, or as many as the lanes take.
    pub(crate) rate: Option<u64>,
    /// At most for so long.
    pub(crate) time: Option<Duration>,
    /// At most so many.
    pub(crate) count: Option<u64>,
    pub(crate) targets: u16,
}

impl Plan {
    /// How far it is, from 0 to 1.
    pub(crate) fn done(&self, elapsed: Duration, sent: u64) -> f64 {
        let of_time = self.time.map_or(0.0, |time| elapsed.div_duration_f64(time));
        let of_count = self.count.map_or(0.0, |count| sent as f64 / count as f64);
        of_time.max(of_count).min(1.0)
    }

    /// When tell `number` is due, counted from the beginning; `None` if at once.
    fn due(&self, number: u64) -> Option<Duration> {
        self.rate.map(|rate| Duration::from_secs_f64(number as f64 / rate as f64))
    }
}

/// Sends until the plan is done or `stop` is true, and waits until everything is acknowledged or lost.
///
/// # Errors
/// Why no more could be sent.
pub(crate) async fn send(
    peer: Peer,
    plan: Plan,
    mut stop: watch::Receiver<bool>,
) -> Result<(), String> {
    let begin = Instant::now();
    let end = async {
        match plan.time {
            Some(time) => sleep_until((begin + time).into()).await,
            None => std::future::pending().await,
        }
    };
    let result = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => Ok(()),
        () = end => Ok(()),
        result = send_all(&peer, &plan, begin) => result,
    };
    // What was lost is in the figures, with its reason.
    let _ = peer.flush().await;
    result
}

/// Cancel-safe: a tell is accepted, or it was not sent.
async fn send_all(peer: &Peer, plan: &Plan, begin: Instant) -> Result<(), String> {
    let paths: Vec<_> = (0..plan.targets).map(|target| format!("{LOAD}/{target}")).collect();
    let payload: Vec<u8> = (0..plan.size).map(|place| place as u8).collect();
    let paths = paths.iter().cycle();
    for (number, target_path) in (0..plan.count.unwrap_or(u64::MAX)).zip(paths) {
        if let Some(due) = plan.due(number) {
            // Not more than the rate, however late the clock that ends it may be.
            if plan.time.is_some_and(|time| due >= time) {
                return Ok(());
            }
            if due > begin.elapsed() {
                sleep_until((begin + due).into()).await;
            }
        }
        let tell =
            RemoteTellRef { target_path, manifest: "load", payload: &payload, sender_path: None };
        peer.tell_when_ready(tell).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_done_by_what_comes_first() {
        let second = Duration::from_secs(1);
        let plan = Plan {
            size: 1,
            rate: Some(100),
            time: Some(10 * second),
            count: Some(100),
            targets: 1,
        };
        assert_eq!(plan.done(second, 5), 0.1);
        assert_eq!(plan.done(second, 50), 0.5);
        assert_eq!(plan.done(20 * second, 50), 1.0);
        assert_eq!(plan.due(250), Some(second * 5 / 2));
        assert_eq!(Plan { rate: None, ..plan }.due(250), None);
    }
}
