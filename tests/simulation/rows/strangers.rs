//! Rows 21 and 24: whom a node refuses, for what, and what that costs.

use std::time::Duration;

use cluster_quic::{AssociationError, CertificateProblem, Event, Events, Side};
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use tokio::time::{Instant, sleep, timeout};

use super::{MS, SECS, associated, defaults, pair};
use crate::identity::{Ca, Certificate, Claims, HOST};
use crate::network::Pipe;
use crate::raw::{self, ALPN, Hello};
use crate::seeds::simulate;
use crate::sink::{Record, tell};
use crate::world::{World, socket_address};

/// A world whose only node trusts `ca`; the second place is for a stranger.
pub(super) fn lone(ca: &Ca) -> World {
    let pipe = Pipe { delay: MS(5), ..Pipe::default() };
    let mut world = World::quic_with(21, 2, pipe, ca.identity(), defaults);
    world.kill(1);
    world
}

/// The greeting of a stranger that says it was node 1.
pub(super) fn hello(world: &World) -> Hello {
    Hello {
        version: 1,
        cluster: "sim".into(),
        address: world.nodes[1].address.to_string(),
        to: world.nodes[0].address.to_string(),
        incarnation: 5,
        session: 0,
        attempt: 1,
        lanes: 4,
        stream_window: 1 << 20,
        resume: None,
    }
}

/// Greets, and sends a tell without waiting for what is said to that.
async fn burst_in(connection: &quinn::Connection, hello: &Hello) {
    raw::greet(connection, hello).await;
    let record = Record { from: 1, incarnation: hello.incarnation, target: 0, number: 0 };
    raw::tell(connection, tell(record, 100)).await;
}

async fn refused(events: &mut Events) -> AssociationError {
    let refused = async {
        loop {
            match events.recv().await.expect("the node lives") {
                Event::IncomingRefused { error, .. } => return error,
                Event::PeerUp { .. } => panic!("associated"),
                _ => {}
            }
        }
    };
    timeout(SECS(10), refused).await.expect("it is refused")
}

fn problem(error: &AssociationError, by: Side) -> &CertificateProblem {
    match error {
        AssociationError::Certificate(failure) if failure.by == by => &failure.problem,
        other => panic!("{other}"),
    }
}

type Case = (&'static str, Option<Claims>, CertificateProblem);

/// What differs from a good certificate, for a stranger in the role of a client or of a server.
fn cases(server: bool) -> Vec<Case> {
    use CertificateProblem as P;
    let good = Claims::default;
    let only = if server { ClientAuth } else { ServerAuth };
    let mut cases = vec![
        ("wrong CA", Some(good()), P::UnknownIssuer),
        ("expired", Some(Claims { valid: (-30, -1), ..good() }), P::Expired),
        ("not yet valid", Some(Claims { valid: (1, 30), ..good() }), P::NotYetValid),
        ("one usage only", Some(Claims { usages: vec![only], ..good() }), P::WrongUsage),
    ];
    if server {
        let name = "elsewhere.example";
        cases.push(("another name", Some(Claims { name, ..good() }), P::NameMismatch));
    } else {
        cases.push(("none", None, P::Missing));
    }
    cases
}

fn certificate(case: &Case, ca: &Ca) -> Option<Certificate> {
    let issuer = if case.0 == "wrong CA" { &Ca::new() } else { ca };
    case.1.as_ref().map(|claims| issuer.issue(claims))
}

#[test]
fn row_21_a_dialler_with_a_bad_certificate_is_refused_for_what_is_wrong_with_it() {
    for case in cases(false) {
        simulate(async || {
            let ca = Ca::new();
            let world = lone(&ca);
            let mut events = world.nodes[0].life().transport().events();
            let begin = Instant::now();
            let certificate = certificate(&case, &ca);
            let (from, to) = (socket_address(1), socket_address(0));
            let network = world.network().clone();
            let (_endpoint, connected) =
                raw::dial(&network, from, to, &ca, certificate.as_ref(), ALPN).await;
            // At once, before it is known what the node says to the certificate.
            if let Ok(connection) = &connected {
                burst_in(connection, &hello(&world)).await;
            }
            let error = refused(&mut events).await;
            println!("row 21: dialler, {}: {error}; after {:?}", case.0, begin.elapsed());
            assert_eq!(problem(&error, Side::Us), &case.2);
            assert!(begin.elapsed() <= SECS(1));
            // With TLS 1.3 a client may have connected before it is refused.
            if let Ok(connection) = connected {
                timeout(SECS(5), connection.closed()).await.expect("closed");
            }
            sleep(SECS(1)).await;
            assert_eq!(world.nodes[0].life().sink.total(), 0);
        });
    }
}

#[test]
fn row_21_a_good_certificate_does_not_allow_a_claim_to_another_address() {
    simulate(async || {
        let ca = Ca::new();
        let world = lone(&ca);
        let mut events = world.nodes[0].life().transport().events();
        let claims = Claims { name: "elsewhere.example", ..Claims::default() };
        let certificate = ca.issue(&claims);
        let (from, to) = (socket_address(1), socket_address(0));
        let network = world.network().clone();
        let (_endpoint, connected) =
            raw::dial(&network, from, to, &ca, Some(&certificate), ALPN).await;
        burst_in(&connected.unwrap(), &hello(&world)).await;
        let error = refused(&mut events).await;
        println!("row 21: dialler, another name: {error}");
        assert!(matches!(error, AssociationError::Claim(_)), "{error}");
        sleep(SECS(1)).await;
        assert_eq!(world.nodes[0].life().sink.total(), 0);
    });
}

#[test]
fn row_22_a_member_that_claims_a_living_one_s_address_leaves_it_untouched() {
    simulate(async || {
        let ca = Ca::new();
        let pipe = Pipe { delay: MS(5), ..Pipe::default() };
        let mut world = World::quic_with(22, 3, pipe, ca.identity(), defaults);
        // The third place is the stranger's.
        world.kill(2);
        associated(&mut world).await;
        let mut events = world.nodes[0].life().transport().events();
        let claims = Claims { name: "127.0.0.2", ..Claims::default() };
        let certificate = ca.issue(&claims);
        let (from, to) = (socket_address(2), socket_address(0));
        let network = world.network().clone();
        for attempt in 1..=3 {
            let (_endpoint, connected) =
                raw::dial(&network, from, to, &ca, Some(&certificate), ALPN).await;
            // As the one that lives, as the next life of it, and as an earlier one.
            let incarnation = [2, 900, 1][attempt - 1];
            let claim = Hello { incarnation, attempt: attempt as u64 * 100, ..hello(&world) };
            burst_in(&connected.unwrap(), &claim).await;
            let error = refused(&mut events).await;
            println!("row 22: a living member's address: {error}");
            assert!(matches!(error, AssociationError::Claim(_)), "{error}");
            world.tell(0, 1, 10, 100);
            world.tell(1, 0, 10, 100);
            world.quiet(SECS(10)).await;
        }
        assert_eq!((world.associations(0, 1), world.associations(1, 0)), (1, 1));
        assert!(world.is_connected(0, 1) && world.is_connected(1, 0));
        assert_eq!(world.nodes[0].life().stats(1).incarnation.map(|life| life.0), Some(2));
        assert_eq!(world.all_acknowledged(), 61);
    });
}

/// What a dialling node is told in a minute: the first error, how often, and the shortest wait.
async fn dial_failures(world: &mut World, time: Duration) -> (AssociationError, usize, Duration) {
    assert_eq!(world.tell(0, 1, 10, 100), 10);
    let begin = Instant::now();
    while begin.elapsed() < time {
        sleep(MS(500)).await;
        world.check();
    }
    let failures = &world.nodes[0].life().failures;
    let waits = failures.iter().map(|(_, _, _, retry_in)| *retry_in).min();
    (failures[0].2.clone(), failures.len(), waits.expect("a failure"))
}

/// At most a dial per five seconds, after the first.
fn no_storm(count: usize, wait: Duration, time: Duration) {
    assert!(wait >= SECS(5), "the next dial {wait:?} later");
    assert!(count as u64 <= 1 + time.as_secs() / 5, "{count} dials");
}

#[test]
fn row_21_an_acceptor_with_a_bad_certificate_is_refused_for_what_is_wrong_with_it() {
    for case in cases(true) {
        simulate(async || {
            let ca = Ca::new();
            let mut world = lone(&ca);
            let certificate = certificate(&case, &ca).expect("a server has one");
            let network = world.network().clone();
            let _stranger = raw::listen(&network, socket_address(1), &ca, &certificate, ALPN);
            let (error, count, wait) = dial_failures(&mut world, SECS(60)).await;
            println!("row 21: acceptor, {}: {error}; {count} dials a minute", case.0);
            assert_eq!(problem(&error, Side::Us), &case.2);
            no_storm(count, wait, SECS(60));
            let tells = world.nodes[0].life().stats(1).tells();
            assert_eq!((tells.in_flight_frames, tells.acknowledged_frames), (0, 0), "nothing left");
        });
    }
}

#[test]
fn row_24_another_cluster_is_refused_on_both_sides_without_a_storm() {
    simulate(async || {
        let pipe = Pipe { delay: MS(5), ..Pipe::default() };
        let clusters = std::cell::Cell::new(0);
        let mut world = World::quic(24, 2, pipe, move |config| {
            clusters.set(clusters.get() + 1);
            config.cluster(format!("cluster-{}", clusters.get()))
        });
        let (error, count, wait) = dial_failures(&mut world, SECS(60)).await;
        let refusals = &world.nodes[1].life().refusals;
        println!(
            "row 24: cluster: {error} / {}; {count} dials, {} refusals a minute",
            refusals[0],
            refusals.len()
        );
        assert!(matches!(error, AssociationError::Cluster(_)), "{error}");
        assert!(matches!(refusals[0], AssociationError::Cluster(_)), "{}", refusals[0]);
        no_storm(count, wait, SECS(60));
        no_storm(refusals.len(), wait, SECS(60));
        assert_eq!(world.delivered(), 0);
    });
}

#[test]
fn row_24_another_wire_version_is_refused_on_both_sides_without_a_storm() {
    let ca = Ca::new();
    let good = ca.issue(&Claims::default());
    // A node dials one that speaks another version.
    simulate(async || {
        let mut world = lone(&ca);
        let network = world.network().clone();
        let _stranger = raw::listen(&network, socket_address(1), &ca, &good, "cluster-quic/2");
        let (error, count, wait) = dial_failures(&mut world, SECS(60)).await;
        println!("row 24: version, dialling: {error}; {count} dials a minute");
        assert!(matches!(error, AssociationError::Version(_)), "{error}");
        no_storm(count, wait, SECS(60));
    });
    // And is dialled by one.
    simulate(async || {
        let world = lone(&ca);
        let mut events = world.nodes[0].life().transport().events();
        let network = world.network().clone();
        let (from, to) = (socket_address(1), socket_address(0));
        let (_endpoint, connected) =
            raw::dial(&network, from, to, &ca, Some(&good), "cluster-quic/2").await;
        let theirs = connected.expect_err("no protocol in common").to_string();
        let error = refused(&mut events).await;
        println!("row 24: version, dialled: {error} / {theirs}");
        assert!(matches!(error, AssociationError::Version(_)), "{error}");
    });
}

/// The stranger beside all this is none: a good certificate passes.
#[test]
fn row_21_a_good_certificate_of_the_same_make_is_accepted() {
    simulate(async || {
        let mut world = pair(21, Pipe::default());
        world.tell(0, 1, 10, 100);
        world.quiet(SECS(10)).await;
        assert_eq!(world.all_acknowledged(), 10);
    });
    simulate(async || {
        let ca = Ca::new();
        let world = lone(&ca);
        let certificate = ca.issue(&Claims { name: HOST, ..Claims::default() });
        let network = world.network().clone();
        let (from, to) = (socket_address(1), socket_address(0));
        let (_endpoint, connected) =
            raw::dial(&network, from, to, &ca, Some(&certificate), ALPN).await;
        // What strangers are refused with gets through with a good certificate.
        burst_in(&connected.unwrap(), &hello(&world)).await;
        let arrived = |world: &World| world.nodes[0].life().sink.total() == 1;
        world.until("its tell", SECS(5), arrived).await;
    });
}
