//! Certificates expire, by a wall clock that the tests turn.

use std::time::{Duration, SystemTime};

use cluster_quic::{
    AssociationError, CertificateOf, CertificateProblem, DevCa, Event, OnExpiry, PeerState, Side,
};
use tokio::time::sleep;

use crate::network::Pipe;
use crate::world::{DAY, Node, World, identity_for};

/// For everything that goes by the runtime's clock: ticks, dials, probes.
const WHILE: Duration = Duration::from_secs(30);

async fn warnings(node: &mut Node) -> Vec<(CertificateOf, SystemTime)> {
    let events = node.events_so_far().await.into_iter();
    let warning = |event| match event {
        Event::CertificateExpiring { whose, at } => Some((whose, at)),
        _ => None,
    };
    events.filter_map(warning).collect()
}

/// Both nodes' certificates live for `life`; the second one's a day longer.
async fn pair(world: &World, life: Duration, on_expiry: OnExpiry) -> (DevCa, Node, Node) {
    let ca = DevCa::new("ca").unwrap();
    let node = |life| world.node(&identity_for(&ca, &[&ca], life), |c| c.on_expiry(on_expiry));
    let (a, b) = (node(life), node(life + DAY));
    world.join(&a, &b);
    a.connect(&b).await;
    b.connect(&a).await;
    (ca, a, b)
}

#[tokio::test(start_paused = true)]
async fn warnings_come_a_week_before_and_then_daily_until_the_certificate_is_replaced() {
    let world = World::new(Pipe::default());
    let (ca, mut a, mut b) = pair(&world, 90 * DAY, OnExpiry::GoOn).await;
    let own = a.transport.identity_expires().unwrap();
    let of_b = b.transport.identity_expires().unwrap();
    assert_eq!(a.peer(&b).stats().certificate_expires, Some(of_b));
    assert_eq!(b.peer(&a).stats().certificate_expires, Some(own));
    let (this, b_s) = (CertificateOf::ThisNode, CertificateOf::Peer(b.address().clone()));

    // Eight days and a bit before a's expires, nine before b's.
    world.turn_clock(82 * DAY - Duration::from_secs(3600));
    sleep(WHILE).await;
    assert_eq!(warnings(&mut a).await, []);
    world.turn_clock(DAY + Duration::from_secs(7200));
    sleep(WHILE).await;
    assert_eq!(warnings(&mut a).await, [(this.clone(), own)]);
    assert_eq!(warnings(&mut b).await, [(CertificateOf::Peer(a.address().clone()), own)]);
    sleep(WHILE).await;
    assert_eq!(warnings(&mut a).await, [], "once");
    // A connection that comes with the same certificate is no news.
    a.peer(&b).disconnect();
    sleep(WHILE).await;
    assert_eq!(a.peer(&b).stats().state, PeerState::Connected);
    assert_eq!(warnings(&mut b).await, []);

    world.turn_clock(DAY);
    sleep(WHILE).await;
    let mut said = warnings(&mut a).await;
    said.sort_by_key(|(_, at)| *at);
    assert_eq!(said, [(this.clone(), own), (b_s.clone(), of_b)], "daily, each");

    // A new certificate for a: of b's alone there is still something to say.
    a.transport.renew(&identity_for(&ca, &[&ca], 300 * DAY)).unwrap();
    sleep(WHILE).await;
    world.turn_clock(DAY);
    sleep(WHILE).await;
    assert_eq!(warnings(&mut a).await, [(b_s, of_b)]);
    let (this, at) = warnings(&mut b).await.pop().unwrap();
    assert_eq!((this, at), (CertificateOf::ThisNode, of_b));
    assert_eq!(b.peer(&a).stats().certificate_expires, a.transport.identity_expires());
}

#[tokio::test(start_paused = true)]
async fn a_short_life_is_warned_of_in_its_last_third() {
    let world = World::new(Pipe::default());
    let ca = DevCa::new("ca").unwrap();
    let hour = Duration::from_secs(3600);
    let mut node = world.node(&identity_for(&ca, &[&ca], hour), |config| config);
    world.turn_clock(hour / 2);
    sleep(WHILE).await;
    assert_eq!(warnings(&mut node).await, []);
    world.turn_clock(hour / 4);
    sleep(WHILE).await;
    assert_eq!(warnings(&mut node).await.len(), 1);
    // Others may have it later still.
    let mut late = world.node(&identity_for(&ca, &[&ca], hour), |config| {
        config.expiry_warning(Duration::from_secs(60))
    });
    sleep(WHILE).await;
    assert_eq!(warnings(&mut late).await, []);
}

fn refused(event: &Event) -> Option<AssociationError> {
    match event {
        Event::DialFailed { error, .. } => Some(error.clone()),
        _ => None,
    }
}

fn down(event: &Event) -> Option<AssociationError> {
    match event {
        Event::PeerDown { reason, .. } => Some(reason.clone()),
        _ => None,
    }
}

fn expired(error: &AssociationError) -> Option<Side> {
    match error {
        AssociationError::Certificate(failure) => {
            assert_eq!(failure.problem, CertificateProblem::Expired, "{failure}");
            Some(failure.by)
        }
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn connections_outlive_their_certificates_and_new_ones_are_refused() {
    let world = World::new(Pipe::default());
    let (ca, mut a, mut b) = pair(&world, 90 * DAY, OnExpiry::GoOn).await;
    world.turn_clock(100 * DAY);
    sleep(WHILE).await;
    for (node, other) in [(&a, &b), (&b, &a)] {
        assert_eq!(node.peer(other).stats().state, PeerState::Connected);
        assert_eq!(node.peer(other).stats().associations, 1);
    }
    let at = a.transport.identity_expires().unwrap();
    assert!(at < world.now());
    assert!(warnings(&mut a).await.contains(&(CertificateOf::ThisNode, at)));
    // What is gone is gone: no dial succeeds.
    a.peer(&b).disconnect();
    a.peer(&b).send_gossip(&1_u64).unwrap();
    assert!(expired(&a.event(refused).await).is_some());
    sleep(WHILE).await;
    assert_ne!(a.peer(&b).stats().state, PeerState::Connected);
    // Until both have new certificates, which each node takes while it runs.
    for node in [&a, &b] {
        node.transport.renew(&identity_for(&ca, &[&ca], 300 * DAY)).unwrap();
    }
    a.connect(&b).await;
    let _ = b.events_so_far().await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_peer_that_is_to_be_cut_off_is() {
    let world = World::new(Pipe::default());
    let (_, mut a, mut b) = pair(&world, 90 * DAY, OnExpiry::End).await;
    // a's has half a day left, b's a day and a half.
    world.turn_clock(89 * DAY + DAY / 2);
    sleep(WHILE).await;
    assert_eq!(a.peer(&b).stats().state, PeerState::Connected);
    world.turn_clock(DAY);
    let begin = tokio::time::Instant::now();
    assert_eq!(expired(&b.event(down).await), Some(Side::Us));
    let took = begin.elapsed();
    println!("cut off after {took:?}");
    assert!(took <= Duration::from_millis(300), "{took:?}");
    assert_eq!(expired(&a.event(down).await), Some(Side::Peer));
}

/// Expiry is no reason to take a bundle's change for a revocation.
#[tokio::test(start_paused = true)]
async fn a_new_ca_bundle_does_not_end_what_has_expired_meanwhile() {
    let world = World::new(Pipe::default());
    let (ca, mut a, b) = pair(&world, 90 * DAY, OnExpiry::GoOn).await;
    let other = DevCa::new("other").unwrap();
    // Both certificates are over. a gets a new one; b is late.
    world.turn_clock(100 * DAY);
    a.transport.renew(&identity_for(&ca, &[&ca, &other], 300 * DAY)).unwrap();
    assert_eq!(expired(&a.event(refused).await), Some(Side::Us));
    sleep(WHILE).await;
    assert_eq!(a.peer(&b).stats().state, PeerState::Connected);
    let events = a.events_so_far().await;
    assert!(events.iter().all(|event| down(event).is_none()), "{events:?}");
    // b's, and the connection is replaced.
    b.transport.renew(&identity_for(&ca, &[&ca, &other], 300 * DAY)).unwrap();
    crate::world::until("another connection", || a.peer(&b).stats().associations > 1).await;
    assert_eq!(a.peer(&b).stats().certificate_expires, b.transport.identity_expires());
}
