//! Metrics as Prometheus gets them: rendered, parsed, and held against the statistics.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use cluster_quic::metrics::{Options, Reporter};
use cluster_quic::{
    ClusterTransport, Config, ConfigBuilder, DevCa, Event, InProcessNetwork, LostReason,
    RecordingSink, RemoteTell, gossip_inbox,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use metrics_util::MetricKindMask;

/// Samples by name and labels (sorted), as the text has them.
type Samples = BTreeMap<(String, Vec<(String, String)>), f64>;

/// The text exposition format, as far as it is used here.
struct Text {
    samples: Samples,
    types: BTreeMap<String, String>,
    helped: HashSet<String>,
}

impl Text {
    fn parse(text: &str) -> Self {
        let mut this =
            Self { samples: Samples::new(), types: BTreeMap::new(), helped: HashSet::new() };
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(this.types.insert(name.into(), kind.into()).is_none(), "{name} twice");
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                this.helped.insert(rest.split_once(' ').unwrap().0.into());
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let labels = labels.strip_suffix('}').unwrap();
                let label = |label: &str| {
                    let (name, value) = label.split_once('=').unwrap();
                    (name.to_owned(), value.trim_matches('"').to_owned())
                };
                let labels = labels.split(',').filter(|label| !label.is_empty());
                let mut labels: Vec<_> = labels.map(label).collect();
                labels.sort();
                let new = this.samples.insert((name.into(), labels), value.parse().unwrap());
                assert!(new.is_none(), "{line} twice");
            }
        }
        this
    }

    #[track_caller]
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let key = (format!("cluster_quic_{name}"), labels.collect());
        *self.samples.get(&key).unwrap_or_else(|| panic!("no {key:?}"))
    }

    fn has_label(&self, name: &str, value: &str) -> bool {
        let is = |(n, v): &(String, String)| n == name && v == value;
        self.samples.keys().any(|(_, labels)| labels.iter().any(is))
    }
}

/// A node's reporter with a recorder of its own.
struct Scrape {
    recorder: PrometheusRecorder,
    reporter: Reporter,
}

impl Scrape {
    fn new(node: &ClusterTransport, options: Options) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        Self { recorder, reporter: Reporter::new(node, options) }
    }

    fn text(&mut self) -> Text {
        metrics::with_local_recorder(&self.recorder, || self.reporter.report());
        Text::parse(&self.recorder.handle().render())
    }
}

fn tell(n: u64) -> RemoteTell {
    RemoteTell {
        target_path: format!("/user/target-{}", n % 16),
        manifest: "number".into(),
        payload: n.to_le_bytes().to_vec(),
        sender_path: None,
    }
}

fn start(node: &ClusterTransport) -> tokio::sync::mpsc::Receiver<cluster_quic::Gossip<String>> {
    let (inbox, gossip) = gossip_inbox::<String>(64);
    node.start(inbox, RecordingSink::new()).unwrap();
    gossip
}

async fn limit(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("in time");
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Three nodes over QUIC; the first has sent to both others, and neither has anything under way.
async fn talked() -> [ClusterTransport; 3] {
    let ca = DevCa::new("metrics").unwrap();
    let identity = ca.identity(&["127.0.0.1"]).unwrap();
    let nodes = [(); 3].map(|()| {
        let config = Config::builder("metrics").build().unwrap();
        ClusterTransport::bind(config, &identity).unwrap()
    });
    let [mut g0, mut g1, mut g2] = [0, 1, 2].map(|n| start(&nodes[n]));
    for (to, count) in [(1, 100), (2, 50)] {
        for n in 0..count {
            nodes[0].tell(nodes[to].address(), tell(n)).unwrap();
        }
        nodes[0].send_gossip(nodes[to].address(), "hello").unwrap();
        nodes[0].flush(nodes[to].address()).await.unwrap();
    }
    nodes[1].tell(nodes[0].address(), tell(0)).unwrap();
    nodes[1].send_gossip(nodes[0].address(), "back").unwrap();
    nodes[1].flush(nodes[0].address()).await.unwrap();
    for gossip in [&mut g0, &mut g1, &mut g2] {
        gossip.recv().await.unwrap();
    }
    nodes
}

#[tokio::test]
async fn by_peer_and_lane_everything_is_what_the_statistics_say() {
    limit(async {
        let nodes = talked().await;
        for node in &nodes {
            let mut scrape = Scrape::new(node, Options::new());
            let text = scrape.text();
            let peers = node.peers();
            let connected = peers.len() as f64;
            assert_eq!(text.value("peers", &[("state", "connected")]), connected);
            assert_eq!(text.value("held_bytes", &[]), node.held_bytes() as f64);
            // Issued just now, for 30 days.
            let days = 30.0 * 86_400.0;
            let issued_just_now =
                |left: f64| assert!(left <= days && left > days - 600.0, "{left}");
            issued_just_now(text.value("identity_expires_seconds", &[]));
            for stats in &peers {
                let address = stats.address.to_string();
                let peer = ("peer", address.as_str());
                let is = |name, value: u64| {
                    assert_eq!(text.value(name, &[peer]), value as f64, "{name}");
                };
                is("associations_total", stats.associations);
                is("gossip_accepted_total", stats.gossip.accepted);
                is("gossip_sent_total", stats.gossip.sent);
                is("gossip_dropped_total", stats.gossip.dropped);
                is("gossip_received_total", stats.gossip_received);
                is("gossip_queued", 0);
                is("peer_connected", 1);
                is("peer_quarantined", 0);
                is("peer_unreachable_seconds", 0);
                is("packets_lost_total", stats.lost_packets);
                issued_just_now(text.value("peer_certificate_expires_seconds", &[peer]));
                // Acknowledgements may still go out.
                assert!(text.value("packets_sent_total", &[peer]) > 5.0);
                assert!(text.value("rtt_seconds", &[peer]) > 0.0);
                assert!(text.value("congestion_window_bytes", &[peer]) > 1_000.0);
                assert!(text.value("mtu_bytes", &[peer]) >= 1_200.0);
                for (lane, stats) in &stats.lanes {
                    let name = lane.to_string();
                    let used = stats.accepted_frames > 0;
                    let labels = [("lane", name.as_str()), peer];
                    let accepted = (
                        "cluster_quic_tells_accepted_total".to_owned(),
                        labels.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec(),
                    );
                    assert_eq!(text.samples.contains_key(&accepted), used);
                    if !used {
                        continue;
                    }
                    let is = |name, value: u64| {
                        assert_eq!(text.value(name, &labels), value as f64, "{name}");
                    };
                    is("tells_accepted_total", stats.accepted_frames);
                    is("tells_accepted_bytes_total", stats.accepted_bytes);
                    is("tells_acknowledged_total", stats.acknowledged_frames);
                    is("tells_acknowledged_bytes_total", stats.acknowledged_bytes);
                    is("tells_refused_total", stats.refused_full);
                    is("tells_resent_total", stats.resent_frames);
                    is("tells_queued", stats.queued_frames);
                    is("tells_queued_bytes", stats.queued_bytes);
                    is("tells_in_flight", stats.in_flight_frames);
                    is("tells_in_flight_bytes", stats.in_flight_bytes);
                    is("lane_stuck_total", 0);
                    is("lane_stuck_seconds", 0);
                    let expired = [labels[0], peer, ("reason", "expired")];
                    assert_eq!(text.value("tells_lost_total", &expired), 0.0);
                }
                for (lane, stats) in &stats.received {
                    let name = lane.to_string();
                    let labels = [("lane", name.as_str()), peer];
                    let is = |name, value: u64| {
                        assert_eq!(text.value(name, &labels), value as f64, "{name}");
                    };
                    is("tells_delivered_total", stats.delivered_frames);
                    is("tells_duplicated_total", stats.duplicates);
                    is("frames_refused_total", stats.refused_frames);
                    is("sink_panics_total", stats.sink_panics);
                    is("tells_waiting", stats.waiting_frames);
                    is("tells_waiting_bytes", stats.waiting_bytes);
                }
            }
            // Each has a type and a description, and is a counter if its name says so.
            for (name, _) in text.samples.keys() {
                let counter = if name.ends_with("_total") { "counter" } else { "gauge" };
                assert_eq!(text.types[name], counter, "{name}");
                assert!(text.helped.contains(name), "{name}");
            }
        }
        let sum = nodes[0].peers().iter().map(|peer| peer.tells().acknowledged_frames).sum::<u64>();
        assert_eq!(sum, 150);
    })
    .await;
}

#[tokio::test]
async fn peers_and_lanes_together_are_sums() {
    limit(async {
        let nodes = talked().await;
        let options = Options::new().all_peers_together().label("node", "a");
        let text = Scrape::new(&nodes[0], options).text();
        assert!(!text.samples.keys().any(|(_, labels)| labels.iter().any(|(n, _)| n == "peer")));
        let peers = nodes[0].peers();
        let mut lanes = BTreeMap::new();
        for (lane, stats) in peers.iter().flat_map(|peer| &peer.lanes) {
            *lanes.entry(lane.to_string()).or_insert(0) += stats.acknowledged_frames;
        }
        assert_eq!(lanes.values().sum::<u64>(), 150);
        for (lane, count) in lanes.iter().filter(|(_, count)| **count > 0) {
            let labels = [("lane", lane.as_str()), ("node", "a")];
            assert_eq!(text.value("tells_acknowledged_total", &labels), *count as f64);
        }
        assert_eq!(text.value("associations_total", &[("node", "a")]), 2.0);

        let options = Options::new().all_peers_together().all_lanes_together();
        let text = Scrape::new(&nodes[0], options).text();
        assert_eq!(text.value("tells_acknowledged_total", &[]), 150.0);
        assert_eq!(text.value("tells_delivered_total", &[]), 1.0);
        assert_eq!(text.value("tells_lost_total", &[("reason", "expired")]), 0.0);
        let options = Options::new().all_lanes_together();
        let text = Scrape::new(&nodes[0], options).text();
        let other = nodes[2].address().to_string();
        assert_eq!(text.value("tells_acknowledged_total", &[("peer", &other)]), 50.0);
    })
    .await;
}

fn in_process(
    network: &InProcessNetwork,
    host: &str,
    adapt: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
) -> ClusterTransport {
    let config = adapt(Config::builder("metrics")).build().unwrap();
    ClusterTransport::in_process(config, network, host).unwrap()
}

#[tokio::test(start_paused = true)]
async fn failures_have_reasons_and_a_peer_that_goes_leaves_no_gauge() {
    let network = InProcessNetwork::new();
    let ms = Duration::from_millis;
    // One failed dial each second, and forgotten soon.
    let times = |c: ConfigBuilder| {
        c.retention(ms(5_000)).dial_timeout(ms(500)).backoff_min(ms(500)).backoff_max(ms(500))
    };
    let a = in_process(&network, "a", times);
    let b = in_process(&network, "b", times);
    let _gossip = start(&b);
    let mut scrape = Scrape::new(&a, Options::new());
    let address = b.address().to_string();
    let peer = ("peer", address.as_str());
    let mut events = a.events();
    a.tell(b.address(), tell(0)).unwrap();
    a.flush(b.address()).await.unwrap();
    let lane = a.peer_stats(b.address()).unwrap();
    let lane = lane.lanes.iter().find(|(_, stats)| stats.accepted_frames > 0).unwrap().0;
    let lane = lane.to_string();
    network.cut(a.address(), b.address());
    while !matches!(events.recv().await.unwrap(), Event::PeerDown { .. }) {}
    a.tell(b.address(), tell(0)).unwrap();
    let text = scrape.text();
    assert_eq!(text.value("associations_ended_total", &[peer, ("reason", "timed_out")]), 1.0);
    assert_eq!(text.value("tells_queued", &[("lane", &lane), peer]), 1.0);
    assert_eq!(text.value("peers", &[("state", "connecting")]), 1.0);
    while !matches!(events.recv().await.unwrap(), Event::TellsLost { .. }) {}
    let text = scrape.text();
    let stats = a.peer_stats(b.address()).unwrap();
    let dials = stats.failed_dials["no_answer"];
    assert!(dials >= 4);
    let labels = [peer, ("reason", "no_answer")];
    assert_eq!(text.value("dials_failed_total", &labels), dials as f64);
    assert!(text.value("peer_unreachable_seconds", &[peer]) >= 4.0);
    let lost = [("lane", lane.as_str()), peer, ("reason", "expired")];
    assert_eq!(text.value("tells_lost_total", &lost), 1.0);
    assert_eq!(stats.tells().lost(LostReason::Expired).frames, 1);

    until(|| a.peer_stats(b.address()).is_none()).await;
    let text = scrape.text();
    let gauges = text.samples.iter().filter(|((name, labels), _)| {
        text.types[name] == "gauge" && labels.iter().any(|(_, value)| *value == address)
    });
    let gauges: Vec<_> = gauges.map(|(_, value)| *value).collect();
    assert_eq!(gauges, [0.0; 10], "five of the peer, five of its lane");
    assert_eq!(text.value("tells_lost_total", &lost), 1.0, "counters stay");
    assert_eq!(text.value("peers", &[("state", "idle")]), 0.0);

    // It comes back, with statistics that begin anew, and its counters go on.
    network.heal(a.address(), b.address());
    for _ in 0..3 {
        a.tell(b.address(), tell(0)).unwrap();
    }
    a.flush(b.address()).await.unwrap();
    assert_eq!(a.peer_stats(b.address()).unwrap().tells().accepted_frames, 3);
    let text = scrape.text();
    assert_eq!(text.value("tells_accepted_total", &[("lane", &lane), peer]), 5.0);
    assert_eq!(text.value("tells_lost_total", &lost), 1.0);
    assert_eq!(text.value("associations_total", &[peer]), 2.0);
}

#[tokio::test]
async fn peers_beyond_the_limit_share_a_label() {
    limit(async {
        let nodes = talked().await;
        let mut scrape = Scrape::new(&nodes[0], Options::new().max_peers(1).all_lanes_together());
        let text = scrape.text();
        let named = nodes[1..].iter().filter(|n| text.has_label("peer", &n.address().to_string()));
        let named: Vec<_> = named.collect();
        assert_eq!(named.len(), 1);
        let own = named[0].address().to_string();
        let sum = ["other", &own].map(|peer| text.value("tells_accepted_total", &[("peer", peer)]));
        assert_eq!(sum.iter().sum::<f64>(), 150.0);
    })
    .await;
}

/// With an exporter that drops what is not updated, nothing of such a peer is left.
#[tokio::test]
async fn an_exporter_with_an_idle_timeout_forgets_peers_that_are_gone() {
    limit(async {
        let network = InProcessNetwork::new();
        let ms = Duration::from_millis;
        let a = in_process(&network, "a", |c| c.retention(ms(100)).dial_timeout(ms(50)));
        let [b, c] = ["b", "c"].map(|host| in_process(&network, host, |c| c));
        let (_b, _c) = (start(&b), start(&c));
        for to in [&b, &c] {
            a.tell(to.address(), tell(0)).unwrap();
            a.flush(to.address()).await.unwrap();
        }
        let idle = PrometheusBuilder::new().idle_timeout(MetricKindMask::ALL, Some(ms(200)));
        let mut scrape =
            Scrape { recorder: idle.build_recorder(), reporter: Reporter::new(&a, Options::new()) };
        let [to_b, to_c] = [&b, &c].map(|node| node.address().to_string());
        let text = scrape.text();
        assert!(text.has_label("peer", &to_b) && text.has_label("peer", &to_c));
        network.kill(b.address());
        until(|| a.peer_stats(b.address()).is_none()).await;
        assert!(scrape.text().has_label("peer", &to_b), "once more");
        loop {
            let text = scrape.text();
            assert!(text.has_label("peer", &to_c), "who is there stays");
            if !text.has_label("peer", &to_b) {
                break;
            }
            tokio::time::sleep(ms(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn refused_connections_are_counted_by_reason() {
    limit(async {
        let network = InProcessNetwork::new();
        let a = in_process(&network, "a", |c| c);
        let b = in_process(&network, "b", |c| c.cluster("another"));
        let mut events = a.events();
        // There from the start, or an increase would not be seen that comes before the first scrape.
        let text = Scrape::new(&a, Options::new()).text();
        for reason in ["certificate", "cluster", "stale", "protocol", "no_answer"] {
            assert_eq!(text.value("connections_refused_total", &[("reason", reason)]), 0.0);
        }
        b.tell(a.address(), tell(0)).unwrap();
        while !matches!(events.recv().await.unwrap(), Event::IncomingRefused { .. }) {}
        let of_b = Scrape::new(&b, Options::new()).text();
        let to_a = a.address().to_string();
        for reason in ["certificate", "version", "claim", "outdated"] {
            let labels = [("peer", &*to_a), ("reason", reason)];
            assert_eq!(of_b.value("dials_failed_total", &labels), 0.0);
        }
        let text = Scrape::new(&a, Options::new()).text();
        let refused = text.value("connections_refused_total", &[("reason", "cluster")]);
        assert_eq!(refused, a.refused_connections() as f64);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reporter_ends_with_its_node() {
    let network = InProcessNetwork::new();
    let a = in_process(&network, "a", |c| c);
    let b = in_process(&network, "b", |c| c);
    let _gossip = start(&b);
    a.tell(b.address(), tell(0)).unwrap();
    a.flush(b.address()).await.unwrap();
    let mut scrape = Scrape::new(&a, Options::new());
    assert_eq!(scrape.text().value("peers", &[("state", "connected")]), 1.0);
    let publishing =
        tokio::spawn(Reporter::new(&a, Options::new()).publish_every(Duration::from_secs(5)));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!publishing.is_finished());
    drop(a);
    publishing.await.unwrap();
    let text = scrape.text();
    assert_eq!(text.value("peers", &[("state", "connected")]), 0.0);
    let peer = ("peer", &*b.address().to_string());
    assert_eq!(text.value("peer_connected", &[peer]), 0.0);
    let gone = metrics::with_local_recorder(&scrape.recorder, || scrape.reporter.report());
    assert!(!gone);
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_so_for_ever_longer() {
    let identity = DevCa::new("metrics").unwrap().identity(&["127.0.0.1"]).unwrap();
    let day = Duration::from_secs(86_400);
    let end = identity.not_after();
    let config = Config::builder("metrics").wall_clock(move || end + 2 * day).build().unwrap();
    let node = ClusterTransport::bind(config, &identity).unwrap();
    let text = Scrape::new(&node, Options::new()).text();
    assert_eq!(text.value("identity_expires_seconds", &[]), -2.0 * 86_400.0);
}
