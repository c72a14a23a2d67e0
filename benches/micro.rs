//! The steps of a tell's way, each alone and without a network.
//!
//! ```text
//! cargo bench --bench micro                 all, about a minute
//! cargo bench --bench micro -- queue        those whose name contains it
//! ```

use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cluster_quic::RemoteTellRef;
use cluster_quic::bench_support::{Cutter, Peer, Queue, encode, lane_of};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

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

criterion_group! {
    name = micro;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = frames, queue, lane, association
}
criterion_main!(micro);
