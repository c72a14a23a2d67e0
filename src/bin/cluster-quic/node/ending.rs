//! The end of a node: it leaves, drains, and reports.

use std::future::Future;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use cluster_quic::{Address, ClusterTransport, ShutdownReport};

use super::LOAD;
use super::model::Model;
use crate::failure::Failure;
use crate::figures::{bytes, thousands};

/// Leaves, then drains for `drain` at most; what of that is not done when `hurry` returns is left out. The
/// report has all that was lost.
pub(super) async fn end(
    transport: &ClusterTransport,
    leaving: impl Future<Output = ()>,
    drain: Duration,
    hurry: impl Future<Output = ()>,
) -> ShutdownReport {
    tokio::pin!(hurry);
    tokio::select! {
        biased;
        () = &mut hurry => return transport.shutdown(Duration::ZERO).await,
        () = leaving => {}
    }
    let draining = transport.shutdown(drain);
    tokio::pin!(draining);
    tokio::select! {
        report = &mut draining => report,
        // Each call reports what is lost from its beginning on, so the first one's report is the whole.
        () = hurry => tokio::join!(draining, transport.shutdown(Duration::ZERO)).0,
    }
}

/// Prints the report.
pub(super) fn print(report: &ShutdownReport, model: &Model, as_json: bool) -> io::Result<()> {
    let lost = lost(report);
    let mut out = io::stdout().lock();
    if as_json {
        let of_peer = |(peer, lost): &(Address, cluster_quic::Lost)| serde_json::json!({"peer": peer.to_string(), "tells": lost.frames, "bytes": lost.bytes});
        let lost: Vec<_> = report.lost.iter().map(of_peer).collect();
        let line = serde_json::json!({
            "at": crate::figures::timestamp(SystemTime::now()),
            "ended": {
                "address": model.address,
                "clean": report.is_clean(),
                "seconds": report.took.as_secs_f64(),
                "acknowledged": report.acknowledged,
                "lost": lost,
                "received": {
                    "load": { "tells": model.load.tells, "bytes": model.load.bytes },
                    "others": { "tells": model.others.tells, "bytes": model.others.bytes },
                },
            }
        });
        writeln!(out, "{line}")?;
    } else {
        let others = match model.others.tells {
            0 => String::new(),
            number => format!(", and {} for other targets", thousands(number)),
        };
        let what = if lost == 0 {
            "nothing lost".into()
        } else {
            format!("{} tells lost", thousands(lost))
        };
        writeln!(
            out,
            "node {} ended after {}\n\
             drained in {:.2} s, {what}; sent: {} tells acknowledged\n\
             received: {} tells ({}) for {LOAD}{others}",
            model.address,
            crate::figures::span(model.age),
            report.took.as_secs_f64(),
            thousands(report.acknowledged),
            thousands(model.load.tells),
            bytes(model.load.bytes),
        )?;
    }
    out.flush()
}

/// Tells lost.
fn lost(report: &ShutdownReport) -> u64 {
    report.lost.iter().map(|(_, lost)| lost.frames).sum()
}

/// How the command ends by it.
pub(super) fn verdict(report: &ShutdownReport) -> Result<(), Failure> {
    if lost(report) > 0 { Err(Failure::Told) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster_quic::{Config, Event, InProcessNetwork, RecordingSink, RemoteTell, gossip_inbox};
    use tokio::sync::Notify;

    const LONG: Duration = Duration::from_secs(3600);

    fn node(network: &InProcessNetwork, host: &str) -> ClusterTransport {
        let config = Config::builder("sys").retention(Duration::from_millis(100)).build();
        ClusterTransport::in_process(config.unwrap(), network, host).unwrap()
    }

    #[tokio::test]
    async fn what_was_lost_before_the_hurry_is_in_the_report() {
        let network = InProcessNetwork::new();
        // The second has no sink, and acknowledges nothing.
        let (a, b) = (node(&network, "a"), node(&network, "b"));
        a.start(gossip_inbox::<String>(1).0, RecordingSink::new()).unwrap();
        let nobody: Address = "akka.quic://sys@nobody:1".parse().unwrap();
        let mut events = a.events();
        for to in [&nobody, b.address()] {
            let [target_path, manifest] = ["/user/a", "text"].map(str::to_owned);
            a.tell(to, RemoteTell { target_path, manifest, payload: vec![1], sender_path: None })
                .unwrap();
        }
        let hurry = Notify::new();
        let lost = async {
            while let Some(event) = events.recv().await {
                if let Event::TellsLost { peer, .. } = event {
                    assert_eq!(peer, nobody, "it cannot be reached");
                    return hurry.notify_one();
                }
            }
        };
        let ending = end(&a, async {}, LONG, hurry.notified());
        let (report, ()) = tokio::join!(ending, lost);
        let mut lost: Vec<_> = report.lost.iter().map(|(peer, lost)| (peer, lost.frames)).collect();
        lost.sort();
        assert_eq!(lost, [(b.address(), 1), (&nobody, 1)]);
        assert!(matches!(verdict(&report), Err(Failure::Told)));
    }

    #[tokio::test]
    async fn who_is_in_a_hurry_does_not_wait_for_the_leave() {
        let network = InProcessNetwork::new();
        let a = node(&network, "a");
        let hurry = Notify::new();
        let mut ending = Box::pin(end(&a, std::future::pending(), LONG, hurry.notified()));
        assert!(at_once(&mut ending).await.is_none(), "it leaves");
        hurry.notify_one();
        assert!(verdict(&ending.await).is_ok());
    }

    /// The future's result, if it is there at once.
    async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            result = future => Some(result),
            () = std::future::ready(()) => None,
        }
    }
}
