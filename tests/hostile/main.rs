//! A peer with a good certificate and bad intentions, speaking raw QUIC: every malformed, unknown or
//! forged input costs it its own association, with a typed reason, and nobody else anything.

mod abuse;
mod floods;
#[path = "../hostile_loop/log.rs"]
mod log;
mod scene;

use std::time::{Duration, Instant};

use cluster_quic::{AssociationError, ClusterFrame};
use scene::*;

#[tokio::test]
async fn greetings_that_are_refused() {
    let mut scene = Scene::new().await;
    let victim = scene.victim.address().to_string();
    let base = hello(9);
    let cases = [
        (Hello { version: 2, ..base.clone() }, VERSION),
        (Hello { cluster: "other".into(), ..base.clone() }, CLUSTER),
        (Hello { cluster: "\u{1b}[31m".repeat(100), ..base.clone() }, CLUSTER),
        // A member with a good certificate claims what is not its own.
        (Hello { address: "akka.quic://test@victim.example:1".into(), ..base.clone() }, CLAIM),
        (Hello { address: "akka.quic://test@127.0.0.2:1".into(), ..base.clone() }, CLAIM),
        (Hello { address: victim, ..base.clone() }, CLAIM),
        (Hello { address: "nonsense".into(), ..base.clone() }, PROTOCOL),
        // Meant for another node than this one.
        (Hello { to: "akka.quic://other@127.0.0.1:1".into(), ..base.clone() }, CLAIM),
        (Hello { lanes: 0, ..base.clone() }, PROTOCOL),
        (Hello { lanes: 200, ..base.clone() }, PROTOCOL),
    ];
    for (hello, code) in cases {
        let connection = scene.greet(&hello).await;
        assert_eq!(closed(&connection).await.0, code, "{}", hello.address);
        let error = scene.refused().await;
        assert!(!error.to_string().contains('\u{1b}'), "{error:?}");
    }
    scene.healthy_works().await;
    assert_eq!(scene.victim.peers().len(), 1, "strangers are not remembered");
}

#[tokio::test]
async fn an_older_incarnation_leaves_the_newer_untouched() {
    let mut scene = Scene::new().await;
    let connection = scene.accepted(&hello(9)).await;
    let older = scene.greet(&Hello { incarnation: 4, attempt: 7, ..hello(9) }).await;
    assert_eq!(closed(&older).await.0, STALE);
    assert!(matches!(scene.refused().await, AssociationError::Stale { .. }));
    assert!(connection.close_reason().is_none());
    scene.healthy_works().await;
}

#[tokio::test]
async fn who_does_not_greet_is_closed_in_time() {
    let mut scene = Scene::with_dial_timeout(Duration::from_secs(1)).await;
    // Says nothing; opens a stream and stops in its header; greets a byte at a time.
    let silent = scene.connect().await;
    let half = scene.connect().await;
    let mut stream = half.open_uni().await.unwrap();
    stream.write_all(&[CONTROL, 0, 0]).await.unwrap();
    let slow = scene.connect().await;
    let mut drip = slow.open_uni().await.unwrap();
    tokio::spawn(async move {
        for byte in [0_u8; 9].into_iter().chain(control(&hello(9))) {
            if drip.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    for connection in [silent, half, slow] {
        let (code, took) = closed(&connection).await;
        assert_eq!(code, WAITED_TOO_LONG);
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert!(matches!(scene.refused().await, AssociationError::GreetingTimeout(_)));
    }
    scene.healthy_works().await;
}

#[tokio::test]
async fn first_words_that_are_no_greeting() {
    let scene = Scene::new().await;
    let cases: [(u8, Vec<u8>); 6] = [
        (CONTROL, framed(&[9, 9, 9])),
        (CONTROL, vec![0, 0, 0, 0]),
        (CONTROL, vec![0xff; 8]),
        // A message within the frame limit, but not within that of control messages.
        (CONTROL, [&(1_u32 << 20).to_be_bytes()[..], &[0; 20_000]].concat()),
        // A tell before the greeting.
        (TELL, framed(&ClusterFrame::<()>::RemoteTell(tell("/early")).encode().unwrap())),
        (77, vec![]),
    ];
    for (lane, bytes) in cases {
        let connection = scene.connect().await;
        send(&connection, lane, &bytes).await;
        assert_eq!(closed(&connection).await.0, PROTOCOL, "lane {lane}");
    }
    scene.healthy_works().await;
    assert!(scene.sink.records().iter().all(|(_, tell)| tell.target_path != "/early"));
}

#[track_caller]
fn check(error: &AssociationError, says: &str) {
    let AssociationError::Protocol(text) = error else { panic!("{error:?}, instead of {says}") };
    assert!(text.starts_with(says), "{text}, instead of {says}");
}

/// A lane's stream that ends within its header, a length prefix, a frame.
#[tokio::test]
async fn streams_that_end_too_soon() {
    let mut scene = Scene::new().await;
    let good = framed(&ClusterFrame::<()>::RemoteTell(tell("/user/good")).encode().unwrap());
    let header = [&[TELL][..], &0_u64.to_be_bytes()].concat();
    let cases = [
        ("nothing at all", vec![], "a stream ended in its header"),
        ("within the header", header[..4].to_vec(), "a stream ended in its header"),
        ("within the prefix", [&header[..], &good[..2]].concat(), "a lane ended in mid-frame"),
        (
            "within a frame",
            [&header[..], &good[..good.len() - 1]].concat(),
            "a lane ended in mid-frame",
        ),
        (
            "within the second",
            [&header[..], &good, &good[..9]].concat(),
            "a lane ended in mid-frame",
        ),
    ];
    for (port, (what, bytes, says)) in (600..).zip(cases) {
        let hello = hello(port);
        let connection = scene.accepted(&hello).await;
        let begin = Instant::now();
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.finish().unwrap();
        let said = scene.down(&hello.address).await;
        println!("row 20: ends {what}: {said}; {:?} after it was written", begin.elapsed());
        check(&said, says);
        assert_eq!(closed(&connection).await.0, PROTOCOL, "{what}");
    }
    scene.healthy_works().await;
}

#[tokio::test]
async fn frames_that_are_none() {
    let mut scene = Scene::new().await;
    let good = ClusterFrame::<()>::RemoteTell(tell("/user/good")).encode().unwrap();
    let trailing = [&good[..], &[0]].concat();
    let nested = [&[0], &[1, 1].repeat(1 << 17)[..]].concat();
    let cases: [(&str, u8, Vec<u8>, &str); 14] = [
        (
            "gossip nested a hundred thousand times",
            GOSSIP,
            framed(&nested),
            "gossip lane: nested deeper than 128 levels",
        ),
        (
            "2^56 units of gossip",
            GOSSIP,
            framed(&[0, 2, 253, 0, 0, 0, 0, 0, 0, 0, 1]),
            "gossip lane: more elements than the frame has bytes for",
        ),
        ("an empty frame", TELL, vec![0, 0, 0, 0], "an empty frame"),
        (
            "4 GiB claimed",
            TELL,
            vec![0xff; 4],
            "a frame of 4294967295 bytes is over the limit of 16777216",
        ),
        ("an unknown variant", TELL, framed(&[7, 0, 0]), "tell 0 lane: unknown frame variant 7"),
        (
            "trailing bytes",
            TELL,
            framed(&trailing),
            "tell 0 lane: 1 bytes after the end of the frame's content",
        ),
        (
            "truncated content",
            TELL,
            framed(&good[..good.len() - 1]),
            "tell 0 lane: cannot be decoded: 1 bytes wanted, and 0 are left",
        ),
        (
            "64 TiB of text",
            TELL,
            framed(&[1, 253, 0, 0, 0, 0, 0, 64, 0, 0]),
            "tell 0 lane: cannot be decoded: 70368744177664 bytes wanted, and 0 are left",
        ),
        (
            "no UTF-8",
            TELL,
            framed(&[1, 2, 0xff, 0xff, 0, 0, 0]),
            "tell 0 lane: cannot be decoded: invalid utf-8 sequence",
        ),
        (
            "gossip in a tell lane",
            TELL,
            framed(&encode((0_u32, "gossip"))),
            "tell 0 lane: gossip in a lane that does not carry it",
        ),
        (
            "a tell in the gossip lane",
            GOSSIP,
            framed(&good),
            "gossip lane: a tell in a lane that does not carry it",
        ),
        ("another gossip type", GOSSIP, framed(&[0, 200]), "gossip lane: cannot be decoded"),
        ("an unknown lane", 99, framed(&good), "unknown lane 99"),
        ("a second control lane", CONTROL, framed(&good), "a second control lane"),
    ];
    for (port, (what, lane, bytes, says)) in (100..).zip(cases) {
        let hello = hello(port);
        let connection = scene.accepted(&hello).await;
        send(&connection, lane, &bytes).await;
        let begin = Instant::now();
        let said = scene.down(&hello.address).await;
        println!("row 20: {what}: {said}; {:?} after it was written", begin.elapsed());
        check(&said, says);
        assert_eq!(closed(&connection).await.0, PROTOCOL, "{what}");
    }
    scene.healthy_works().await;
    let from_strangers = scene.sink.records().iter().filter(|(from, _)| from.port() < 1000).count();
    assert_eq!(from_strangers, 0);
}

#[tokio::test]
async fn messages_that_break_the_protocol() {
    let mut scene = Scene::new().await;
    let ack = |lane: u8, next: u64| framed(&encode((2_u32, lane, next)));
    let cases: [(&str, Vec<u8>); 5] = [
        ("a second greeting", control(&hello(200))),
        ("what was never sent is acknowledged", ack(TELL, 1)),
        ("a lane that does not exist is acknowledged", ack(TELL + 9, 1)),
        ("gossip is acknowledged", ack(GOSSIP, 0)),
        ("an unknown message", framed(&[44])),
    ];
    for (port, (what, bytes)) in (200..).zip(cases) {
        let connection = scene.connect().await;
        let mut first = control(&scene.addressed(&hello(port)));
        first.extend_from_slice(&bytes);
        send(&connection, CONTROL, &first).await;
        assert_eq!(closed(&connection).await.0, PROTOCOL, "{what}");
    }
    // Two streams for one lane would undo its order.
    let connection = scene.accepted(&hello(300)).await;
    send(&connection, TELL, &[]).await;
    send(&connection, TELL, &[]).await;
    assert_eq!(closed(&connection).await.0, PROTOCOL);
    scene.healthy_works().await;
}

#[tokio::test]
async fn a_half_open_stream_stalls_nobody() {
    let mut scene = Scene::with_dial_timeout(NEVER).await;
    let connection = scene.accepted(&hello(400)).await;
    // A stream that never gets beyond its first byte, opened before the good one.
    let mut half = connection.open_uni().await.unwrap();
    half.write_all(&[TELL]).await.unwrap();
    let good = framed(&ClusterFrame::<()>::RemoteTell(tell("/user/behind")).encode().unwrap());
    send(&connection, TELL + 1, &good).await;
    let begin = Instant::now();
    while !scene.sink.records().iter().any(|(_, tell)| tell.target_path == "/user/behind") {
        assert!(begin.elapsed() < NEVER / 3, "stalled by another stream");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(connection.close_reason().is_none());
}

#[tokio::test]
async fn a_half_open_stream_is_not_suffered_for_long() {
    let mut scene = Scene::with_dial_timeout(Duration::from_millis(500)).await;
    let connection = scene.accepted(&hello(400)).await;
    let mut half = connection.open_uni().await.unwrap();
    half.write_all(&[TELL]).await.unwrap();
    assert_eq!(closed(&connection).await.0, PROTOCOL);
    scene.healthy_works().await;
}

/// Without its gossip lane the association would look healthy for ever, and carry no gossip.
#[tokio::test]
async fn a_lane_that_is_reset_ends_the_connection() {
    let mut scene = Scene::new().await;
    let connection = scene.accepted(&hello(450)).await;
    let mut gossip = open(&connection, GOSSIP, &framed(&[0, 0, 2, b'h', b'i'])).await;
    // Else it would be one without a header.
    let heard = || {
        let peers = scene.victim.peers();
        peers.iter().any(|peer| peer.address.port() == 450 && peer.gossip_received == 1)
    };
    let begin = Instant::now();
    while !heard() {
        assert!(begin.elapsed() < Duration::from_secs(20), "gossip is not received");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    gossip.reset(0_u32.into()).unwrap();
    // It takes a while: a goodbye may be on its way.
    let ended = tokio::time::timeout(Duration::from_secs(20), connection.closed()).await;
    assert!(ended.is_ok(), "the victim lives with it");
    assert_eq!(closed(&connection).await.0, PROTOCOL);
    scene.healthy_works().await;
}

#[tokio::test]
async fn streams_opened_and_reset_without_end_are_cut_off() {
    let mut scene = Scene::new().await;
    let connection = scene.accepted(&hello(500)).await;
    let mut opened = 0;
    while let Ok(mut stream) = connection.open_uni().await {
        let _ = stream.write_all(&[TELL]).await;
        let _ = stream.reset(0_u32.into());
        opened += 1;
        assert!(opened < 1_000, "the victim takes any number of streams");
    }
    assert_eq!(closed(&connection).await.0, PROTOCOL);
    scene.healthy_works().await;
}
