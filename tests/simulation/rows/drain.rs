//! Row 14: a node drains.

use std::sync::Arc;
use std::time::Duration;

use cluster_quic::{ClusterTransport, Config, CustomSocket, Runtime, ShutdownReport, gossip_inbox};
use tokio::time::{Instant, sleep, timeout};

use super::strangers::lone;
use super::{MS, SECS, associated, pair};
use crate::identity::{Ca, HOST};
use crate::network::Pipe;
use crate::seeds::simulate;
use crate::sink::Sink;
use crate::world::{World, socket_address};

const TELLS: u64 = 10_000;

/// What a drain may take past its deadline: last words, and the last packets' way.
const LINGER: Duration = Duration::from_millis(1_500);

/// Drains node `n`, and checks that its report is exact and in time; returns how many tells were handled too.
async fn drained(
    world: &mut World,
    n: usize,
    deadline: Duration,
) -> (ShutdownReport, Duration, u64) {
    let begin = Instant::now();
    world.drain(n, deadline);
    world.drained(n).await;
    let took = begin.elapsed();
    let life = world.nodes[n].past.last().expect("it has ended");
    let report = life.report.clone().expect("it was drained");
    let tells = life.stats(1 - n).tells();
    assert!(took <= deadline + LINGER, "{took:?} with a deadline of {deadline:?}");
    assert_eq!(report.is_clean(), tells.acknowledged_frames == tells.accepted_frames);
    let lost: u64 = report.lost.iter().map(|(_, lost)| lost.frames).sum();
    assert_eq!(report.acknowledged + lost, tells.accepted_frames, "{report:?}");
    // In order and without gaps: what was acknowledged is there, and no more than was given up.
    let there =
        world.nodes[1 - n].lives().map(|there| there.sink.count(n as u64, life.incarnation));
    let there: u64 = there.sum();
    assert!(there >= report.acknowledged && there <= tells.accepted_frames, "{there}: {report:?}");
    println!("row 14: {there} handled, {} acknowledged", report.acknowledged);
    (report, took, there)
}

fn pipe(rate: Option<f64>) -> Pipe {
    Pipe { delay: MS(10), rate, ..Pipe::default() }
}

fn lost(report: &ShutdownReport) -> u64 {
    report.lost.iter().map(|(_, lost)| lost.frames).sum()
}

#[test]
fn row_14_a_drain_to_a_healthy_peer_is_clean() {
    simulate(async || {
        let mut world = pair(14, pipe(None));
        assert_eq!(world.tell(0, 1, TELLS, 100), TELLS);
        let (report, took, _) = drained(&mut world, 0, SECS(10)).await;
        println!("row 14: healthy: {} acknowledged in {took:?}", report.acknowledged);
        assert!(report.is_clean());
        assert_eq!(report.acknowledged, TELLS);
        assert!(took <= MS(400), "{took:?}");
        world.quiet(SECS(10)).await;
    });
}

#[test]
fn row_14_a_drain_to_a_slow_peer_ends_by_its_deadline_with_the_exact_loss() {
    simulate(async || {
        // 1.4 MB through 100 kB a second.
        let mut world = pair(14, pipe(Some(100_000.0)));
        associated(&mut world).await;
        assert_eq!(world.tell(0, 1, TELLS, 100), TELLS);
        let (report, took, handled) = drained(&mut world, 0, SECS(3)).await;
        let lost = lost(&report);
        println!("row 14: slow: {} acknowledged, {lost} lost in {took:?}", report.acknowledged);
        assert!(!report.is_clean() && report.acknowledged > 0);
        assert_eq!(report.acknowledged, handled, "handled, and reported lost");
        world.quiet(SECS(30)).await;
    });
}

/// The peer's transport may have the goodbye long before its last acknowledgements are here.
#[test]
fn row_14_a_drain_hears_the_peer_out() {
    for seed in 0..40 {
        simulate(async || {
            let mut world = pair(seed, pipe(Some(100_000.0)));
            associated(&mut world).await;
            world.change(1, 0, |pipe| pipe.reorder = 0.5);
            assert_eq!(world.tell(0, 1, TELLS, 100), TELLS);
            let (report, _, handled) = drained(&mut world, 0, SECS(1)).await;
            assert!(!report.is_clean() && report.acknowledged > 0);
            assert_eq!(report.acknowledged, handled, "seed {seed}: handled, and reported lost");
        });
    }
}

#[test]
fn row_14_a_drain_to_a_dead_peer_ends_by_its_deadline() {
    simulate(async || {
        let mut world = pair(14, pipe(None));
        associated(&mut world).await;
        world.cut_both(0, 1, true);
        assert_eq!(world.tell(0, 1, TELLS, 100), TELLS);
        let (report, took, _) = drained(&mut world, 0, SECS(3)).await;
        println!("row 14: dead: {} lost in {took:?}", lost(&report));
        assert_eq!((report.acknowledged, lost(&report)), (1, TELLS));
        world.cut_both(0, 1, false);
        world.quiet(SECS(30)).await;
    });
}

#[test]
fn row_14_a_drain_while_dialling_ends_by_its_deadline() {
    simulate(async || {
        let mut world = pair(14, pipe(None));
        world.cut_both(0, 1, true);
        assert_eq!(world.tell(0, 1, TELLS, 100), TELLS);
        sleep(MS(100)).await;
        let (report, took, _) = drained(&mut world, 0, SECS(3)).await;
        println!("row 14: while dialling: {} lost in {took:?}", lost(&report));
        assert_eq!((report.acknowledged, lost(&report)), (0, TELLS));
        world.quiet(SECS(30)).await;
    });
}

/// The dial ends well while the node drains already.
#[test]
fn row_14_a_drain_that_begins_with_the_dial_delivers_everything() {
    for wait in [0, 5, 15, 25, 35, 45, 55] {
        simulate(async || {
            let mut world = pair(14, pipe(None));
            assert_eq!(world.tell(0, 1, 100, 100), 100);
            sleep(MS(wait)).await;
            let (report, took, _) = drained(&mut world, 0, SECS(5)).await;
            println!("row 14: {wait} ms into the dial: {} in {took:?}", report.acknowledged);
            assert!(report.is_clean(), "{report:?}");
            world.quiet(SECS(10)).await;
        });
    }
}

#[test]
fn row_14_both_drain_at_once() {
    for wait in [0, 10, 20, 30, 40, 60, 100, 200] {
        simulate(async || {
            let mut world = pair(14, pipe(Some(2_000_000.0)));
            assert_eq!(world.tell(0, 1, TELLS, 100), TELLS);
            assert_eq!(world.tell(1, 0, TELLS, 100), TELLS);
            sleep(MS(wait)).await;
            world.drain(1, SECS(5));
            let (one, took, _) = drained(&mut world, 0, SECS(5)).await;
            world.drained(1).await;
            let two = world.nodes[1].past[0].report.clone().expect("it was drained");
            println!(
                "row 14: both, {wait} ms in: {} and {} acknowledged, {} and {} lost in {took:?}",
                one.acknowledged,
                two.acknowledged,
                lost(&one),
                lost(&two)
            );
            for report in [&one, &two] {
                assert_eq!(report.acknowledged + lost(report), TELLS);
            }
            world.quiet(SECS(10)).await;
        });
    }
}

/// quinn keeps a closed connection for three probe timeouts, and would keep the socket as long.
#[test]
fn row_14_a_shutdown_frees_the_socket_however_far_the_peers_are() {
    simulate(async || {
        let ca = Ca::new();
        let mut world = lone(&ca);
        for (to, from) in [(0, 1), (1, 0)] {
            world.change(from, to, |pipe| pipe.delay = MS(300));
        }
        let config = Config::builder("sim")
            .runtime(Runtime::Simulated)
            .incarnation(100)
            .advertise_host(HOST)
            .build()
            .unwrap();
        let socket = world.network().socket(socket_address(1));
        let open = Arc::downgrade(&socket);
        let socket = CustomSocket { socket, seed: None };
        let node = ClusterTransport::bind_socket(config, &ca.identity(), socket).unwrap();
        node.start(gossip_inbox::<u64>(16).0, Arc::new(Sink::default())).unwrap();
        assert_eq!(world.tell(0, 1, 100, 1_000), 100);
        let peer = world.nodes[0].life().peer(1).clone();
        timeout(SECS(10), peer.flush()).await.expect("acknowledged").unwrap();
        let begin = Instant::now();
        node.shutdown(SECS(5)).await;
        println!("row 14: shut down in {:?}", begin.elapsed());
        assert_eq!(open.strong_count(), 0, "the socket is closed");
    });
}
