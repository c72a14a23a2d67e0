//! Spans as a subscriber sees them: peer → association → lane, one per task and none per tell.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use cluster_quic::{
    Address, ClusterTransport, Config, DevCa, Event, InProcessNetwork, KeyLog, RemoteMessageSink,
    RemoteTell, RemoteTellRef, gossip_inbox,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

#[derive(Debug, Clone, Default)]
struct Span {
    name: &'static str,
    fields: HashMap<String, String>,
    parent: Option<u64>,
    closed: bool,
}

#[derive(Debug, Clone)]
struct Line {
    fields: HashMap<String, String>,
    span: Option<u64>,
}

#[derive(Default)]
struct Recorded {
    spans: HashMap<u64, Span>,
    lines: Vec<Line>,
}

/// Records this crate's spans and events, under numbers that are never used again.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Recorded>>);

/// The number of a span, as an extension of it.
struct Number(u64);

struct Fields<'a>(&'a mut HashMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().into(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let span = ctx.span(id).unwrap();
        let mut fields = HashMap::new();
        attributes.record(&mut Fields(&mut fields));
        let parent = span.parent().map(|parent| parent.extensions().get::<Number>().unwrap().0);
        let mut recorded = self.0.lock().unwrap();
        let number = recorded.spans.len() as u64;
        span.extensions_mut().insert(Number(number));
        let name = attributes.metadata().name();
        recorded.spans.insert(number, Span { name, fields, parent, closed: false });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        let number = ctx.span(id).unwrap().extensions().get::<Number>().unwrap().0;
        let mut recorded = self.0.lock().unwrap();
        values.record(&mut Fields(&mut recorded.spans.get_mut(&number).unwrap().fields));
    }

    fn on_event(&self, event: &tracing::Event<'_>, ctx: Context<'_, S>) {
        let mut fields = HashMap::new();
        event.record(&mut Fields(&mut fields));
        let span = ctx.event_span(event);
        let span = span.map(|span| span.extensions().get::<Number>().unwrap().0);
        self.0.lock().unwrap().lines.push(Line { fields, span });
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        let number = ctx.span(&id).unwrap().extensions().get::<Number>().unwrap().0;
        self.0.lock().unwrap().spans.get_mut(&number).unwrap().closed = true;
    }
}

impl Recorder {
    /// The process's. Sinks run on threads that no test can reach otherwise.
    fn global() -> &'static Self {
        static RECORDER: OnceLock<Recorder> = OnceLock::new();
        RECORDER.get_or_init(|| {
            let recorder = Self::default();
            let filter = tracing_subscriber::filter::filter_fn(|metadata| {
                let target = metadata.target();
                target.starts_with("cluster_quic") || target.starts_with("spans")
            });
            let layer = recorder.clone().with_filter(filter);
            let subscriber = tracing_subscriber::registry().with(layer);
            tracing::subscriber::set_global_default(subscriber).unwrap();
            recorder
        })
    }

    /// Spans of nodes' dealings with `peer`: the peer's own, and all below it.
    fn of(&self, peer: &Address) -> Vec<Span> {
        let recorded = self.0.lock().unwrap();
        let root =
            |span: &Span| span.name == "peer" && span.fields.get("peer") == Some(&peer.to_string());
        let belongs = |span: &&Span| {
            let mut span = *span;
            while let Some(parent) = span.parent {
                span = &recorded.spans[&parent];
            }
            root(span)
        };
        recorded.spans.values().filter(belongs).cloned().collect()
    }

    fn get(&self, number: u64) -> Span {
        self.0.lock().unwrap().spans[&number].clone()
    }

    fn lines(&self, message: &str) -> Vec<Line> {
        let recorded = self.0.lock().unwrap();
        let says = |line: &&Line| line.fields.get("message").is_some_and(|said| said == message);
        recorded.lines.iter().filter(says).cloned().collect()
    }

    /// Names of the spans from the root to `number`.
    fn path(&self, number: u64) -> Vec<&'static str> {
        let mut path = Vec::new();
        let mut next = Some(number);
        while let Some(number) = next {
            let span = self.get(number);
            path.insert(0, span.name);
            next = span.parent;
        }
        path
    }
}

/// Says something for each tell.
struct Talkative;

impl RemoteMessageSink for Talkative {
    fn deliver(&self, from: &Address, _: RemoteTellRef<'_>) {
        tracing::info!(%from, "handled");
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

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what}"));
}

fn lanes(spans: &[Span], direction: &str) -> Vec<String> {
    let lane = |span: &&Span| {
        span.name == "lane" && span.fields.get("direction").is_some_and(|d| d == direction)
    };
    let mut lanes: Vec<_> =
        spans.iter().filter(lane).map(|span| span.fields["lane"].clone()).collect();
    lanes.sort();
    lanes
}

#[tokio::test]
async fn every_task_is_in_a_span_of_its_peer_incarnation_and_lane() {
    let recorder = Recorder::global();
    let ca = DevCa::new("spans").unwrap();
    let identity = ca.identity(&["127.0.0.1"]).unwrap();
    let node = || {
        let config = Config::builder("tasks").tell_lanes(2).build().unwrap();
        ClusterTransport::bind(config, &identity).unwrap()
    };
    let (a, b) = (node(), node());
    let (inbox, mut gossip) = gossip_inbox::<String>(4);
    b.start(inbox, Arc::new(Talkative)).unwrap();
    a.start(gossip_inbox::<String>(4).0, Arc::new(Talkative)).unwrap();
    let peer = a.peer(b.address()).unwrap();
    for n in 0..16 {
        peer.tell(tell(n)).unwrap();
    }
    peer.send_gossip("hello").unwrap();
    peer.flush().await.unwrap();
    gossip.recv().await.unwrap();

    let (at_a, at_b) = (recorder.of(b.address()), recorder.of(a.address()));
    assert_eq!(lanes(&at_a, "send"), ["control", "gossip", "tell 0", "tell 1"]);
    assert_eq!(lanes(&at_a, "receive"), ["control"]);
    assert_eq!(lanes(&at_b, "receive"), ["control", "gossip", "tell 0", "tell 1"]);
    assert_eq!(lanes(&at_b, "send"), ["control"]);
    for (spans, other, dialled) in [(&at_a, &b, "true"), (&at_b, &a, "false")] {
        let association = spans.iter().find(|span| span.name == "association").unwrap();
        let incarnation = other.incarnation().to_string();
        assert_eq!(association.fields["incarnation"], incarnation);
        assert_eq!(association.fields["dialled"], dialled);
        assert!(association.fields["remote"].contains("127.0.0.1"));
        assert_eq!(recorder.get(association.parent.unwrap()).name, "peer");
        for lane in spans.iter().filter(|span| span.name == "lane") {
            assert_eq!(recorder.get(lane.parent.unwrap()).name, "association");
        }
    }

    // What the sink says is said of the lane, though on another thread.
    let said = recorder.lines("handled");
    let said: Vec<_> =
        said.iter().filter(|line| line.fields["from"] == a.address().to_string()).collect();
    assert_eq!(said.len(), 16);
    for line in said {
        let span = line.span.expect("a line within a span");
        assert_eq!(recorder.path(span), ["peer", "association", "lane"]);
        assert!(recorder.get(span).fields["lane"].starts_with("tell "));
    }

    // An orderly end is no error, and leaves nothing open.
    assert!(a.shutdown(Duration::from_secs(10)).await.is_clean());
    b.shutdown(Duration::from_secs(10)).await;
    let both = || [recorder.of(a.address()), recorder.of(b.address())].concat();
    until("all spans end", || both().iter().all(|span| span.closed)).await;
    for span in both() {
        assert!(!span.fields.contains_key("otel.status_code"), "{span:?}");
    }
}

#[tokio::test]
async fn no_span_is_made_for_a_tell() {
    let recorder = Recorder::global();
    let network = InProcessNetwork::new();
    let node = |host| {
        let config = Config::builder("many").build().unwrap();
        ClusterTransport::in_process(config, &network, host).unwrap()
    };
    let (a, b) = (node("many-a"), node("many-b"));
    b.start(gossip_inbox::<String>(4).0, Arc::new(Talkative)).unwrap();
    let peer = a.peer(b.address()).unwrap();
    let spans = || recorder.of(a.address()).len() + recorder.of(b.address()).len();
    let send = async |count: u64| {
        for n in 0..count {
            peer.tell_when_ready(tell(n)).await.unwrap();
            if n % 16 == 0 {
                peer.flush().await.unwrap();
            }
        }
        peer.flush().await.unwrap();
    };
    // Enough targets for every lane.
    send(64).await;
    let before = spans();
    assert!(before >= 20, "{before} spans");
    send(2_000).await;
    assert_eq!(spans(), before);
}

#[tokio::test]
async fn a_failure_is_an_error_of_its_association_with_a_kind() {
    let recorder = Recorder::global();
    let network = InProcessNetwork::new();
    let node = |host| {
        let config = Config::builder("failure").build().unwrap();
        ClusterTransport::in_process(config, &network, host).unwrap()
    };
    let (a, b) = (node("failure-a"), node("failure-b"));
    b.start(gossip_inbox::<String>(4).0, Arc::new(Talkative)).unwrap();
    let mut events = a.events();
    a.tell(b.address(), tell(0)).unwrap();
    a.flush(b.address()).await.unwrap();
    network.cut(a.address(), b.address());
    while !matches!(events.recv().await.unwrap(), Event::PeerDown { .. }) {}
    let failed = |name: &'static str| {
        let failed = |span: &Span| {
            span.fields.get("error.type").is_some_and(|kind| kind == "timed_out")
                && span.fields.get("otel.status_code").is_some_and(|code| code == "ERROR")
        };
        recorder.of(b.address()).iter().any(|span| span.name == name && failed(span))
    };
    until("the association's span has failed", || failed("association")).await;
    // A line with the reason as a field, in a span that names the peer.
    let line = recorder.lines("peer down").into_iter().find(|line| {
        let span = line.span.map(|span| recorder.get(span));
        span.is_some_and(|span| span.fields.get("peer") == Some(&b.address().to_string()))
    });
    let line = line.expect("a line about it");
    assert_eq!(line.fields["reason"], "nothing heard from the peer for the idle timeout");
    let stats = a.peer_stats(b.address()).unwrap();
    assert_eq!(stats.ended.get("timed_out"), Some(&1));
}

#[tokio::test]
async fn a_key_log_is_said_once_and_aloud() {
    let recorder = Recorder::global();
    let said = || {
        let said = |line: &&Line| line.fields.get("message").is_some_and(|m| m.contains("key log"));
        recorder.0.lock().unwrap().lines.iter().filter(said).count()
    };
    let ca = DevCa::new("said").unwrap();
    let identity = ca.identity(&["127.0.0.1"]).unwrap();
    let config = || Config::builder("said");
    let silent = ClusterTransport::bind(config().build().unwrap(), &identity).unwrap();
    assert_eq!(said(), 0);
    let config = config().key_log(KeyLog::new(|_| {})).build().unwrap();
    let node = ClusterTransport::bind(config, &identity).unwrap();
    node.renew(&ca.identity(&["127.0.0.1"]).unwrap()).unwrap();
    silent.start(gossip_inbox::<String>(1).0, Arc::new(Talkative)).unwrap();
    node.tell(silent.address(), tell(0)).unwrap();
    node.flush(silent.address()).await.unwrap();
    assert_eq!(said(), 1);
}
