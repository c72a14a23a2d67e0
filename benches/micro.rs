//! The steps of a tell's way, and the decoding of gossip, each alone and without a network.
//!
//! ```text
//! cargo bench --bench micro                 all, about a minute
//! cargo bench --bench micro -- queue        those whose name contains it
//! cargo bench --bench micro --features metrics -- report
//! ```

use std::collections::BTreeMap;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cluster_quic::bench_support::{Cutter, Peer, Queue, encode, lane_of};
use cluster_quic::{ClusterFrame, RemoteTellRef};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::Instrument;

/// Payloads, as `benches/throughput` has them.
const PAYLOADS: [(&str, usize); 3] = [("64B", 64), ("1KiB", 1024), ("64KiB", 64 * 1024)];

/// A packet's part of a stream at the default packet size.
const PACKET: usize = 6450;

/// Packets that are read at a time.
const BATCH: usize = 32;

fn tell(payload: &[u8]) -> RemoteTellRef<'_> {
    RemoteTellRef { target_path: "/user/target-00", manifest: "bench", payload, sender_path: None }
}

fn frames(c: &mut Criterion) {
    for (name, len) in PAYLOADS {
        let payload = vec![0x5a; len];
        let tell = tell(&payload);
        let mut group = c.benchmark_group("encode");
        group.throughput(Throughput::Elements(1));
        let mut buf = BytesMut::with_capacity(len + 64);
        group.bench_function(name, |b| {
            b.iter(|| {
                buf.clear();
                encode(black_box(&tell), &mut buf);
                buf.len()
            });
        });
        group.finish();

        // A batch of packets that begins and ends with a frame, as chunks.
        let mut stream = BytesMut::new();
        let mut tells = 0;
        while stream.len() < BATCH * PACKET {
            encode(&tell, &mut stream);
            tells += 1;
        }
        let mut stream = stream.freeze();
        let mut packets = Vec::new();
        while !stream.is_empty() {
            packets.push(stream.split_to(PACKET.min(stream.len())));
        }
        let mut group = c.benchmark_group("cut and decode");
        group.throughput(Throughput::Elements(tells));
        let mut cutter = Cutter::default();
        let mut chunks: Vec<Bytes> = Vec::new();
        group.bench_function(name, |b| {
            b.iter(|| {
                chunks.extend_from_slice(&packets);
                let (taken, bytes) = cutter.take(black_box(&mut chunks));
                assert_eq!(taken, tells);
                bytes
            });
        });
        group.finish();
    }
}

/// Gossip as a membership protocol has it: who is in the cluster, and the version of that knowledge.
#[derive(Serialize, Deserialize)]
struct Members {
    from: String,
    version: BTreeMap<String, u64>,
    members: Vec<Member>,
}

#[derive(Serialize, Deserialize)]
struct Member {
    system: String,
    host: Option<String>,
    port: Option<u16>,
    status: Status,
    up_number: i32,
    roles: Vec<String>,
}

#[derive(Serialize, Deserialize)]
enum Status {
    Joining,
    Up,
    Leaving { since: u64 },
}

fn members(count: usize) -> Members {
    let host = |i: usize| format!("node-{i}.cluster.example");
    let member = |i: usize| Member {
        system: "system".into(),
        host: Some(host(i)),
        port: Some(4400),
        status: match i % 8 {
            0 => Status::Joining,
            1 => Status::Leaving { since: 1_700_000_000 },
            _ => Status::Up,
        },
        up_number: i as i32,
        roles: vec!["backend".into()],
    };
    Members {
        from: host(0),
        version: (0..count).map(|i| (host(i), 1000 + i as u64)).collect(),
        members: (0..count).map(member).collect(),
    }
}

fn gossip(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode gossip");
    let mut decode = |name: &str, frame: Bytes, decode: fn(&[u8])| {
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(name, |b| b.iter(|| decode(black_box(&frame))));
    };
    fn any<G: DeserializeOwned>(frame: &[u8]) {
        let _ = black_box(ClusterFrame::<G>::decode(frame).expect("a frame"));
    }
    for count in [8, 256] {
        let frame = ClusterFrame::Gossip(members(count)).encode().expect("a frame");
        decode(&format!("{count} members"), frame, any::<Members>);
    }
    // The most that a guard per element can cost: elements that are themselves next to nothing.
    let frame = ClusterFrame::Gossip((0..4096_u64).collect::<Vec<_>>()).encode().expect("a frame");
    decode("4096 numbers", frame, any::<Vec<u64>>);
    let byte = ClusterFrame::Gossip(vec![0_u8; 4096]).encode().expect("a frame");
    decode("4096 bytes, each an element", byte, any::<Vec<u8>>);
}

fn queue(c: &mut Criterion) {
    for (name, len) in PAYLOADS {
        let payload = vec![0x5a; len];
        let tell = tell(&payload);
        // As much as is acknowledged at a time.
        let tells = (256 * 1024 / len) as u64;
        let mut group = c.benchmark_group("queue: push, take, acknowledge");
        group.throughput(Throughput::Elements(tells));
        group.bench_function(name, |b| {
            let queue = Queue::default();
            b.iter(|| {
                for _ in 0..tells {
                    assert!(queue.push(black_box(&tell)));
                }
                let taken = queue.take();
                assert!(queue.acknowledge());
                taken
            });
        });
        group.finish();
    }
}

fn lane(c: &mut Criterion) {
    for path in [
        "/user/a",
        "/user/target-00",
        "akka.quic://system@host:4400/user/orders/shard-17/order-4711",
    ] {
        c.bench_function(&format!("lane of {} bytes", path.len()), |b| {
            b.iter(|| lane_of(black_box(path), 4));
        });
    }
}

fn association(c: &mut Criterion) {
    let mut group = c.benchmark_group("association");
    group.throughput(Throughput::Elements(Peer::STEPS));
    let mut peer = Peer::default();
    group.bench_function("dial, greet, lose, wait", |b| b.iter(|| peer.life()));
    group.finish();
}

/// What the span around each of a lane's tasks costs, per poll: one poll moves many tells.
fn spans(c: &mut Criterion) {
    let mut group = c.benchmark_group("a task's poll");
    let mut bench = |name: &str, mut task: Pin<Box<dyn Future<Output = ()>>>| {
        let mut context = Context::from_waker(Waker::noop());
        group.bench_function(name, |b| b.iter(|| black_box(task.as_mut().poll(&mut context))));
    };
    let span = || tracing::error_span!("lane", lane = "tell 3", direction = "send");
    bench("without a span", Box::pin(std::future::pending()));
    bench("in a span, no subscriber", Box::pin(std::future::pending().instrument(span())));
    tracing::subscriber::with_default(tracing_subscriber::registry(), || {
        bench("in a span, a subscriber", Box::pin(std::future::pending().instrument(span())));
    });
}

/// A report about 32 peers with 8 lanes in use to and from each, into Prometheus' recorder.
#[cfg(feature = "metrics")]
fn report(c: &mut Criterion) {
    use cluster_quic::metrics::{Options, Reporter};
    use cluster_quic::{ClusterTransport, Config, InProcessNetwork, RecordingSink, gossip_inbox};
    use metrics_exporter_prometheus::PrometheusBuilder;

    const PEERS: usize = 32;
    const LANES: u8 = 8;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let network = InProcessNetwork::new();
    let node = |host: String| {
        let config = Config::builder("report").tell_lanes(LANES).build().expect("a configuration");
        let node = ClusterTransport::in_process(config, &network, &host).expect("a node");
        node.start(gossip_inbox::<String>(4).0, RecordingSink::new()).expect("its start");
        node
    };
    let own = node("own".into());
    let others: Vec<_> = (0..PEERS).map(|n| node(format!("peer-{n}"))).collect();
    for other in &others {
        for (from, to) in [(&own, other), (other, &own)] {
            let peer = from.peer(to.address()).expect("a peer");
            // Enough targets for every lane.
            for n in 0..16 * u32::from(LANES) {
                let target_path = &format!("/user/target-{n}");
                peer.tell(RemoteTellRef { target_path, ..tell(b"hello") }).expect("room");
            }
            runtime.block_on(peer.flush()).expect("all handled");
        }
    }

    let mut group = c.benchmark_group("report");
    for (name, options) in [
        ("32 peers, 8 lanes", Options::new()),
        ("32 peers, all lanes together", Options::new().all_lanes_together()),
        ("all peers and lanes together", Options::new().all_peers_together().all_lanes_together()),
    ] {
        let recorder = PrometheusBuilder::new().build_recorder();
        let mut reporter = Reporter::new(&own, options);
        metrics::with_local_recorder(&recorder, || {
            reporter.report();
            let text = recorder.handle().render();
            let series = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            println!("{name}: {} series, {} bytes of text", series.count(), text.len());
            group.bench_function(name, |b| b.iter(|| assert!(reporter.report())));
        });
    }
    group.finish();
}

#[cfg(not(feature = "metrics"))]
fn report(_: &mut Criterion) {}

criterion_group! {
    name = micro;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = frames, gossip, queue, lane, association, spans, report
}
criterion_main!(micro);
