//! Spans as OpenTelemetry exports them, with the subscriber that `docs/observability.md` shows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cluster_quic::{
    Address, ClusterTransport, Config, DevCa, Event, InProcessNetwork, RemoteMessageSink,
    RemoteTell, RemoteTellRef, gossip_inbox,
};
use opentelemetry::trace::{SpanId, Status, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// What the guide shows; the tests below run with it, and one holds the guide to it.
fn export_spans(provider: &SdkTracerProvider) {
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("my-node"))
        // A task has neither a thread nor times of being busy that are worth a clock's reading at each poll.
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_location(false);
    let what = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("cluster_quic", LevelFilter::DEBUG);
    tracing_subscriber::registry().with(spans.with_filter(what)).init();
}

/// The process's: sinks run on threads that no test can reach otherwise.
fn exported() -> &'static InMemorySpanExporter {
    static EXPORTER: OnceLock<InMemorySpanExporter> = OnceLock::new();
    EXPORTER.get_or_init(|| {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        export_spans(&provider);
        // Which would end with its last handle.
        std::mem::forget(provider);
        exporter
    })
}

/// A span's own attributes: without the module that it was made in.
fn attributes(span: &SpanData) -> BTreeMap<String, String> {
    let all = span.attributes.iter().map(|a| (a.key.to_string(), a.value.to_string()));
    all.filter(|(key, _)| key != "target").collect()
}

/// The trace of one node's dealings with `peer`, once its root has been exported.
struct Trace {
    root: SpanData,
    spans: Vec<SpanData>,
}

impl Trace {
    async fn of(peer: &Address) -> Self {
        let peer = peer.to_string();
        let found = async {
            loop {
                let spans = exported().get_finished_spans().unwrap();
                let root = |span: &&SpanData| {
                    span.name == "peer" && attributes(span).get("peer") == Some(&peer)
                };
                if let Some(root) = spans.iter().find(root).cloned() {
                    let id = root.span_context.trace_id();
                    let of_it = |span: &SpanData| span.span_context.trace_id() == id;
                    let spans = spans.into_iter().filter(of_it).collect();
                    return Self { root, spans };
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, found).await.expect("the root of the trace is exported")
    }

    fn named(&self, name: &str) -> Vec<&SpanData> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    fn association(&self) -> &SpanData {
        let [association] = self.named("association")[..] else { panic!("not one association") };
        association
    }

    fn get(&self, id: SpanId) -> &SpanData {
        self.spans.iter().find(|span| span.span_context.span_id() == id).expect("in the trace")
    }

    /// peer → association → lane, peer → dial.
    fn assert_parents(&self) {
        assert_eq!(self.root.parent_span_id, SpanId::INVALID);
        for (child, parent) in [("association", "peer"), ("dial", "peer"), ("lane", "association")]
        {
            for span in self.named(child) {
                assert_eq!(self.get(span.parent_span_id).name, parent, "of {span:?}");
            }
        }
    }

    /// Lane and direction of each.
    fn lanes(&self) -> BTreeSet<String> {
        let lanes = self.named("lane").into_iter().map(|span| {
            let attributes = attributes(span);
            format!("{} {}", attributes["direction"], attributes["lane"])
        });
        lanes.collect()
    }
}

/// What the guide's tree says that each span has: names of attributes by the span's name.
fn guide() -> (String, BTreeMap<String, BTreeSet<String>>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/observability.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, section) = page.split_once("\n## Spans and lines\n").expect("the section");
    let (_, tree) = section.split_once("```text\n").expect("the tree");
    let (tree, _) = tree.split_once("```").unwrap();
    let span = |line: &str| {
        let (before, rest) = line.split_once('{')?;
        let (fields, _) = rest.split_once('}')?;
        let name = before.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
        // A value may have a space: `tell 3`.
        let keys = fields.split(' ').filter_map(|field| Some(field.split_once('=')?.0.to_owned()));
        Some((name.to_owned(), keys.collect()))
    };
    let spans = tree.lines().filter_map(span).collect();
    (page, spans)
}

#[test]
fn the_guide_shows_the_subscriber_that_these_tests_run_with() {
    let (page, spans) = guide();
    let own = include_str!("otel.rs");
    let (_, shown) = own.split_once("\nfn export_spans(").unwrap();
    let (shown, _) = shown.split_once("\n}\n").unwrap();
    assert!(page.contains(&format!("\nfn export_spans({shown}\n}}\n")));
    let names: Vec<_> = spans.keys().map(|name| &**name).collect();
    assert_eq!(names, ["association", "dial", "lane", "peer"]);
}

/// Makes a span for each tell.
struct Handler;

impl RemoteMessageSink for Handler {
    fn deliver(&self, _: &Address, tell: RemoteTellRef<'_>) {
        tracing::info_span!("handle", target_path = tell.target_path).in_scope(|| {});
    }
}

fn tell(n: u64) -> RemoteTell {
    RemoteTell {
        target_path: format!("/user/target-{n}"),
        manifest: "number".into(),
        payload: n.to_le_bytes().to_vec(),
        sender_path: None,
    }
}

#[tokio::test]
async fn a_peer_is_a_trace_of_associations_and_lanes() {
    exported();
    let identity = DevCa::new("otel").unwrap().identity(&["127.0.0.1"]).unwrap();
    let node = || {
        let config = Config::builder("otel").tell_lanes(2).build().unwrap();
        ClusterTransport::bind(config, &identity).unwrap()
    };
    let (a, b) = (node(), node());
    let (inbox, mut gossip) = gossip_inbox::<String>(4);
    b.start(inbox, Arc::new(Handler)).unwrap();
    a.start(gossip_inbox::<String>(4).0, Arc::new(Handler)).unwrap();
    let peer = a.peer(b.address()).unwrap();
    for n in 0..16 {
        peer.tell(tell(n)).unwrap();
    }
    peer.send_gossip("hello").unwrap();
    peer.flush().await.unwrap();
    gossip.recv().await.unwrap();
    assert!(a.shutdown(Duration::from_secs(30)).await.is_clean());
    b.shutdown(Duration::from_secs(30)).await;

    let (at_a, at_b) = (Trace::of(b.address()).await, Trace::of(a.address()).await);
    let all = ["control", "gossip", "tell 0", "tell 1"];
    let lanes = |with_all: &str, with_control: &str| {
        let all = all.iter().map(|lane| format!("{with_all} {lane}"));
        all.chain([format!("{with_control} control")]).collect::<BTreeSet<_>>()
    };
    assert_eq!(at_a.lanes(), lanes("send", "receive"));
    assert_eq!(at_b.lanes(), lanes("receive", "send"));
    assert!(!at_a.named("dial").is_empty());
    let (_, named) = guide();
    for (trace, other, dialled) in [(&at_a, &b, "true"), (&at_b, &a, "false")] {
        trace.assert_parents();
        let association = attributes(trace.association());
        assert_eq!(association["incarnation"], other.incarnation().to_string());
        assert_eq!(association["dialled"], dialled);
        assert!(association["remote"].contains("127.0.0.1"));
        // Those and no others; an orderly end is no failure.
        for span in &trace.spans {
            if let Some(named) = named.get(&*span.name) {
                let keys: BTreeSet<_> = attributes(span).into_keys().collect();
                assert_eq!(&keys, named, "{span:?}");
            }
            assert_eq!(span.status, Status::Unset, "{span:?}");
            assert!(trace.root.start_time <= span.start_time);
        }
    }
    // What the sink makes belongs to its lane, though made on another thread.
    let handled = at_b.named("handle");
    assert_eq!(handled.len(), 16);
    for span in handled {
        let lane = at_b.get(span.parent_span_id);
        assert_eq!(lane.name, "lane");
        assert!(attributes(lane)["lane"].starts_with("tell "), "{lane:?}");
    }
    // Lines are events of their span, with their fields.
    let up = at_a.spans.iter().flat_map(|span| span.events.iter());
    assert_eq!(up.filter(|event| event.name == "peer up").count(), 1);
}

#[tokio::test]
async fn a_broken_association_has_the_status_error_and_a_type() {
    exported();
    let network = InProcessNetwork::new();
    let node = |host| {
        let config = Config::builder("otel-broken").build().unwrap();
        ClusterTransport::in_process(config, &network, host).unwrap()
    };
    let (a, b) = (node("otel-a"), node("otel-b"));
    b.start(gossip_inbox::<String>(4).0, Arc::new(Handler)).unwrap();
    let mut events = a.events();
    a.tell(b.address(), tell(0)).unwrap();
    a.flush(b.address()).await.unwrap();
    network.cut(a.address(), b.address());
    while !matches!(events.recv().await.unwrap(), Event::PeerDown { .. }) {}
    a.shutdown(Duration::ZERO).await;

    let trace = Trace::of(b.address()).await;
    trace.assert_parents();
    let association = trace.association();
    assert!(matches!(association.status, Status::Error { .. }), "{association:?}");
    assert_eq!(attributes(association)["error.type"], "timed_out");
    // Its lanes end with it, and have not failed themselves.
    assert!(trace.named("lane").len() >= 3);
    for lane in trace.named("lane") {
        assert_eq!(lane.status, Status::Unset, "{lane:?}");
        assert!(!attributes(lane).contains_key("error.type"));
    }
}
