//! Row 13: a connection ends after each packet of a small exchange.

use tokio::time::sleep;

use super::strangers::{hello, lone};
use super::{MS, SECS, defaults};
use crate::identity::{Ca, Certificate, Claims};
use crate::network::{Network, Pipe, PipeId};
use crate::random::Random;
use crate::raw::{self, ALPN, Hello};
use crate::seeds::{over_seeds, simulate};
use crate::sink::{Record, tell};
use crate::world::{World, socket_address};

/// How the connection ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// Nothing passes any more, until both sides have noticed.
    Silence,
    /// One side closes it.
    Closed(usize),
    /// The receiver of most tells dies.
    Death,
}

/// Leads both ways through one pipe, whose packets are counted together.
fn shared(world: &World) -> (Network, PipeId) {
    let network = world.network().clone();
    let pipe = network.pipe(Pipe { delay: MS(5), ..Pipe::default() });
    for (from, to) in [(0, 1), (1, 0)] {
        network.route(socket_address(from), socket_address(to), pipe);
    }
    (network, pipe)
}

/// A small exchange, ended after packet `k`; `None` once the exchange has no packet `k`.
fn exchange(k: u64, end: End) -> Option<u64> {
    simulate(async || {
        let mut world = World::quic(13, 2, Pipe::default(), |config| {
            config.idle_timeout(MS(1_000)).keep_alive(MS(300)).dial_timeout(MS(1_000)).tell_lanes(2)
        });
        let (network, pipe) = shared(&world);
        network.change(pipe, |pipe| pipe.carries = Some(k));
        // Frames smaller and larger than a packet, so that cuts fall within frames, too.
        world.tell(0, 1, 6, 100);
        world.tell(0, 1, 2, 4_000);
        world.tell(1, 0, 4, 100);
        let mut exhausted = false;
        for _ in 0..200 {
            sleep(MS(1)).await;
            exhausted = network.counts(pipe).packets > k;
            if exhausted || !world.has_pending() {
                break;
            }
        }
        if !exhausted {
            return None;
        }
        world.check();
        match end {
            End::Silence => sleep(MS(2_500)).await,
            End::Closed(n) => world.nodes[n].life().peer(1 - n).disconnect(),
            End::Death => world.kill(1),
        }
        network.change(pipe, |pipe| pipe.carries = None);
        if end == End::Death {
            world.start(1);
        }
        world.tell(0, 1, 3, 100);
        world.tell(1, 0, 3, 100);
        world.quiet(SECS(30)).await;
        if end != End::Death {
            assert_eq!(world.all_acknowledged(), 18, "exactly 1..N");
        }
        Some(world.associations(0, 1))
    })
}

#[test]
fn row_13_a_cut_after_any_packet_of_an_exchange_loses_and_doubles_nothing() {
    for end in [End::Silence, End::Closed(0), End::Closed(1), End::Death] {
        let mut packets = 0;
        while exchange(packets, end).is_some() {
            packets += 1;
            assert!(packets < 500);
        }
        println!("row 13: {end:?} after each of {packets} packets: each tell exactly once");
        assert!(packets > 20, "the exchange is longer than {packets} packets");
    }
}

/// What a member says in one connection that ends after byte `k`: its greeting, and two tells.
async fn say(world: &World, ca: &Ca, certificate: &Certificate, n: u64, k: usize) -> Option<u64> {
    let (from, to) = (socket_address(1), socket_address(0));
    let network = world.network().clone();
    let (endpoint, connected) = raw::dial(&network, from, to, ca, Some(certificate), ALPN).await;
    let connection = connected.unwrap();
    let greeting = raw::greeting(&Hello {
        incarnation: 1_000 + n,
        attempt: if k == usize::MAX { 2 } else { 1 },
        ..hello(world)
    });
    let tells = [0, 1].map(|number| {
        let record = Record { from: 1, incarnation: 1_000 + n, target: 0, number };
        raw::tell_frame(tell(record, 32))
    });
    let [first, second] = tells.each_ref().map(Vec::len);
    let lane = raw::stream(raw::TELL, &tells.concat());
    raw::write(&connection, &greeting[..k.min(greeting.len())]).await;
    let of_lane = k.saturating_sub(greeting.len());
    if of_lane > 0 {
        raw::write(&connection, &lane[..of_lane.min(lane.len())]).await;
    }
    // Until it has arrived.
    sleep(MS(30)).await;
    connection.close(0_u32.into(), b"");
    sleep(MS(30)).await;
    drop(endpoint);
    network.unplug(from);
    let frames = of_lane.saturating_sub(lane.len() - first - second);
    let whole = u64::from(frames >= first) + u64::from(frames >= first + second);
    (k < greeting.len() + lane.len()).then_some(whole)
}

/// After the cut it comes again and sends all of it once more, as one does that has heard of no acknowledgement.
#[test]
fn row_13_a_member_s_words_that_end_after_any_byte_are_taken_frame_by_frame() {
    simulate(async || {
        let ca = Ca::new();
        let mut world = lone(&ca);
        let certificate = ca.issue(&Claims::default());
        let heard = |world: &World, n| world.nodes[0].life().sink.count(1, 1_000 + n);
        let mut bytes = 0;
        while let Some(whole) = say(&world, &ca, &certificate, bytes, bytes as usize).await {
            assert_eq!(heard(&world, bytes), whole, "after {bytes} bytes");
            assert_eq!(say(&world, &ca, &certificate, bytes, usize::MAX).await, None);
            assert_eq!(heard(&world, bytes), 2, "cut after {bytes} bytes");
            bytes += 1;
        }
        let records = world.nodes[0].life().sink.records();
        let last = records.into_iter().map(|(_, record)| (record.incarnation, record.number));
        let last: Vec<_> = last.collect();
        assert!(last.is_sorted(), "in order");
        println!("row 13: cut after each of {bytes} bytes: each tell exactly once");
        assert!(bytes > 150, "{bytes}");
        world.kill(0);
    });
}

/// Cuts at random while data and acknowledgements fly, over and over.
#[test]
fn row_13_random_cuts_under_load_lose_and_double_nothing() {
    let name = "row_13_random_cuts_under_load_lose_and_double_nothing";
    let run = |seed| {
        simulate(async || {
            let mut random = Random::new(seed);
            let delay = random.millis(0, 10);
            let pipe = Pipe { delay, ..Pipe::default() };
            let mut world =
                World::quic(seed, 2, pipe, |config| defaults(config).backoff_min(MS(1)));
            for _ in 0..20 {
                for (from, to) in [(0, 1), (1, 0)] {
                    let (count, size) = (random.between(1, 30), random.between(32, 3_000));
                    world.tell(from, to, count, size as usize);
                }
                sleep(random.millis(0, 60)).await;
                let n = random.below(2);
                world.nodes[n].life().peer(1 - n).disconnect();
                world.check();
                sleep(random.millis(0, 20)).await;
            }
            world.quiet(SECS(60)).await;
            (world.all_acknowledged(), world.associations(0, 1))
        })
    };
    let runs = over_seeds(name, 50, run, |_| String::new());
    let tells: u64 = runs.iter().map(|(tells, _)| tells).sum();
    let associations: u64 = runs.iter().map(|(_, associations)| associations).sum();
    println!("row 13: random cuts: {tells} tells over {associations} associations, each once");
}
