//! A hostile member that comes again and again; in a process of its own, whose memory is measured.

mod log;
#[allow(dead_code, reason = "shared with the other hostile tests")]
#[path = "../hostile/scene.rs"]
mod scene;

use std::time::Instant;

use log::Lines;
use quinn::ConnectionError;
use scene::*;

#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[cfg(not(target_os = "linux"))]
fn resident() -> u64 {
    0
}

/// When closed connections have gone too, on both sides: they stay for three probe timeouts.
async fn resident_at_rest(scene: &Scene) -> u64 {
    scene.endpoint.wait_idle().await;
    resident()
}

#[tokio::test]
async fn a_member_that_associates_and_dies_in_a_loop_fills_neither_log_nor_memory() {
    const ROUNDS: u64 = 200;
    let mut scene = Scene::new().await;
    let lines = Lines::default();
    let counting = lines.count();
    let bad = framed(&[7, 0, 0]);
    let begin = Instant::now();
    let (mut memory, mut unheard) = (0, 0);
    let mut streams = 0;
    for round in 0..ROUNDS {
        // Another life each time, as a process that crashes has.
        let hello = Hello { incarnation: 5 + round, ..hello(700) };
        let connection = scene.accepted(&hello).await;
        if round % 2 == 0 {
            drop(open(&connection, TELL, &bad).await);
        } else {
            while let Ok(mut stream) = connection.open_uni().await {
                let _ = stream.write_all(&[TELL]).await;
                let _ = stream.reset(0_u32.into());
                streams += 1;
            }
        }
        match tokio::time::timeout(NEVER, connection.closed()).await.expect("the victim closes") {
            ConnectionError::ApplicationClosed(close) => {
                assert_eq!(close.error_code.into_inner(), PROTOCOL);
            }
            // Its last words were lost, in a burst of packets to a busy machine's socket.
            ConnectionError::Reset => unheard += 1,
            other => panic!("{other}"),
        }
        scene.answers.clear();
        drop(connection);
        if round == ROUNDS / 4 {
            memory = resident_at_rest(&scene).await;
        }
    }
    drop(counting);
    let (lines, took) = (lines.so_far(), begin.elapsed().as_secs());
    let grown = resident_at_rest(&scene).await.saturating_sub(memory);
    println!(
        "{ROUNDS} associations that died, {streams} streams reset: {lines} lines in the log, memory grew by \
         {} KiB in the last three quarters",
        grown / 1024
    );
    // Twenty at once, one every five seconds, and every ten at most how many were left out.
    assert!(lines >= 10, "{lines} lines: what happens is told");
    assert!(lines <= 20 + took / 5 + 1 + took / 10 + 1, "{lines} lines in {took} s");
    assert!(unheard < ROUNDS / 10, "{unheard} closed without a word");
    assert!(grown < 4 << 20, "{grown} bytes");
    scene.healthy_works().await;
}
