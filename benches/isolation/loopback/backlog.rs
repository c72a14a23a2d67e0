//! A backlog of a certain size, queued at once, and gossip until it has drained.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cluster_quic::DevCa;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::case::Subject;
use super::pair::{Pair, Setting};
use super::places::{Place, Places};
use super::round::first;
use super::sink::Sink;
use crate::probe::{Delay, Probe};
use crate::report::{percentile, progress};
use crate::{Error, Options};

/// `tells` of `payload` bytes each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backlog {
    pub(super) name: &'static str,
    pub(super) tells: usize,
    pub(super) payload: usize,
    /// How often it is queued and drained, in a full run.
    repeats: usize,
}

impl Backlog {
    pub(super) fn bytes(&self) -> f64 {
        (self.tells * self.payload) as f64
    }
}

/// The last one is the third in small tells.
pub(super) const BACKLOGS: [Backlog; 4] = [
    Backlog { name: "10B", tells: 10, payload: 1, repeats: 200 },
    Backlog { name: "1MB", tells: 10, payload: 100_000, repeats: 100 },
    Backlog { name: "100MB", tells: 10, payload: 10_000_000, repeats: 10 },
    Backlog { name: "100MB-of-1kB", tells: 100_000, payload: 1000, repeats: 5 },
];

/// All of it fits into one lane.
const LANE: usize = 256 * 1024 * 1024;

const GOSSIP: Duration = Duration::from_millis(1);
/// Gossip before and after, for the picture.
const AROUND: Duration = Duration::from_millis(20);
const DRAINED: Duration = Duration::from_secs(30);

/// Gossip beside one backlog, from when it began to be queued.
pub(super) struct Drain {
    /// When each was sent, in seconds, and what it took, in milliseconds.
    pub(super) points: Vec<(f64, f64)>,
    /// How long the backlog lasted, in seconds.
    pub(super) took: f64,
}

pub(super) struct Drained {
    pub(super) subject: Subject,
    pub(super) drains: Vec<Drain>,
    /// Delays of gossip that was sent while the backlog lasted, in milliseconds, in order of size.
    pub(super) sorted: Vec<f64>,
}

impl Drained {
    pub(super) fn p(&self, percent: f64) -> f64 {
        percentile(&self.sorted, percent)
    }
}

pub(super) fn name(backlog: &Backlog, subject: Subject) -> String {
    format!("loopback/backlog-{}/{}", backlog.name, subject.name())
}

/// `None` if it is not wanted.
pub(super) async fn measure(
    options: &Options,
    ca: &DevCa,
    backlog: &Backlog,
    subject: Subject,
) -> Result<Option<Drained>, Error> {
    let name = name(backlog, subject);
    if !options.wants(&name) {
        return Ok(None);
    }
    let repeats = if options.quick { (backlog.repeats / 10).max(2) } else { backlog.repeats };
    let places = Places::new(Place::Shared)?;
    let epoch = Instant::now();
    let sink = Arc::new(Sink::new(None));
    let (heard, mut delays) = mpsc::unbounded_channel();
    let setting = Setting {
        ca,
        places: &places,
        place: Place::Shared,
        sink: Arc::clone(&sink),
        epoch,
        heard,
        lane_budget: Some(LANE),
    };
    let pair = Pair::connect(subject, setting).await?;
    first(&pair, epoch, &mut delays).await?;
    let mut drains = Vec::new();
    for n in 1..=repeats {
        progress(&format!("{name}: {n} of {repeats}"));
        let done = sink.received() + backlog.tells as u64;
        let gossiping =
            places.daemons[0].spawn(gossip(pair.clone(), Arc::clone(&sink), done, epoch));
        sleep(AROUND).await;
        let begun = epoch.elapsed();
        let (queueing, of) = (pair.clone(), *backlog);
        let queued = places.load.spawn(async move {
            queueing.queue(of.tells, of.payload)?;
            // Behind all of it, however soon it is gone.
            let probe = Probe::now(epoch);
            queueing.gossip(&probe);
            Ok::<_, Error>(probe.sent)
        });
        let (mut sent, ended) = timeout(DRAINED, gossiping)
            .await
            .map_err(|_| format!("{name}: not drained within {DRAINED:?}"))??;
        sent.insert(queued.await??);
        let mut points = Vec::new();
        let all = async {
            while !sent.is_empty() {
                let Some(Delay { sent: at, took }) = delays.recv().await else { return };
                sent.remove(&at);
                points.push((at as f64 / 1e9 - begun.as_secs_f64(), took * 1e3));
            }
        };
        timeout(DRAINED, all).await.map_err(|_| format!("{name}: gossip did not come"))?;
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        drains.push(Drain { points, took: ended.saturating_sub(begun).as_secs_f64() });
    }
    progress("");
    let during = drains.iter().flat_map(|drain| {
        let until = drain.took;
        drain.points.iter().filter(move |point| (0.0..=until).contains(&point.0))
    });
    let mut sorted: Vec<_> = during.map(|point| point.1).collect();
    sorted.sort_by(f64::total_cmp);
    Ok(Some(Drained { subject, drains, sorted }))
}

/// Gossips until the sink has `done` tells, and a little longer; returns when what was sent, and when the
/// sink had them.
async fn gossip(
    pair: Pair,
    sink: Arc<Sink>,
    done: u64,
    epoch: Instant,
) -> (HashSet<u64>, Duration) {
    let mut tick = interval(GOSSIP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut sent, mut ended) = (HashSet::new(), None);
    loop {
        tick.tick().await;
        let now = epoch.elapsed();
        if sink.received() >= done {
            ended.get_or_insert(now);
        }
        if let Some(ended) = ended.filter(|ended| now >= *ended + AROUND) {
            return (sent, ended);
        }
        let probe = Probe::now(epoch);
        sent.insert(probe.sent);
        pair.gossip(&probe);
    }
}
