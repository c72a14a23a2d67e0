//! A CA is taken out of the bundle: who has a certificate of it is cut off, soon and for a reason.

use std::time::Duration;

use cluster_quic::{
    AssociationError, CertificateProblem, DevCa, Event, PeerState, RemoteTellRef, Side,
};
use tokio::time::{Instant, sleep};

use crate::network::Pipe;
use crate::world::{NEVER, Node, World, identity, until};

/// How often connections are looked at.
const TICK: Duration = Duration::from_millis(250);

fn down(event: &Event) -> Option<AssociationError> {
    match event {
        Event::PeerDown { reason, .. } => Some(reason.clone()),
        _ => None,
    }
}

fn problem(error: &AssociationError, by: Side) -> CertificateProblem {
    match error {
        AssociationError::Certificate(failure) => {
            assert_eq!(failure.by, by, "{failure}");
            failure.problem.clone()
        }
        other => panic!("{other}"),
    }
}

struct Scene {
    world: World,
    new: DevCa,
    old: DevCa,
    /// Takes the old CA out of its bundle.
    strict: Node,
    /// Has a certificate of the old CA.
    revoked: Node,
    pipes: [crate::network::PipeId; 2],
}

async fn scene() -> Scene {
    let (old, new) = (DevCa::new("old").unwrap(), DevCa::new("new").unwrap());
    let world = World::new(Pipe::default());
    let strict = world.node(&identity(&new, &[&old, &new]), |config| config);
    let revoked = world.node(&identity(&old, &[&old, &new]), |config| config);
    let pipes = world.join(&strict, &revoked);
    strict.connect(&revoked).await;
    Scene { world, new, old, strict, revoked, pipes }
}

#[tokio::test(start_paused = true)]
async fn a_peer_whose_ca_is_taken_out_is_cut_off_at_once_and_comes_back_with_a_better_certificate()
{
    let Scene { new, old, mut strict, mut revoked, .. } = scene().await;
    let begin = Instant::now();
    strict.transport.renew(&identity(&new, &[&new])).unwrap();
    let reason = strict.event(down).await;
    let took = begin.elapsed();
    println!("cut off after {took:?}: {reason}");
    assert_eq!(problem(&reason, Side::Us), CertificateProblem::UnknownIssuer);
    assert!(took <= TICK + Duration::from_millis(50), "{took:?}");
    let reason = revoked.event(down).await;
    assert_eq!(problem(&reason, Side::Peer), CertificateProblem::UnknownIssuer);

    // Whoever of them dials, nothing comes of it.
    let (to, from) = (strict.peer(&revoked), revoked.peer(&strict));
    let tell = RemoteTellRef {
        target_path: "/one",
        manifest: "n",
        payload: &0_u64.to_le_bytes(),
        sender_path: None,
    };
    to.tell(tell).unwrap();
    from.tell(tell).unwrap();
    sleep(Duration::from_secs(25)).await;
    assert_ne!(to.stats().state, PeerState::Connected);
    assert_ne!(from.stats().state, PeerState::Connected);
    assert_eq!(strict.sink.received(revoked.address()), (0, 0));
    assert_eq!(revoked.sink.received(strict.address()), (0, 0));

    // A certificate of the new CA, and what waited arrives.
    revoked.transport.renew(&identity(&new, &[&old, &new])).unwrap();
    tokio::time::timeout(NEVER, async {
        to.flush().await.unwrap();
        from.flush().await.unwrap();
    })
    .await
    .expect("it is trusted again");
}

/// The peer, or somebody on the way, lets no handshake through.
#[tokio::test(start_paused = true)]
async fn a_revoked_peer_that_answers_no_dial_is_cut_off_after_the_dial_timeout() {
    let Scene { world, new, mut strict, revoked, pipes, .. } = scene().await;
    // Silence alone would end the connection by the idle timeout, 10 s from now.
    strict.transport.renew(&identity(&new, &[&new])).unwrap();
    world.cut(pipes);
    let begin = Instant::now();
    let reason = strict.event(down).await;
    let took = begin.elapsed();
    println!("cut off after {took:?}: {reason}");
    assert_eq!(problem(&reason, Side::Us), CertificateProblem::UnknownIssuer);
    let limit = Duration::from_secs(5);
    assert!(took >= limit - TICK && took <= limit + 2 * TICK, "{took:?}");
    drop(revoked);
}

/// The peer has a better certificate already, but the connection is older than that.
#[tokio::test(start_paused = true)]
async fn a_peer_that_has_a_better_certificate_by_now_is_not_cut_off() {
    let Scene { new, mut strict, mut revoked, .. } = scene().await;
    let (to, from) = (strict.peer(&revoked), revoked.peer(&strict));
    let before = to.stats().associations;
    // In one instant: what stands was made with the certificate of the old CA.
    revoked.transport.renew(&identity(&new, &[&new])).unwrap();
    strict.transport.renew(&identity(&new, &[&new])).unwrap();
    until("another connection", || to.stats().associations > before).await;
    sleep(Duration::from_secs(30)).await;
    for node in [&mut strict, &mut revoked] {
        for event in node.events_so_far().await {
            assert!(
                matches!(event, Event::PeerUp { .. } | Event::IdentityRenewed { .. }),
                "{event:?}"
            );
        }
    }
    for peer in [to, from] {
        assert_eq!(peer.stats().state, PeerState::Connected);
    }
}

/// The peer refuses our new certificate: that is its loss to prevent, and no reason to end what works.
#[tokio::test(start_paused = true)]
async fn a_certificate_that_the_peer_does_not_know_yet_leaves_the_connection_as_it_is() {
    let Scene { old, mut strict, mut revoked, .. } = scene().await;
    let unknown = DevCa::new("unknown").unwrap();
    let (to, from) = (strict.peer(&revoked), revoked.peer(&strict));
    strict.transport.renew(&identity(&unknown, &[&old])).unwrap();
    let failed = strict
        .event(|event| match event {
            Event::DialFailed { error, .. } => Some(error.clone()),
            _ => None,
        })
        .await;
    assert_eq!(problem(&failed, Side::Peer), CertificateProblem::UnknownIssuer);
    sleep(Duration::from_secs(30)).await;
    for peer in [&to, &from] {
        assert_eq!(peer.stats().state, PeerState::Connected);
        assert_eq!(peer.stats().associations, 1);
    }
    // Once it knows the CA, the next try succeeds.
    revoked.transport.renew(&identity(&old, &[&old, &unknown])).unwrap();
    until("another connection", || to.stats().associations > 1).await;
    for node in [&mut strict, &mut revoked] {
        let events = node.events_so_far().await;
        assert!(events.iter().all(|event| down(event).is_none()), "{events:?}");
    }
}
