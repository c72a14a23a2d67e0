//! One measurement.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use cluster_quic::DevCa;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};

use super::case::{Case, Subject};
use super::machine::Ticks;
use super::pair::{Pair, Setting};
use super::places::{Place, Places, hog};
use super::sink::Sink;
use super::times::Times;
use crate::Error;
use crate::probe::{self, Delay, Probe};
use crate::process::cpu_time;

/// How often gossip is sent.
const GOSSIP: Duration = Duration::from_millis(5);

/// Until tells go no faster.
const FILLED: Duration = Duration::from_secs(10);

/// What the first gossip may take.
const FIRST: Duration = Duration::from_secs(10);

pub(super) struct Outcome {
    pub(super) delays: Vec<Delay>,
    /// How many of them are of gossip that has not come, and are only as long as it was waited for.
    pub(super) missing: usize,
    pub(super) tells_per_second: f64,
    /// Processor time over time, of this process.
    pub(super) cores: Option<f64>,
    /// And of all others.
    pub(super) others: Option<f64>,
}

/// Probes that were sent, by their time.
type Sent = Arc<Mutex<HashSet<u64>>>;

pub(super) async fn round(
    ca: &DevCa,
    case: &Case,
    subject: Subject,
    times: Times,
) -> Result<Outcome, Error> {
    let places = Places::new(case.place)?;
    let epoch = Instant::now();
    let sink = Arc::new(Sink::new(case.blocks));
    let (heard, mut delays) = mpsc::unbounded_channel();
    let setting = Setting {
        ca,
        places: &places,
        place: case.place,
        sink: Arc::clone(&sink),
        epoch,
        heard,
        lane_budget: None,
    };
    let pair = Pair::connect(subject, setting).await?;
    first(&pair, epoch, &mut delays).await?;

    let _spinners: Vec<_> = (0..case.spinners).map(|_| Spinner::start()).collect();
    let mut load = None;
    if let Some(payload) = case.payload {
        let full = Arc::new(Notify::new());
        let saturate = pair.clone().saturate(Arc::clone(&sink), payload, Arc::clone(&full));
        load = Some(places.load.spawn(saturate));
        timeout(FILLED, full.notified()).await.map_err(|_| "the tells never were too many")?;
    }
    if case.place == Place::Hogged {
        hog(&places.from);
    }
    let sent = Sent::default();
    let begins = Arc::new(Notify::new());
    let send = {
        let (pair, sent, begins) = (pair.clone(), Arc::clone(&sent), Arc::clone(&begins));
        move |probe: &Probe| {
            sent.lock().unwrap_or_else(PoisonError::into_inner).insert(probe.sent);
            pair.gossip(probe);
            begins.notify_one();
        }
    };
    let gossip = places.daemons[0].spawn(probe::gossip(send, GOSSIP, epoch));
    // A busy runtime gets to a new task when it can.
    timeout(FIRST, begins.notified()).await.map_err(|_| "nothing gossips")?;
    let (begun, tells, cpu, machine) = (Instant::now(), sink.received(), cpu_time(), Ticks::now());
    sleep(times.round).await;
    let (took, tells) = (begun.elapsed().as_secs_f64(), sink.received() - tells);
    let cpu = cpu_time().zip(cpu).map(|(now, then)| now.saturating_sub(then).as_secs_f64());
    let cores = cpu.map(|cpu| cpu / took);
    let machine = Ticks::now().zip(machine).map(|(now, then)| now.cores_since(then));
    gossip.abort();
    let _ = gossip.await;

    let mut sent = std::mem::take(&mut *sent.lock().unwrap_or_else(PoisonError::into_inner));
    let mut arrived = Vec::new();
    let all = async {
        while !sent.is_empty() {
            let Some(delay) = delays.recv().await else { return };
            if sent.remove(&delay.sent) {
                arrived.push(delay);
            }
        }
    };
    let _ = timeout(times.last, all).await;
    let missing = sent.len();
    arrived.extend(sent.into_iter().map(|sent| Probe::delay(sent, epoch)));
    sink.release();
    if let Some(load) = load {
        load.abort();
    }
    Ok(Outcome {
        delays: arrived,
        missing,
        tells_per_second: tells as f64 / took,
        cores,
        others: machine.zip(cores).map(|(all, own)| (all - own).max(0.0)),
    })
}

/// Waits until gossip goes through: TCP connects with the first message.
pub(super) async fn first(
    pair: &Pair,
    epoch: Instant,
    delays: &mut mpsc::UnboundedReceiver<Delay>,
) -> Result<(), Error> {
    pair.gossip(&Probe::now(epoch));
    match timeout(FIRST, delays.recv()).await {
        Ok(Some(_)) => Ok(()),
        _ => Err(format!("no gossip arrived within {FIRST:?}").into()),
    }
}

/// A thread that wants a core, until it is dropped.
struct Spinner {
    _alive: Arc<()>,
}

impl Spinner {
    fn start() -> Self {
        let alive = Arc::new(());
        let watched = Arc::downgrade(&alive);
        thread::spawn(move || {
            while watched.strong_count() > 0 {
                std::hint::spin_loop();
            }
        });
        Self { _alive: alive }
    }
}
