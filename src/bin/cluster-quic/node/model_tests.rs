use super::super::sample::LinkFigures;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn peer(address: &str, lanes: Vec<LaneSample>) -> PeerSample {
    let figures = LinkFigures { rtt: Duration::from_micros(310), cwnd: 120_000, mtu: 1452 };
    PeerSample {
        address: address.into(),
        link: Link::Connected,
        incarnation: Some("#1795688336833891".into()),
        figures: Some(figures),
        in_flight_bytes: lanes.iter().map(|lane| lane.in_flight_bytes).sum(),
        lanes,
    }
}

fn model(now: Instant) -> Model {
    Model::new("akka.quic://sys@a:1".into(), "sys@a:1".into(), "#1".into(), now)
}

fn sample(peers: Vec<PeerSample>) -> Sample {
    Sample { members: vec![("sys@a:1".into(), Status::Up)], peers, ..Sample::default() }
}

#[test]
fn rates_are_taken_over_the_last_seconds_and_survive_a_forgotten_peer() {
    let (begin, clock) = (Instant::now(), SystemTime::UNIX_EPOCH);
    let mut model = model(begin);
    let lane = |tells: u64| LaneSample {
        in_tells: tells,
        in_bytes: 10 * tells,
        out_tells: 2 * tells,
        queued_bytes: 7,
        ..LaneSample::default()
    };
    let mut at =
        |seconds: u32, peers| model.observe(sample(peers), begin + SECOND * seconds, clock);
    at(0, vec![peer("sys@b:1", vec![lane(0)]), peer("sys@c:1", vec![lane(1000)])]);
    at(1, vec![peer("sys@b:1", vec![lane(100)]), peer("sys@c:1", vec![lane(1100)])]);
    at(2, vec![peer("sys@b:1", vec![lane(200)]), peer("sys@c:1", vec![lane(1200)])]);
    assert_eq!(model.lanes()[0].in_tells, 200);
    assert_eq!(model.lanes()[0].in_bytes, 2000);
    assert_eq!(model.all_lanes().out_tells, 400);
    assert_eq!(model.all_lanes().queued_bytes, 14);
    // One is forgotten, the other was forgotten meanwhile and counts anew: no rate is negative.
    model.observe(sample(vec![peer("sys@b:1", vec![lane(50)])]), begin + SECOND * 3, clock);
    assert_eq!(model.lanes()[0].in_tells, 100, "of the second before");
    assert_eq!(model.all_lanes().queued_bytes, 7);
    model.observe(sample(vec![]), begin + SECOND * 30, clock);
    assert_eq!(model.all_lanes(), LaneRow::default());
}

#[test]
fn members_come_first_and_guests_while_they_are_there() {
    let (now, clock) = (Instant::now(), SystemTime::UNIX_EPOCH);
    let mut model = model(now);
    let mut sample = sample(vec![
        peer("sys@b:1", vec![]),
        peer("sys@guest:1", vec![]),
        PeerSample { link: Link::Idle, ..peer("sys@gone:1", vec![]) },
    ]);
    sample.members.push(("sys@b:1".into(), Status::Joining));
    sample.leader = Some("sys@a:1".into());
    model.observe(sample, now, clock);
    let names: Vec<_> = model.nodes.iter().map(|node| (&*node.name, node.status)).collect();
    let expected =
        [("sys@a:1", Some(Status::Up)), ("sys@b:1", Some(Status::Joining)), ("sys@guest:1", None)];
    assert_eq!(names, expected);
    assert!(model.nodes[0].own && model.nodes[0].leader);
    assert_eq!((model.members(), model.connected()), ((2, 1), 2));
}

#[test]
fn changes_of_members_are_told_once() {
    let (now, clock) = (Instant::now(), SystemTime::UNIX_EPOCH);
    let mut model = model(now);
    let (mut seen, mut one) = (0, sample(vec![]));
    one.leader = Some("sys@a:1".into());
    let mut two = one.clone();
    two.members.push(("sys@b:1".into(), Status::Up));
    for sample in [&one, &one, &two, &two, &one] {
        model.observe(sample.clone(), now, clock);
    }
    let texts: Vec<_> = model.journal.since(&mut seen).map(|entry| &*entry.text).collect();
    let expected = [
        "sys@a:1 is Up",
        "sys@a:1 is the leader",
        "sys@b:1 is Up",
        "sys@b:1 is no member any more",
    ];
    assert_eq!(texts, expected);
}

#[test]
fn gossip_s_columns_hold_the_worst_and_gaps() {
    let begin = Instant::now();
    let mut gossip = Gossip::new(begin);
    let ms = Duration::from_millis;
    for (at, delay) in [(0, 3), (10, 9), (20, 2), (1600, 4)] {
        gossip.add(ms(delay), begin + ms(at));
    }
    assert_eq!(Vec::from(gossip.columns.clone()), [Some(ms(9)), None, None, Some(ms(4))]);
    assert_eq!(gossip.latest(), Some(ms(4)));
    assert_eq!(gossip.percentiles().unwrap().max, ms(9));
    // A minute later only the newer one counts; after a day it is done all the same.
    gossip.turn(begin + GOSSIP_OVER + SECOND);
    assert_eq!(gossip.percentiles().unwrap().number, 1);
    gossip.turn(begin + Duration::from_secs(86_400));
    assert_eq!((gossip.columns.len(), gossip.percentiles()), (COLUMNS, None));
}
