//! Statistics as samples of metrics.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::table::{self as t, Kind, Metric};
use crate::error::AssociationError;
use crate::event::LostReason;
use crate::lane::Lane;
use crate::stats::{LaneStats, PeerState, PeerStats, ReceivedStats};

/// One metric of one lane (if it is a lane's), for one word (if it has one).
#[derive(Debug, Clone, Copy)]
pub(super) struct Series {
    pub(super) metric: &'static Metric,
    pub(super) lane: Option<Lane>,
    pub(super) word: Option<&'static str>,
}

impl Series {
    fn key(&self) -> (&'static str, Option<Lane>, Option<&'static str>) {
        (self.metric.name, self.lane, self.word)
    }
}

impl PartialEq for Series {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Series {}

impl PartialOrd for Series {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Series {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

pub(super) type Counters = BTreeMap<Series, u64>;
pub(super) type Gauges = BTreeMap<Series, f64>;

/// What was counted and measured at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples {
    pub(super) counters: Counters,
    pub(super) gauges: Gauges,
}

/// Takes samples; of several lanes together, if lanes are not told apart.
struct Taker {
    samples: Samples,
    by_lane: bool,
}

impl Taker {
    fn count(&mut self, metric: &'static Metric, lane: Option<Lane>, value: u64) {
        self.count_by(metric, lane, None, value);
    }

    fn count_by(
        &mut self,
        metric: &'static Metric,
        lane: Option<Lane>,
        word: Option<&'static str>,
        value: u64,
    ) {
        let lane = lane.filter(|_| self.by_lane);
        *self.samples.counters.entry(Series { metric, lane, word }).or_default() += value;
    }

    fn gauge(&mut self, metric: &'static Metric, lane: Option<Lane>, value: f64) {
        let lane = lane.filter(|_| self.by_lane);
        fold_in(&mut self.samples.gauges, Series { metric, lane, word: None }, value);
    }
}

/// Adds one more peer's or lane's gauge.
pub(super) fn fold_in(gauges: &mut Gauges, series: Series, value: f64) {
    let known = gauges.entry(series).or_insert(match series.metric.kind {
        Kind::Counter | Kind::Gauge => 0.0,
        Kind::Largest | Kind::Smallest => value,
    });
    *known = match series.metric.kind {
        Kind::Counter | Kind::Gauge => *known + value,
        Kind::Largest => known.max(value),
        Kind::Smallest => known.min(value),
    };
}

/// One peer's. Lanes that nothing was ever sent in are left out. `now`: what certificates' dates are held
/// against.
pub(super) fn of_peer(stats: &PeerStats, by_lane: bool, now: SystemTime) -> Samples {
    let mut taker = Taker { samples: Samples::default(), by_lane };
    let take = &mut taker;
    take.count(&t::ASSOCIATIONS, None, stats.associations);
    // Zeros too: an alarm on an increase needs somewhere to begin.
    for kind in AssociationError::MISCONFIGURED {
        take.count_by(&t::DIALS_FAILED, None, Some(kind), 0);
    }
    for (metric, counts) in [(&t::ENDED, &stats.ended), (&t::DIALS_FAILED, &stats.failed_dials)] {
        for (kind, count) in counts {
            take.count_by(metric, None, Some(kind), *count);
        }
    }
    take.count(&t::PACKETS_SENT, None, stats.sent_packets);
    take.count(&t::PACKETS_LOST, None, stats.lost_packets);
    take.count(&t::GOSSIP_ACCEPTED, None, stats.gossip.accepted);
    take.count(&t::GOSSIP_SENT, None, stats.gossip.sent);
    take.count(&t::GOSSIP_DROPPED, None, stats.gossip.dropped);
    take.count(&t::GOSSIP_RECEIVED, None, stats.gossip_received);
    take.gauge(&t::GOSSIP_QUEUED, None, stats.gossip.queued as f64);
    take.gauge(&t::GOSSIP_QUEUED_BYTES, None, stats.gossip.queued_bytes as f64);
    let connected = stats.state == PeerState::Connected;
    take.gauge(&t::CONNECTED, None, f64::from(u8::from(connected)));
    take.gauge(&t::QUARANTINED, None, f64::from(u8::from(stats.quarantined.is_some())));
    take.gauge(&t::UNREACHABLE, None, seconds(stats.unreachable_for));
    if let Some(at) = stats.certificate_expires {
        take.gauge(&t::EXPIRY, None, until(at, now));
    }
    if let Some(link) = &stats.link {
        take.gauge(&t::RTT, None, link.rtt.as_secs_f64());
        take.gauge(&t::WINDOW, None, link.congestion_window as f64);
        take.gauge(&t::MTU, None, f64::from(link.mtu));
    }
    for (lane, stats) in &stats.lanes {
        if stats.accepted_frames > 0 || stats.refused_full > 0 {
            sent(take, *lane, stats);
        }
    }
    for (lane, stats) in &stats.received {
        received(take, *lane, stats);
    }
    taker.samples
}

fn sent(take: &mut Taker, lane: Lane, stats: &LaneStats) {
    let lane = Some(lane);
    take.count(&t::ACCEPTED, lane, stats.accepted_frames);
    take.count(&t::ACCEPTED_BYTES, lane, stats.accepted_bytes);
    take.count(&t::ACKNOWLEDGED, lane, stats.acknowledged_frames);
    take.count(&t::ACKNOWLEDGED_BYTES, lane, stats.acknowledged_bytes);
    // Zeros too: an alarm on an increase needs somewhere to begin.
    for reason in LostReason::ALL {
        let lost = stats.lost(reason);
        take.count_by(&t::LOST, lane, Some(reason.kind()), lost.frames);
        take.count_by(&t::LOST_BYTES, lane, Some(reason.kind()), lost.bytes);
    }
    take.count(&t::FULL, lane, stats.refused_full);
    take.count(&t::RESENT, lane, stats.resent_frames);
    take.count(&t::STUCK, lane, stats.stuck_episodes);
    take.gauge(&t::QUEUED, lane, stats.queued_frames as f64);
    take.gauge(&t::QUEUED_BYTES, lane, stats.queued_bytes as f64);
    take.gauge(&t::IN_FLIGHT, lane, stats.in_flight_frames as f64);
    take.gauge(&t::IN_FLIGHT_BYTES, lane, stats.in_flight_bytes as f64);
    take.gauge(&t::STUCK_FOR, lane, seconds(stats.stuck_for));
}

fn received(take: &mut Taker, lane: Lane, stats: &ReceivedStats) {
    let lane = Some(lane);
    take.count(&t::DELIVERED, lane, stats.delivered_frames);
    take.count(&t::DUPLICATED, lane, stats.duplicates);
    take.count(&t::FRAMES_REFUSED, lane, stats.refused_frames);
    take.count(&t::PANICS, lane, stats.sink_panics);
    take.gauge(&t::WAITING, lane, stats.waiting_frames as f64);
    take.gauge(&t::WAITING_BYTES, lane, stats.waiting_bytes as f64);
}

/// The node's own.
pub(super) fn of_node(
    peers: &[PeerStats],
    refused: &BTreeMap<&'static str, u64>,
    held: usize,
    expires: Option<SystemTime>,
    now: SystemTime,
) -> Samples {
    let mut samples = Samples::default();
    let series = |metric, word| Series { metric, lane: None, word };
    let states = [
        (PeerState::Idle, "idle"),
        (PeerState::Connecting, "connecting"),
        (PeerState::Connected, "connected"),
    ];
    for (state, word) in states {
        let count = peers.iter().filter(|peer| peer.state == state).count();
        samples.gauges.insert(series(&t::PEERS, Some(word)), count as f64);
    }
    samples.gauges.insert(series(&t::HELD, None), held as f64);
    if let Some(at) = expires {
        samples.gauges.insert(series(&t::OWN_EXPIRY, None), until(at, now));
    }
    for kind in AssociationError::REFUSALS {
        samples.counters.insert(series(&t::REFUSED, Some(kind)), 0);
    }
    for (kind, count) in refused {
        samples.counters.insert(series(&t::REFUSED, Some(kind)), *count);
    }
    samples
}

/// Seconds from `now`; negative if it is past.
fn until(at: SystemTime, now: SystemTime) -> f64 {
    match at.duration_since(now) {
        Ok(left) => left.as_secs_f64(),
        Err(past) => -past.duration().as_secs_f64(),
    }
}

fn seconds(time: Option<Duration>) -> f64 {
    time.unwrap_or_default().as_secs_f64()
}
