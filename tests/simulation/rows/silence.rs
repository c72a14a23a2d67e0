//! Row 19, of members: one that takes no notice of tells is given up, one that is slow or whose
//! application is not ready is not.

use std::time::Duration;

use cluster_quic::{
    AssociationError, ClusterTransport, Config, ConfigBuilder, CustomSocket, Event, LostReason,
    Runtime, gossip_inbox,
};
use quinn::{Connection, Endpoint};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::strangers::{hello, lone};
use super::{MS, SECS, associated, pair};
use crate::identity::{Ca, Claims, HOST};
use crate::network::Pipe;
use crate::raw::{self, ALPN, Hello};
use crate::seeds::simulate;
use crate::sink::{Record, Sink, TARGETS, tell};
use crate::world::{World, socket_address};

const TELLS: u64 = 100;

/// What a member does with what it is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Member {
    ReadsNothing,
    ReadsAndAcknowledgesNothing,
    /// Reads nothing either, and is gone before it would be given up.
    Leaves,
    /// The same, and whenever it comes again it is refused: it wants more of a send window than anybody has.
    WantsTooMuch,
}

/// How long one that leaves stays.
const STAYS: Duration = SECS_20;
const SECS_20: Duration = Duration::from_secs(20);

impl Member {
    /// What it says in its greeting; the first is in order.
    fn window(self, attempt: u64) -> u64 {
        match self {
            Self::WantsTooMuch if attempt > 1 => 1 << 40,
            _ => 64 * 1024,
        }
    }
}

/// A member that comes again whenever it is closed, and so often.
async fn come_again(world: &World, ca: &Ca, member: Member, times: u64) {
    let (from, to) = (socket_address(1), socket_address(0));
    let certificate = ca.issue(&Claims::default());
    let network = world.network().clone();
    for attempt in 1..=times {
        let (endpoint, connected) =
            raw::dial(&network, from, to, ca, Some(&certificate), ALPN).await;
        let connection = connected.unwrap();
        let (attempt, stream_window) = (attempt * 100, member.window(attempt));
        let hello = Hello { incarnation: 100, attempt, stream_window, ..hello(world) };
        raw::greet(&connection, &hello).await;
        match member {
            Member::ReadsNothing => drop(connection.closed().await),
            Member::Leaves | Member::WantsTooMuch => {
                let _ = timeout(STAYS, connection.closed()).await;
                connection.close(3_u32.into(), b"");
                endpoint.wait_idle().await;
            }
            Member::ReadsAndAcknowledgesNothing => {
                while let Ok(mut stream) = connection.accept_uni().await {
                    tokio::spawn(async move {
                        while let Ok(Some(_)) = stream.read_chunk(64 * 1024, true).await {}
                    });
                }
            }
        }
        drop(endpoint);
        network.unplug(from);
        sleep(MS(100)).await;
    }
}

/// When a node gave up a member, and when it reported its tells lost, after they were sent.
async fn given_up(member: Member, times: u64) -> (Vec<Duration>, Duration) {
    let ca = Ca::new();
    let mut world = lone(&ca);
    let mut events = world.nodes[0].life().transport().events();
    let peer = world.nodes[0].life().peer(1).clone();
    let node = async {
        peer.connect().await.unwrap();
        let begin = Instant::now();
        for n in 0..TELLS {
            let record = Record { from: 0, incarnation: 1, target: n % TARGETS, number: n };
            peer.tell(tell(record, 1_000)).unwrap();
        }
        let mut downs = Vec::new();
        loop {
            match events.recv().await.expect("the node lives") {
                Event::PeerDown { reason, .. } => {
                    match member {
                        Member::ReadsNothing | Member::ReadsAndAcknowledgesNothing => {
                            assert!(
                                matches!(reason, AssociationError::Unresponsive(_)),
                                "{reason}"
                            );
                        }
                        Member::Leaves | Member::WantsTooMuch => {
                            assert_eq!(reason, AssociationError::Disconnected);
                        }
                    }
                    downs.push(begin.elapsed());
                }
                Event::TellsLost { frames, reason, .. } => {
                    assert_eq!(reason, LostReason::Expired);
                    assert!(frames > 0);
                    return (downs, begin.elapsed());
                }
                _ => {}
            }
        }
    };
    let result = tokio::select! {
        biased;
        heard = timeout(SECS(300), node) => heard.expect("it is given up"),
        () = async {
            come_again(&world, &ca, member, times).await;
            std::future::pending().await
        } => unreachable!(),
    };
    let tells = peer.stats().tells();
    assert!(tells.is_balanced());
    assert_eq!(tells.lost(LostReason::Expired).frames, TELLS, "all lanes at once: {tells:?}");
    assert_eq!(world.nodes[0].life().transport().held_bytes(), 0);
    world.kill(0);
    result
}

#[test]
fn row_19_a_member_that_takes_no_notice_of_tells_is_given_up_and_they_are_reported() {
    for member in [Member::ReadsNothing, Member::ReadsAndAcknowledgesNothing] {
        // Once, so that there is no association after it; or over and over.
        for times in [1, 10] {
            simulate(async || {
                let (downs, lost) = given_up(member, times).await;
                println!("row 19: {member:?}, {times} times: given up {downs:?}, lost {lost:?}");
                assert!(downs[0] >= SECS(30) && downs[0] <= SECS(32), "{downs:?}");
                // Not before `retention`, and at most one association later.
                assert!(lost >= SECS(60) && lost <= SECS(95), "{lost:?}");
                assert_eq!(downs.len() > 1, times > 1);
            });
        }
    }
}

/// Nobody gives it up, for it is gone before; but it takes no more notice for it.
#[test]
fn row_19_a_member_that_leaves_over_and_over_holds_its_tells_no_longer() {
    for (member, latest) in [(Member::Leaves, STAYS + SECS(6)), (Member::WantsTooMuch, SECS(6))] {
        simulate(async || {
            let (downs, lost) = given_up(member, 10_000).await;
            println!("row 19: {member:?}: gone {downs:?}, lost {lost:?}");
            // `retention` after the end of the first association, and at most one later.
            let after = lost - downs[0];
            assert!(after >= SECS(60) && after <= SECS(60) + latest, "{after:?}");
            assert_eq!(downs.len() > 1, member == Member::Leaves);
        });
    }
}

/// A world of three, whose second place is a member's that speaks QUIC for itself, and has greeted.
async fn beside_a_member(
    adapt: impl Fn(ConfigBuilder) -> ConfigBuilder + 'static,
) -> (World, Endpoint, Connection) {
    let ca = Ca::new();
    let pipe = Pipe { delay: MS(5), ..Pipe::default() };
    let mut world = World::quic_with(19, 3, pipe, ca.identity(), adapt);
    world.kill(1);
    let certificate = ca.issue(&Claims::default());
    let (from, to) = (socket_address(1), socket_address(0));
    let network = world.network().clone();
    let (endpoint, connected) = raw::dial(&network, from, to, &ca, Some(&certificate), ALPN).await;
    let connection = connected.unwrap();
    raw::greet(&connection, &hello(&world)).await;
    let up = |world: &World| world.is_connected(0, 1);
    world.until("the member is accepted", SECS(5), up).await;
    (world, endpoint, connection)
}

/// The third node's tells, small and large, take as long as ever.
async fn others_are_untouched(world: &mut World) {
    let before = world.nodes[2].life().stats(0).tells().acknowledged_frames;
    world.tell(2, 0, 10, 100);
    world.tell(2, 0, 1, 4 << 20);
    let done = |world: &World| {
        let tells = world.nodes[2].life().stats(0).tells();
        tells.acknowledged_frames == before + 11
    };
    world.until("another peer's tells", SECS(5), done).await;
    assert_eq!((world.associations(2, 0), world.associations(0, 2)), (1, 1));
}

/// A slow loris that has greeted. Its tell arrives when it is whole.
#[test]
fn row_19_a_tell_that_comes_a_byte_a_second_costs_nobody_anything() {
    simulate(async || {
        let (mut world, _endpoint, connection) = beside_a_member(|config| config).await;
        let record = Record { from: 1, incarnation: 5, target: 0, number: 0 };
        let bytes = raw::stream(raw::TELL, &raw::tell_frame(tell(record, 32)));
        let mut stream = connection.open_uni().await.unwrap();
        // The header in time, which is limited.
        stream.write_all(&bytes[..9]).await.unwrap();
        for (second, byte) in bytes[9..].iter().enumerate() {
            assert_eq!(world.nodes[0].life().sink.count(1, 5), 0, "not whole yet");
            stream.write_all(&[*byte]).await.unwrap();
            if second % 30 == 0 {
                others_are_untouched(&mut world).await;
            }
            sleep(SECS(1)).await;
        }
        let whole = |world: &World| world.nodes[0].life().sink.count(1, 5) == 1;
        world.until("its tell", SECS(1), whole).await;
        assert_eq!(world.associations(0, 1), 1);
        println!("row 19: a tell of {} bytes, one a second, arrived", bytes.len());
        world.kill(0);
    });
}

/// As much as it can send of a frame of 15 MiB in each lane, in 5 s; and stands there.
async fn half_a_frame(connection: &Connection, lane: u8, most: usize) -> usize {
    let mut stream = connection.open_uni().await.unwrap();
    stream.write_all(&raw::stream(lane, &(15_u32 << 20).to_be_bytes())).await.unwrap();
    let (piece, mut sent) = (vec![0x5a; 64 * 1024], 0);
    while sent < most {
        match timeout(SECS(5), stream.write(&piece[..piece.len().min(most - sent)])).await {
            Ok(n) => sent += n.unwrap(),
            Err(_) => break,
        }
    }
    std::mem::forget(stream);
    sent
}

#[test]
fn row_19_half_frames_that_stand_hold_no_more_than_large_frames_may() {
    const BUDGET: usize = 20 << 20;
    const WINDOW: usize = 256 * 1024;
    simulate(async || {
        let adapt =
            |config: ConfigBuilder| config.large_budget(BUDGET).stream_window(WINDOW as u64);
        let (mut world, _endpoint, connection) = beside_a_member(adapt).await;
        // The first is let its 15 MiB, and uses half of that; for a second there is no room.
        let first = half_a_frame(&connection, raw::TELL, 8 << 20).await;
        assert_eq!(first, 8 << 20);
        let mut others = Vec::new();
        for lane in 1..4 {
            others.push(half_a_frame(&connection, raw::TELL + lane, 8 << 20).await);
        }
        let all = first + others.iter().sum::<usize>();
        println!("row 19: half frames in four lanes: {first} and {others:?} bytes taken");
        assert!(others.iter().all(|sent| (1..=WINDOW).contains(sent)), "{others:?}");
        assert!(all <= BUDGET);
        others_are_untouched(&mut world).await;
        sleep(SECS(60)).await;
        others_are_untouched(&mut world).await;
        assert!(connection.close_reason().is_none());
        assert_eq!(world.associations(0, 1), 1);
        world.kill(0);
    });
}

/// It is alive: its application has only not said yet where tells go.
#[test]
fn row_19_a_node_that_is_not_started_yet_is_waited_for() {
    simulate(async || {
        let ca = Ca::new();
        let mut world = lone(&ca);
        let config = Config::builder("sim")
            .runtime(Runtime::Simulated)
            .incarnation(100)
            .advertise_host(HOST)
            .build()
            .unwrap();
        let socket = world.network().socket(socket_address(1));
        let socket = CustomSocket { socket, seed: None };
        let node = ClusterTransport::bind_socket(config, &ca.identity(), socket).unwrap();
        let begin = Instant::now();
        assert_eq!(world.tell(0, 1, TELLS, 1_000), TELLS);
        for second in 1..=180 {
            sleep_until(begin + SECS(second)).await;
            world.check();
        }
        assert_eq!((world.associations(0, 1), world.nodes[0].life().downs.len()), (1, 0));
        assert!(world.is_connected(0, 1));
        node.start(gossip_inbox::<u64>(16).0, std::sync::Arc::new(Sink::default())).unwrap();
        let peer = world.nodes[0].life().peer(1).clone();
        timeout(SECS(5), peer.flush()).await.expect("acknowledged").unwrap();
        node.shutdown(SECS(1)).await;
    });
}

/// A tell that takes minutes is not a silence.
#[test]
fn row_19_a_large_tell_over_a_slow_link_is_waited_for() {
    simulate(async || {
        let pipe = Pipe { delay: MS(10), rate: Some(20_000.0), ..Pipe::default() };
        let mut world = pair(19, pipe);
        associated(&mut world).await;
        assert_eq!(world.tell(0, 1, 1, 2 << 20), 1);
        let took = world.quiet(SECS(300)).await;
        println!("row 19: 2 MiB in {took:?}");
        assert!(took >= SECS(100), "{took:?}");
        assert_eq!(world.associations(0, 1), 1);
        assert_eq!(world.all_acknowledged(), 2);
    });
}
