//! Row 21, of members: one whose greeting is in order and whose connection cannot be used all the same. It is
//! said, and a standing association that it would have replaced does not end in silence.

use cluster_quic::{AssociationError, Event, Events};
use quinn::{Connection, Endpoint};
use tokio::time::timeout;

use super::strangers::{hello, lone};
use super::{MS, SECS, defaults};
use crate::identity::{Ca, Claims};
use crate::network::Pipe;
use crate::raw::{self, ALPN, Hello};
use crate::seeds::simulate;
use crate::world::{World, socket_address};

/// Greets as the member at place 1, from place `from`.
async fn greet(
    world: &World,
    ca: &Ca,
    from: usize,
    attempt: u64,
    stream_window: u64,
) -> (Endpoint, Connection) {
    let certificate = ca.issue(&Claims::default());
    let (from, to) = (socket_address(from), socket_address(0));
    let (endpoint, connected) =
        raw::dial(world.network(), from, to, ca, Some(&certificate), ALPN).await;
    let connection = connected.unwrap();
    let hello = Hello { incarnation: 100, attempt, stream_window, ..hello(world) };
    raw::greet(&connection, &hello).await;
    (endpoint, connection)
}

async fn next(events: &mut Events) -> Event {
    timeout(SECS(10), events.recv()).await.expect("an event").expect("the node lives")
}

fn is_refused(error: &AssociationError) -> bool {
    matches!(error, AssociationError::Refused(text) if text.contains("send window"))
}

#[test]
fn row_21_a_connection_that_cannot_be_used_is_reported() {
    const TOO_MUCH: u64 = 1 << 40;
    simulate(async || {
        let ca = Ca::new();
        let pipe = Pipe { delay: MS(5), ..Pipe::default() };
        let mut world = World::quic_with(21, 3, pipe, ca.identity(), defaults);
        world.kill(1);
        world.kill(2);
        let mut events = world.nodes[0].life().transport().events();
        // Nothing stands yet.
        let first = greet(&world, &ca, 1, 1, TOO_MUCH).await;
        let event = next(&mut events).await;
        assert!(
            matches!(&event, Event::IncomingRefused { error, .. } if is_refused(error)),
            "{event:?}"
        );
        first.1.closed().await;
        first.0.wait_idle().await;
        world.network().unplug(socket_address(1));
        // The node dials it meanwhile, and waits for that before it takes another's connection.
        let second = greet(&world, &ca, 1, 2, 64 * 1024).await;
        loop {
            match next(&mut events).await {
                Event::PeerUp { .. } => break,
                Event::DialFailed { error: AssociationError::NoAnswer(_), .. } => {}
                other => panic!("{other:?}"),
            }
        }
        // And now something does, and is replaced.
        let _third = greet(&world, &ca, 2, 3, TOO_MUCH).await;
        let event = next(&mut events).await;
        assert!(
            matches!(&event, Event::PeerDown { reason, .. } if is_refused(reason)),
            "{event:?}"
        );
        timeout(SECS(1), second.1.closed()).await.expect("replaced");
        let stats = world.nodes[0].life().stats(1);
        assert!(stats.last_error.as_ref().is_some_and(is_refused), "{:?}", stats.last_error);
        assert!(stats.link.is_none());
        assert_eq!(stats.ended["refused"], 1);
        world.kill(0);
    });
}

/// A peer says that another connection takes this one's place, and none comes.
#[test]
fn row_21_a_promise_of_another_connection_that_is_not_kept_ends_the_association() {
    simulate(async || {
        let ca = Ca::new();
        let mut world = lone(&ca);
        let mut events = world.nodes[0].life().transport().events();
        let (_endpoint, connection) = greet(&world, &ca, 1, 1, 64 * 1024).await;
        assert!(matches!(next(&mut events).await, Event::PeerUp { .. }));
        connection.close(2_u32.into(), b"");
        let event = next(&mut events).await;
        let no_answer = |error: &AssociationError| matches!(error, AssociationError::NoAnswer(_));
        assert!(matches!(&event, Event::PeerDown { reason, .. } if no_answer(reason)), "{event:?}");
        let event = next(&mut events).await;
        assert!(matches!(&event, Event::DialFailed { error, .. } if no_answer(error)), "{event:?}");
        world.kill(0);
    });
}
