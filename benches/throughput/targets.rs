//! What this crate's transport is meant to reach, and whether it did. A miss is no failure: figures
//! of a shared machine vary.

use crate::report::Figure;

/// A figure's bound.
struct Target {
    /// How the case's name begins.
    case: &'static str,
    metric: &'static str,
    /// How the name of the case begins that the figure is compared with, if it is the ratio that counts.
    against: Option<&'static str>,
    bound: Bound,
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};

const TARGETS: [Target; 17] = [
    target("quic/64B", "rate", Some("tcp/"), AtLeast(20.0)),
    target("quic/1KiB", "rate", Some("tcp/"), AtLeast(6.0)),
    target("quic/64KiB", "rate", Some("tcp/"), AtLeast(3.0)),
    target("quic/64B", "rate", Some("quinn/"), AtLeast(0.8)),
    target("quic/1KiB", "rate", Some("quinn/"), AtLeast(0.85)),
    target("quic/64KiB", "rate", Some("quinn/"), AtLeast(0.9)),
    target("quic-prompt/64B", "rate", Some("quinn/"), AtLeast(0.8)),
    target("quic-prompt/1KiB", "rate", Some("quinn/"), AtLeast(0.85)),
    target("quic-prompt/64KiB", "rate", Some("quinn/"), AtLeast(0.9)),
    target("quic-prompt/latency", "one-way p50", Some("quinn/latency"), AtMost(1.5)),
    target("quic-prompt/latency", "round-trip p50", Some("quinn/latency"), AtMost(1.5)),
    target("in-process/64B", "rate", Some("atomr-in-process/"), AtLeast(4.0)),
    target("quic-8-senders/", "rate", Some("quic-1-sender/"), AtLeast(0.9)),
    target("quic-32-peers/", "rate", Some("quic-1-peer/"), AtLeast(0.7)),
    target("quic/latency", "one-way p50", Some("quinn/latency"), AtMost(1.5)),
    target("quic/latency", "round-trip p50", Some("quinn/latency"), AtMost(1.5)),
    target("idle-", "association memory", None, AtMost(40.0)),
];

const fn target(
    case: &'static str,
    metric: &'static str,
    against: Option<&'static str>,
    bound: Bound,
) -> Target {
    Target { case, metric, against, bound }
}

/// For each target that something was measured for: whether it is met, the case, the metric, the value,
/// what that is of, and the bound.
pub(crate) fn check(figures: &[Figure]) -> Vec<[String; 6]> {
    TARGETS.iter().flat_map(|target| figures.iter().filter_map(|f| target.check(f))).collect()
}

impl Target {
    fn check(&self, figure: &Figure) -> Option<[String; 6]> {
        if !figure.case.starts_with(self.case) || figure.metric != self.metric {
            return None;
        }
        let (value, of) = match (self.against, &figure.against) {
            (None, None) => (figure.value, figure.unit.clone()),
            (Some(wanted), Some((against, ratio))) if against.starts_with(wanted) => {
                (*ratio, format!("x {against}"))
            }
            _ => return None,
        };
        let (met, bound) = match self.bound {
            AtLeast(bound) => (value >= bound, format!("at least {bound}")),
            AtMost(bound) => (value <= bound, format!("at most {bound}")),
        };
        let met = if met { "met" } else { "missed" };
        let (case, metric) = (figure.case.clone(), figure.metric.clone());
        Some([met.into(), case, metric, format!("{value:.2}"), of, bound])
    }
}
