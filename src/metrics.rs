//! The statistics as counters and gauges of the [`metrics`](https://docs.rs/metrics) facade, for Prometheus
//! or whatever else has an exporter for it (feature `metrics`).
//!
//! Nothing here is in a tell's way: a [`Reporter`] reads the statistics when it is told to, most often when
//! somebody scrapes, or every few seconds.
//!
//! ```no_run
//! # async fn example(node: cluster_quic::ClusterTransport) {
//! use std::time::Duration;
//! use cluster_quic::metrics::{Options, Reporter};
//!
//! // Install the exporter first. Then either, on each scrape: `reporter.report()`; or:
//! let reporter = Reporter::new(&node, Options::new());
//! tokio::spawn(reporter.publish_every(Duration::from_secs(5)));
//! # }
//! ```
//!
//! `docs/observability.md`, in the package and the repository, has the table of all metrics. Labels are `peer` (the address), `lane` (as lanes
//! are displayed: `tell 3`), and `reason` or `state` (one of a few fixed words). What a stranger sends is
//! never a label's value. A member can claim many addresses in turn, so the number of `peer` labels is
//! [limited](Options::max_peers).
//!
//! **Peers that go away** (the node forgets one that was not needed for `retention`): their gauges are set to 0
//! and their counters shown a last time by the first report without them. Then they are not touched again, so
//! that an exporter that drops what is not updated (`PrometheusBuilder::idle_timeout`) forgets them; one that
//! does not goes on showing those figures. If such a peer comes back, its counters go on.

mod samples;
mod table;
mod totals;

use std::time::Duration;

use ::metrics::{Key, Label, Level, Metadata, with_recorder};

use crate::transport::{ClusterTransport, WeakTransport};
use samples::Series;
use table::Kind;
use totals::{Seen, Shown, Totals, Whose};

static METADATA: Metadata<'static> =
    Metadata::new("cluster_quic", Level::INFO, Some(module_path!()));

/// What a [`Reporter`] tells apart.
#[derive(Debug, Clone)]
pub struct Options {
    peers: Option<usize>,
    by_lane: bool,
    labels: Vec<Label>,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// By peer, 256 of them at most, and by lane.
    pub fn new() -> Self {
        Self { peers: Some(256), by_lane: true, labels: Vec::new() }
    }

    /// All peers together, without a `peer` label. Counters and amounts are sums; of round-trip times, times
    /// of being unreachable and times of being stuck it is the longest, of MTUs the smallest.
    #[must_use]
    pub fn all_peers_together(mut self) -> Self {
        self.peers = None;
        self
    }

    /// All lanes of a peer together, without a `lane` label: an eighth of the series, by default.
    #[must_use]
    pub fn all_lanes_together(mut self) -> Self {
        self.by_lane = false;
        self
    }

    /// How many peers get a label of their own; all further ones together are `other`. Default 256. This is
    /// over the reporter's whole life, since whoever collects metrics keeps each label for long: raise it
    /// where peers come and go under new addresses.
    #[must_use]
    pub fn max_peers(mut self, peers: usize) -> Self {
        self.peers = Some(peers);
        self
    }

    /// One more label on everything: where several nodes are in one process, each needs one.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push(Label::new(name.into(), value.into()));
        self
    }
}

/// Reports one node's statistics. One per node: two would count twice.
///
/// It does not keep the node alive.
#[derive(Debug)]
pub struct Reporter {
    node: WeakTransport,
    by_lane: bool,
    labels: Vec<Label>,
    totals: Totals,
    described: bool,
}

impl Reporter {
    /// A reporter that has not reported yet.
    pub fn new(node: &ClusterTransport, options: Options) -> Self {
        let Options { peers, by_lane, labels } = options;
        let totals = Totals::new(peers);
        Self { node: node.downgrade(), by_lane, labels, totals, described: false }
    }

    /// Reports how things stand to the recorder that is installed (its names, units and descriptions with
    /// the first report). Returns `false` when the node is gone: this was the last report then, and has set
    /// all gauges to 0.
    ///
    /// Takes each peer's lanes' locks for a moment, one after the other, as [`peers`](ClusterTransport::peers) does.
    pub fn report(&mut self) -> bool {
        if !std::mem::replace(&mut self.described, true) {
            describe();
        }
        let node = self.node.upgrade();
        let (seen, own) = node.as_ref().map(|node| self.read(node)).unwrap_or_default();
        let shown = self.totals.update(seen, own);
        self.record(shown);
        node.is_some()
    }

    /// Reports at once and then every `period` until the node is gone. Cancel-safe: a dropped call reports
    /// no more.
    pub async fn publish_every(mut self, period: Duration) {
        // An interval of nothing panics.
        let mut ticks = tokio::time::interval(period.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // Milliseconds for each few dozen peers with their lanes: for no worker.
            let reported = tokio::task::spawn_blocking(move || (self.report(), self)).await;
            match reported {
                Ok((true, reporter)) => self = reporter,
                // The node is gone, or the runtime; a recorder that panicked has said so.
                Ok((false, _)) | Err(_) => return,
            }
        }
    }

    fn read(&self, node: &ClusterTransport) -> (Vec<Seen>, samples::Samples) {
        let peers = node.peers();
        let refused = node.refused_connections_by_kind();
        let now = node.node().config.wall_clock.now();
        let (held, expires) = (node.held_bytes(), node.identity_expires());
        let own = samples::of_node(&peers, &refused, held, expires, now);
        let seen = peers.into_iter().map(|stats| Seen {
            samples: samples::of_peer(&stats, self.by_lane, now),
            session: stats.session,
            address: stats.address,
        });
        (seen.collect(), own)
    }

    fn record(&self, shown: Shown) {
        let Shown { counters, gauges } = shown;
        with_recorder(|recorder| {
            for ((whose, series), value) in counters {
                recorder.register_counter(&self.key(&whose, &series), &METADATA).absolute(value);
            }
            for ((whose, series), value) in gauges {
                recorder.register_gauge(&self.key(&whose, &series), &METADATA).set(value);
            }
        });
    }

    fn key(&self, whose: &Whose, series: &Series) -> Key {
        let mut labels = self.labels.clone();
        match whose {
            Whose::All => {}
            Whose::Peer(address) => labels.push(Label::new("peer", address.clone())),
            Whose::Other => labels.push(Label::from_static_parts("peer", "other")),
        }
        if let Some(lane) = series.lane {
            labels.push(Label::new("lane", lane.to_string()));
        }
        if let (Some(name), Some(word)) = (series.metric.labels.word(), series.word) {
            labels.push(Label::from_static_parts(name, word));
        }
        Key::from_parts(series.metric.name, labels)
    }
}

fn describe() {
    with_recorder(|recorder| {
        for metric in table::ALL {
            let (name, unit) = (metric.name.into(), Some(metric.unit));
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, unit, metric.help.into()),
                _ => recorder.describe_gauge(name, unit, metric.help.into()),
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::metrics::Unit;
    use table::Labels;

    /// The documentation's row for a metric.
    fn row(metric: &table::Metric) -> String {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Largest => "gauge, largest",
            Kind::Smallest => "gauge, smallest",
        };
        let unit = match metric.unit {
            Unit::Bytes => "bytes",
            Unit::Seconds => "seconds",
            _ => "",
        };
        let labels = match metric.labels {
            Labels::Node => String::new(),
            Labels::NodeBy(word) => word.into(),
            Labels::Peer => "peer".into(),
            Labels::PeerBy(word) => format!("peer, {word}"),
            Labels::Lane => "peer, lane".into(),
            Labels::LaneBy(word) => format!("peer, lane, {word}"),
        };
        format!("| `{}` | {kind} | {unit} | {labels} | {} |", metric.name, metric.help)
    }

    #[test]
    fn the_documentation_has_the_same_table() {
        let text = include_str!("../docs/observability.md");
        // Rows of five cells; alarms have three.
        let is_row =
            |line: &&str| line.starts_with("| `cluster_quic_") && line.matches('|').count() == 6;
        let theirs: Vec<_> = text.lines().filter(is_row).collect();
        let ours: Vec<_> = table::ALL.iter().map(|metric| row(metric)).collect();
        assert_eq!(theirs, ours, "the table should be\n{}", ours.join("\n"));
    }

    #[test]
    fn names_follow_prometheus_conventions() {
        for metric in table::ALL {
            let name = metric.name;
            let counter = metric.kind == Kind::Counter;
            assert_eq!(name.ends_with("_total"), counter, "{name}");
            let base = name.trim_end_matches("_total");
            assert_eq!(base.ends_with("_bytes"), metric.unit == Unit::Bytes, "{name}");
            assert_eq!(base.ends_with("_seconds"), metric.unit == Unit::Seconds, "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        }
        let mut names: Vec<_> = table::ALL.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), table::ALL.len());
    }
}
