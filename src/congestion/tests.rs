//! Flows through a simulated bottleneck; `model.rs` says what it simulates.

mod model;

use std::time::{Duration, Instant};

use super::LowDelay;
use super::drain::Why;
use super::rtt::Peak;
use model::{Control, Flow, Link, Model};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn alone(link: Link, seconds: u64) -> Model {
    Model::new(link, vec![Flow::new(Control::low_delay(), 0, 1000)]).run(seconds)
}

/// The part of a link of so many megabits that a flow had between two seconds.
fn share(model: &Model, flow: usize, megabits: f64, from: u64, to: u64) -> f64 {
    model.flows[flow].rate(from, to) / (megabits * 125_000.0)
}

fn tenth() -> Link {
    Link::new(10.0, 20, 1_000_000)
}

fn hundred() -> Link {
    Link::new(100.0, 10, 2_500_000)
}

#[test]
fn the_queue_stays_short_and_the_link_full() {
    for (link, megabits, propagation) in [(tenth(), 10.0, ms(10)), (hundred(), 100.0, ms(5))] {
        let model = alone(link, 10);
        let p99 = model.flows[0].delay(0.99, 1, 10);
        assert!(p99 < propagation + ms(10), "{megabits} Mbit/s: {p99:?}");
        assert!(share(&model, 0, megabits, 1, 10) > 0.95);
        assert_eq!(model.drops, 0, "even in the startup");
    }
}

#[test]
fn flows_in_both_directions_do_not_take_each_other_s_queue_for_their_own() {
    for (link, megabits) in
        [(tenth as fn() -> Link, 10.0), (|| Link::new(16.0, 20, 4_000_000), 16.0), (hundred, 100.0)]
    {
        let one_way = alone(link(), 12).flows[0].delay(0.99, 4, 12);
        for after in [0, 3] {
            let there = Flow::new(Control::low_delay(), 0, 1000);
            let back = Flow::new(Control::low_delay(), after, 1000).back();
            let model = Model::new(link(), vec![there, back]).run(12);
            for (n, flow) in model.flows.iter().enumerate() {
                let delay = flow.delay(0.99, 4, 12);
                let shares: Vec<_> =
                    (5..12).map(|at| share(&model, n, megabits, at, at + 1)).collect();
                let least = shares.iter().copied().fold(1.0, f64::min);
                let mean = shares.iter().sum::<f64>() / shares.len() as f64;
                println!("{megabits} Mbit/s, {after} s, flow {n}: {delay:?}, {shares:.2?}");
                assert!(delay < one_way * 2 + ms(5), "{megabits} Mbit/s: {delay:?}");
                assert!(mean > 0.7 && least > 0.5, "{megabits} Mbit/s: {shares:.2?}");
            }
        }
    }
}

/// What a flow is left with, over a long round trip, must leave the other room to grow.
#[test]
fn the_second_direction_of_a_far_link_gets_its_share() {
    let there = Flow::new(Control::low_delay(), 0, 1000);
    let back = Flow::new(Control::low_delay(), 2, 1000).back();
    let link = Link::new(200.0, 40, 1_000_000);
    let model = Model::new(link, vec![there, back]).run(20);
    let shares = [0, 1].map(|n| share(&model, n, 200.0, 15, 20));
    println!("{shares:.2?}");
    assert!(shares.iter().all(|share| *share > 0.8), "{shares:.2?}");
}

#[test]
fn a_rate_that_drops_to_a_tenth_is_followed_in_both_directions() {
    let link = hundred().rate_from(4, 10.0).rate_from(10, 100.0);
    let there = Flow::new(Control::low_delay(), 0, 1000);
    let back = Flow::new(Control::low_delay(), 0, 1000).back();
    let model = Model::new(link, vec![there, back]).run(14);
    for flow in &model.flows {
        let delay = flow.delay(0.99, 7, 10);
        assert!(delay < ms(25), "{delay:?}");
    }
}

#[test]
fn random_loss_is_no_congestion() {
    let model = alone(tenth().loss(0.01), 10);
    assert!(share(&model, 0, 10.0, 1, 10) > 0.93);
    assert!(model.flows[0].delay(0.99, 1, 10) < ms(20));
}

#[test]
fn a_buffer_smaller_than_the_tolerated_delay_is_not_flooded() {
    // 30 kB are 2.4 ms; 10 kB are 0.8 ms, and only losses tell of the queue. Of 86 000 packets:
    // (quinn's pacer sends bursts of ten packets, 14 kB, so 10 kB cannot hold one.)
    for (buffer, drops, least) in [(30_000, 1_500, 0.9), (10_000, 4_000, 0.55)] {
        let model = alone(Link::new(100.0, 10, buffer), 10);
        let share = share(&model, 0, 100.0, 1, 10);
        assert!(share > least, "{share} with {buffer} B, {} drops", model.drops);
        assert!(model.drops < drops, "{} drops with {buffer} B", model.drops);
    }
}

#[test]
fn a_rate_that_drops_to_a_tenth_and_comes_back_is_followed() {
    let model = alone(hundred().rate_from(4, 10.0).rate_from(8, 100.0), 12);
    let flow = &model.flows[0];
    assert!(flow.delay(0.99, 5, 8) < ms(15), "{:?}", flow.delay(0.99, 5, 8));
    // With 2 % of a round trip's packets more each round, the tenth is reached again slowly.
    let low = share(&model, 0, 10.0, 5, 8);
    assert!(low > 0.75, "{low}");
    assert!(share(&model, 0, 100.0, 9, 12) > 0.9);
    assert!(flow.delay(0.99, 9, 12) < ms(15));
}

#[test]
fn a_longer_route_is_not_taken_for_a_queue() {
    let model = alone(hundred().rtt_from(4, 40), 12);
    assert!(share(&model, 0, 100.0, 6, 12) > 0.9, "{}", share(&model, 0, 100.0, 6, 12));
    assert!(model.flows[0].delay(0.99, 6, 12) < ms(30));
}

#[test]
fn two_flows_share_fairly() {
    for (link, megabits) in [(tenth(), 10.0), (hundred(), 100.0)] {
        let flows = [0, 2].map(|starts| Flow::new(Control::low_delay(), starts, 1000));
        let model = Model::new(link, flows.into()).run(16);
        for n in 0..2 {
            let share = share(&model, n, megabits, 6, 16);
            assert!((0.4..0.6).contains(&share), "{megabits} Mbit/s, flow {n}: {share}");
        }
        assert!(model.flows[0].delay(0.99, 6, 16) < ms(25));
    }
}

#[test]
fn a_flow_that_fills_the_buffer_does_not_push_it_aside() {
    let flows = vec![Flow::new(Control::low_delay(), 0, 1000), Flow::new(Control::cubic(), 2, 20)];
    let model = Model::new(hundred(), flows).run(30);
    assert!(share(&model, 0, 100.0, 4, 20) > 0.25, "{}", share(&model, 0, 100.0, 4, 20));
    // Once it is gone, so is the queue.
    assert!(share(&model, 0, 100.0, 27, 30) > 0.9);
    let after = model.flows[0].delay(0.99, 27, 30);
    assert!(after < ms(15), "{after:?}");
}

#[test]
fn a_short_buffer_that_is_kept_full_is_shared() {
    // As much fits in the buffer as the path holds, or twice that.
    for (link, megabits) in [
        (Link::new(100.0, 20, 250_000), 100.0),
        (Link::new(100.0, 10, 250_000), 100.0),
        (Link::new(200.0, 4, 200_000), 200.0),
    ] {
        let flows =
            vec![Flow::new(Control::low_delay(), 0, 1000), Flow::new(Control::cubic(), 2, 1000)];
        let model = Model::new(link, flows).run(30);
        let share = share(&model, 0, megabits, 6, 30);
        assert!(share > 0.2, "{megabits} Mbit/s: {share}");
    }
}

#[test]
fn a_second_doubt_or_a_risen_base_rtt_is_suspicious() {
    let mut hears = Hears::new();
    hears.acks(50, 10, ms(10), false);
    hears.control.window = 14_520.0;
    let begin = hears.now;
    let mut suspects = |after, found, before| {
        hears.control.suspect(begin + ms(after), ms(found), ms(before));
        (hears.control.suspicion.take().is_some(), hears.control.window() / 1452)
    };
    assert_eq!(suspects(0, 10, 10), (false, 10), "the queue was this flow's");
    assert_eq!(suspects(199, 10, 10), (true, 10), "it is there again within 20 round trips");
    assert_eq!(suspects(400, 10, 10), (false, 10), "long ago");
    // Half of the ten packets a millisecond that the path gave.
    assert_eq!(suspects(1000, 13, 10), (true, 65));
}

#[test]
fn a_suspicion_is_judged_after_four_round_trips() {
    let mut hears = Hears::new();
    hears.acks(50, 10, ms(10), false);
    hears.control.suspect(hears.now, ms(20), ms(10));
    let soon = hears.now + ms(79);
    assert!(hears.control.is_pushed_aside(soon, ms(10)).is_none());
    assert!(hears.control.suspicion.is_some(), "the queue has not had the time to come back");
    // Three packets a millisecond of ten.
    hears.acks(81, 3, ms(20), false);
    assert!(hears.control.is_pushed_aside(hears.now, ms(20)).is_some());
    assert!(hears.control.is_pushed_aside(hears.now, ms(10)).is_none(), "no queue");
    assert!(hears.control.suspicion.is_none());
}

#[test]
fn a_peak_is_remembered_for_ten_to_twenty_seconds() {
    let begin = Instant::now();
    let mut peak = Peak::default();
    peak.add(begin, 100.0);
    for second in 1..=11 {
        peak.add(begin + ms(second * 1000), 10.0);
    }
    assert_eq!(peak.rate(), 100.0);
    for second in 12..=22 {
        peak.add(begin + ms(second * 1000), 10.0);
    }
    assert_eq!(peak.rate(), 10.0);
}

#[test]
fn losses_in_a_drained_round_shrink_what_is_gone_on_with() {
    let mut hears = Hears::new();
    assert_eq!(hears.acks(20, 10, ms(10), false), 210);
    let (now, window) = (hears.now, hears.control.window);
    hears.control.begin_drain(now, window, ms(10), Why::Base);
    assert_eq!(hears.control.window() / 1452, 50, "half of what the path holds");
    hears.control.lost(now, now, 20 * 1452, false);
    assert_eq!(hears.acks(5, 5, ms(10), false), 50, "goes on");
    assert_eq!(hears.acks(30, 5, ms(10), false), 147, "0.7 of 210");
}

#[test]
fn persistent_congestion_begins_anew() {
    let begin = Instant::now();
    let mut control = LowDelay::new(begin, 1452);
    control.lost(begin + ms(500), begin, 14_520, true);
    assert_eq!(control.window(), 4 * 1452);
    // Doubling again.
    control.acked(begin + ms(501), 4 * 1452);
    control.end_acks(begin + ms(511), 0, false);
    assert_eq!(control.window(), 8 * 1452);
}

#[test]
fn the_startup_overshoots_by_less_than_what_the_path_holds() {
    // 100 ms of queue fit. 18 ms are inevitable, and the tolerated delay makes 32 ms of them.
    let model = alone(Link::new(100.0, 40, 1_250_000), 3);
    let flow = &model.flows[0];
    let longest = flow.delay(1.0, 0, 3) - ms(20);
    assert!(longest < ms(36), "{longest:?}");
    assert!(share(&model, 0, 100.0, 1, 2) > 0.9, "{}", share(&model, 0, 100.0, 1, 2));
}

/// What a controller hears: acknowledgements of so many packets every millisecond.
struct Hears {
    control: LowDelay,
    now: Instant,
}

impl Hears {
    fn new() -> Self {
        let now = Instant::now() + ms(1000);
        Self { control: LowDelay::new(now, 1452), now }
    }

    /// As many packets are in flight as the RTT takes.
    fn acks(&mut self, millis: u64, packets: u64, rtt: Duration, app_limited: bool) -> u64 {
        for _ in 0..millis {
            self.now += ms(1);
            for _ in 0..packets {
                self.control.acked(self.now - rtt, 1452);
            }
            let in_flight = packets * rtt.as_millis() as u64 * 1452;
            self.control.end_acks(self.now, in_flight, app_limited);
        }
        self.control.window() / 1452
    }
}

#[test]
fn a_false_sign_of_a_queue_ends_the_doubling_only() {
    let mut hears = Hears::new();
    assert_eq!(hears.acks(50, 10, ms(10), false), 510);
    // Five milliseconds of stuttering; then what was sent meanwhile, and before.
    let after = hears.acks(5, 10, ms(15), false);
    assert!((80..=110).contains(&after), "ten packets a millisecond are delivered: {after}");
    assert_eq!(hears.acks(5, 10, ms(10), false), after, "was sent before the window fell");
    let grown = hears.acks(40, 10, ms(10), false) - after;
    assert!((85..=101).contains(&grown), "a quarter of 400 packets: {grown}");
}

#[test]
fn a_queue_counts_though_the_sender_has_no_more_to_send() {
    let mut hears = Hears::new();
    let window = hears.acks(20, 10, ms(10), false);
    assert_eq!(window, 210);
    assert_eq!(hears.acks(10, 10, ms(10), true), window, "not used up, so it does not grow");
    // 150 packets of 210 are in flight: the queue is theirs.
    assert!(hears.acks(10, 10, ms(15), true) <= 105);
    // Little is: the queue is another's.
    let mut hears = Hears::new();
    let window = hears.acks(20, 10, ms(10), false);
    assert_eq!(hears.acks(50, 2, ms(15), true), window);
}
