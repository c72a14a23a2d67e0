//! A hostile member that holds on to what it gets, or comes again and again.

use std::time::{Duration, Instant};

use cluster_quic::{ClusterFrame, ClusterTransport, Config, RecordingSink, gossip_inbox};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::scene::*;

const SECOND: Duration = Duration::from_secs(1);

/// Writes into `connection`, in as many streams as it may open, until nothing more is taken.
async fn fill(connection: &quinn::Connection, first: &[u8]) -> usize {
    let mut filled = first.len();
    let mut streams = Vec::new();
    let quiet = Duration::from_millis(100);
    while let Ok(Ok(mut stream)) = timeout(quiet, connection.open_uni()).await {
        match streams.is_empty() {
            // The first is the greeting's, which may not be long.
            true => stream.write_all(first).await.unwrap(),
            false => {
                while let Ok(Ok(n)) = timeout(quiet, stream.write(&[0x5a; 16 * 1024])).await {
                    filled += n;
                }
            }
        }
        streams.push(stream);
    }
    std::mem::forget(streams);
    filled
}

#[tokio::test]
async fn windows_filled_before_the_greeting_hold_little_and_are_closed_in_time() {
    let scene = Scene::with_dial_timeout(SECOND * 2).await;
    let connection = scene.connect().await;
    let filled = fill(&connection, &[CONTROL, 0, 0]).await;
    let (code, took) = closed(&connection).await;
    println!(
        "a connection without a greeting could send {filled} bytes, and was closed in {took:?}"
    );
    assert_eq!(code, WAITED_TOO_LONG);
    assert!(filled <= 64 * 1024, "{filled} bytes");
    assert!(filled > 1_000, "nothing was filled");
    scene.healthy_works().await;
}

#[tokio::test]
async fn a_peer_that_reads_nothing_holds_its_lanes_budgets_and_no_more() {
    let mut scene = Scene::new().await;
    let hello = hello(600);
    let connection = scene.accepted(&hello).await;
    let peer = scene.victim.peer(&hello.address.parse().unwrap()).unwrap();
    // Every lane until it refuses, eight times as long as that takes.
    let (mut accepted, mut refused) = (0_u64, 0);
    let large = vec![0x5a; 1 << 20];
    while refused < 8 * 64 {
        let mut tell = tell(&format!("/user/{}", accepted + refused));
        tell.payload.clone_from(&large);
        peer.send_gossip("beside it").unwrap();
        match peer.tell(tell) {
            Ok(()) => accepted += 1,
            Err(_) => refused += 1,
        }
        tokio::task::yield_now().await;
    }
    let (held, gossip) = (scene.victim.held_bytes(), peer.stats().gossip);
    println!("a peer that reads nothing: {accepted} MiB accepted, {held} bytes held, {gossip:?}");
    assert!(held <= 128 << 20, "{held} bytes are held for it");
    assert!(gossip.queued_bytes <= 256 * 1024);
    scene.healthy_works().await;
    connection.close(0_u32.into(), b"");
    let tells = peer.stats().tells();
    assert!(peer.stats().is_balanced(), "{tells:?}");
    assert_eq!(tells.acknowledged_frames, 0);
}

/// How many of these the other side still holds. One that it has given up, without being heard, looks open from
/// here; only what it holds is acknowledged.
async fn held(connections: &[quinn::Connection]) -> usize {
    let mut asked = JoinSet::new();
    for connection in connections {
        let opening = connection.clone();
        asked.spawn(async move {
            let mut stream = opening.open_uni().await.ok()?;
            stream.finish().ok()?;
            stream.stopped().await.ok()
        });
    }
    let answers = timeout(SECOND * 60, asked.join_all());
    let answers = answers.await.expect("an acknowledgement, or the connection's end");
    answers.into_iter().filter(|answer| *answer == Some(None)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_host_that_connects_and_says_nothing_keeps_no_other_out() {
    const SILENT: usize = 300;
    const PLACES: usize = 128;
    // None of them is given up, however long a busy machine takes to gather them.
    let scene = Scene::with_dial_timeout(SECOND * 120).await;
    let endpoint = scene.endpoint.clone();
    let mut dials = JoinSet::new();
    for _ in 0..SILENT {
        let connecting = endpoint.connect(scene.socket_address(), HOST).unwrap();
        dials.spawn(async move {
            let connection = connecting.await?;
            // The first byte of a greeting, so that further streams are none.
            let mut greeting = connection.open_uni().await?;
            let _ = greeting.write_all(&[CONTROL]).await;
            Ok::<_, quinn::ConnectionError>((connection, greeting))
        });
    }
    // All that are taken in at a time, and no more come.
    let (mut silent, mut greetings) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    loop {
        match timeout(SECOND, dials.join_next()).await {
            // Those that fail have waited for a place for as long as quinn lets them.
            Ok(connected) => {
                if let Ok((connection, greeting)) = connected.expect("more dials").unwrap() {
                    silent.push(connection);
                    greetings.push(greeting);
                }
            }
            Err(_) if silent.len() >= PLACES || begin.elapsed() > SECOND * 60 => break,
            Err(_) => {}
        }
    }
    let before = held(&silent).await;
    let other = "127.0.0.2";
    let config = Config::builder("test").bind(([127, 0, 0, 2], 0).into()).build().unwrap();
    let honest =
        ClusterTransport::bind(config, &scene.ca.identity(&[other, HOST]).unwrap()).unwrap();
    honest.start(gossip_inbox::<String>(16).0, RecordingSink::new()).unwrap();
    let begin = Instant::now();
    honest.tell(scene.victim.address(), tell("/user/honest")).unwrap();
    timeout(SECOND * 30, honest.flush(scene.victim.address())).await.unwrap().unwrap();
    let took = begin.elapsed();
    let after = held(&silent).await;
    println!(
        "{before} silent connections of one host, {} as it sees it; another host joined in {took:?}, beside \
         {after}",
        silent.len()
    );
    assert!((100..=PLACES).contains(&before), "{before} are held");
    assert!(
        (100..=PLACES).contains(&after),
        "{after} are held: it came in only when they had gone"
    );
    // And once they are through, their own host's nodes come in again.
    scene.healthy_works().await;
    dials.shutdown().await;
    silent.iter().for_each(|connection| connection.close(0_u32.into(), b""));
    let good = ClusterFrame::<()>::RemoteTell(tell("/user/late")).encode().unwrap();
    let late = timeout(SECOND * 30, scene.greet(&hello(800))).await.expect("it comes in again");
    send(&late, TELL, &framed(&good)).await;
    let begin = Instant::now();
    while !scene.sink.records().iter().any(|(_, tell)| tell.target_path == "/user/late") {
        assert!(begin.elapsed() < NEVER);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
