//! A hostile member that comes again and again; in a process of its own, whose memory is measured.

mod log;
#[allow(dead_code, reason = "shared with the other hostile tests")]
#[path = "../hostile/scene.rs"]
mod scene;

use log::Lines;
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
    let mut memory = 0;
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
        assert_eq!(closed(&connection).await.0, PROTOCOL);
        scene.answers.clear();
        drop(connection);
        if round == ROUNDS / 4 {
            memory = resident_at_rest(&scene).await;
        }
    }
    drop(counting);
    let lines = lines.so_far();
    let grown = resident_at_rest(&scene).await.saturating_sub(memory);
    println!(
        "{ROUNDS} associations that died, {streams} streams reset: {lines} lines in the log, memory grew by \
         {} KiB in the last three quarters",
        grown / 1024
    );
    // Twenty at once, one every five seconds, and now and then how many were left out.
    assert!(lines >= 10, "{lines} lines: what happens is told");
    assert!(lines <= 40, "{lines} lines");
    assert!(grown < 4 << 20, "{grown} bytes");
    scene.healthy_works().await;
}
