//! What was measured: the tables, the figures, and how far our aims are met.

use std::path::PathBuf;

use crate::counter::Outcome;
use crate::measure::GossipRound;
use crate::report::{Columns, Figure, grouped, median, percentile, write};

pub(crate) const OURS: &str = "cluster-quic";
pub(crate) const ZENOH: &str = "zenoh";
pub(crate) const TONIC: &str = "tonic";

/// How many times zenoh's rate ours is to be at least.
const AIMS: [(&str, f64); 3] = [("64B", 4.0), ("1KiB", 2.0), ("64KiB", 1.3)];

#[derive(Default)]
pub(crate) struct Results {
    rates: Vec<Rates>,
    delays: Vec<(&'static str, String, Delays)>,
    figures: Vec<Figure>,
}

/// A subject's rounds with one payload size.
pub(crate) struct Rates {
    pub(crate) case: &'static str,
    pub(crate) load: String,
    pub(crate) payload: usize,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Rates {
    /// Tells per second, round by round.
    fn each(&self) -> Vec<f64> {
        self.outcomes.iter().map(rate).collect()
    }

    fn bounds(&self) -> (f64, f64) {
        let fold = |of: fn(f64, f64) -> f64| self.each().into_iter().reduce(of).unwrap_or(0.0);
        (fold(f64::min), fold(f64::max))
    }

    fn megabytes(&self) -> f64 {
        median(self.each()) * self.payload as f64 / 1e6
    }
}

fn rate(outcome: &Outcome) -> f64 {
    outcome.tells as f64 / outcome.took.as_secs_f64()
}

/// Inverted and lost tells.
fn faults<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> [u64; 2] {
    outcomes.into_iter().fold([0, 0], |[inverted, lost], outcome| {
        [inverted + outcome.inversions, lost + outcome.lost]
    })
}

/// A subject's gossip beside one load.
#[derive(Default, Clone)]
pub(crate) struct Delays {
    /// In milliseconds, sorted.
    all: Vec<f64>,
    sent: usize,
    rounds: usize,
    tells: Vec<Outcome>,
}

impl Delays {
    pub(crate) fn add(&mut self, round: GossipRound) {
        self.all.extend(round.delays);
        self.all.sort_by(f64::total_cmp);
        self.sent += round.sent;
        self.rounds += 1;
        self.tells.extend(round.tells);
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds
    }

    fn at(&self, percent: f64) -> f64 {
        percentile(&self.all, percent)
    }

    fn missing(&self) -> usize {
        self.sent.saturating_sub(self.all.len())
    }
}

impl Results {
    pub(crate) fn rates(&mut self, rates: Rates) {
        let line = format!("{}/{}", rates.case, rates.load);
        eprintln!("rate/{line}: {} msg/s", grouped(median(rates.each())));
        self.rates.push(rates);
    }

    pub(crate) fn delays(&mut self, case: &'static str, load: String, delays: Delays) {
        eprintln!(
            "gossip/{case}/{load}: p50 {:.2} ms, p99 {:.2} ms",
            delays.at(50.0),
            delays.at(99.0)
        );
        self.delays.push((case, load, delays));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rates.is_empty() && self.delays.is_empty()
    }

    /// Whether our transport lost and reordered nothing.
    pub(crate) fn is_sound(&self) -> bool {
        let rates = self.rates.iter().filter(|rates| rates.case == OURS);
        let delays = self.delays.iter().filter(|(case, ..)| *case == OURS);
        let outcomes = rates.flat_map(|rates| &rates.outcomes);
        faults(outcomes.chain(delays.flat_map(|(.., delays)| &delays.tells))) == [0, 0]
    }

    /// How many times a peer's rate ours is: the median of the rounds' ratios.
    fn rate_ratio(&self, load: &str, peer: &str) -> Option<f64> {
        let of = |case| {
            self.rates
                .iter()
                .find(|rates| rates.case == case && rates.load == load)
                .map(Rates::each)
        };
        let (ours, theirs) = (of(OURS)?, of(peer)?);
        Some(median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()))
    }

    fn p99(&self, load: &str, case: &str) -> Option<f64> {
        let mut delays = self.delays.iter();
        let (.., delays) = delays.find(|(of, beside, _)| *of == case && beside == load)?;
        Some(delays.at(99.0))
    }

    /// Prints the tables.
    pub(crate) fn print(&mut self) {
        if !self.rates.is_empty() {
            self.print_rates();
        }
        if !self.delays.is_empty() {
            self.print_delays();
        }
        self.print_aims();
    }

    fn print_rates(&mut self) {
        let columns = Columns([
            ("case", 24),
            ("msg/s", 10),
            ("min-max", 21),
            ("MB/s", 8),
            ("x zenoh", 8),
            ("x tonic", 8),
            ("inverted", 9),
            ("lost", 5),
        ]);
        println!();
        columns.print_headers();
        let mut above: Option<&str> = None;
        for rates in &self.rates {
            let Rates { case, load, outcomes, .. } = rates;
            let (value, (min, max)) = (median(rates.each()), rates.bounds());
            let [inverted, lost] = faults(outcomes);
            let name = format!("rate/{case}/{load}");
            for (metric, unit, value) in [
                ("rate", "msg/s", value),
                ("rate min", "msg/s", min),
                ("rate max", "msg/s", max),
                ("payload rate", "MB/s", rates.megabytes()),
                ("inversions", "tells", inverted as f64),
                ("lost", "tells", lost as f64),
            ] {
                self.figures.push(Figure::new(&name, metric, unit, value));
            }
            let mut ratios = [const { String::new() }; 2];
            for (cell, peer) in ratios.iter_mut().zip([ZENOH, TONIC]).filter(|_| *case == OURS) {
                if let Some(ratio) = self.rate_ratio(load, peer) {
                    *cell = format!("{ratio:.2}");
                    let against = format!("rate/{peer}/{load}");
                    let figure = Figure::new(&name, "rate", "msg/s", value);
                    self.figures.push(figure.against(against, ratio));
                }
            }
            let [zenoh, tonic] = ratios;
            if above.replace(load).is_some_and(|above| above != load) {
                println!();
            }
            columns.print([
                format!("{case}/{load}"),
                grouped(value),
                format!("{}-{}", grouped(min), grouped(max)),
                format!("{:.1}", rates.megabytes()),
                zenoh,
                tonic,
                inverted.to_string(),
                lost.to_string(),
            ]);
        }
    }

    fn print_delays(&mut self) {
        let columns = Columns([
            ("gossip beside tells", 24),
            ("p50 ms", 8),
            ("p99 ms", 8),
            ("max ms", 8),
            ("sent", 6),
            ("missing", 8),
            ("tells/s", 10),
            ("inverted", 9),
            ("lost", 5),
        ]);
        println!();
        columns.print_headers();
        let mut above: Option<&str> = None;
        for (case, load, delays) in &self.delays {
            let name = format!("gossip/{case}/{load}");
            let [p50, p99, max] = [50.0, 99.0, 100.0].map(|percent| delays.at(percent));
            let speed = median(delays.tells.iter().map(rate).collect());
            let [inverted, lost] = faults(&delays.tells);
            for (metric, unit, value) in [
                ("delay p50", "ms", p50),
                ("delay max", "ms", max),
                ("missing", "gossip", delays.missing() as f64),
                ("rate beside", "msg/s", speed),
            ] {
                self.figures.push(Figure::new(&name, metric, unit, value));
            }
            let mut figure = Figure::new(&name, "delay p99", "ms", p99);
            if let Some(zenoh) = self.p99(load, ZENOH).filter(|_| *case == OURS) {
                figure = figure.against(format!("gossip/{ZENOH}/{load}"), p99 / zenoh);
            }
            self.figures.push(figure);
            if above.replace(load).is_some_and(|above| above != load) {
                println!();
            }
            let tells = |text: String| if delays.tells.is_empty() { String::new() } else { text };
            columns.print([
                format!("{case}/{load}"),
                format!("{p50:.2}"),
                format!("{p99:.2}"),
                format!("{max:.2}"),
                delays.sent.to_string(),
                delays.missing().to_string(),
                tells(grouped(speed)),
                tells(inverted.to_string()),
                tells(lost.to_string()),
            ]);
        }
    }

    fn print_aims(&self) {
        let said = |met: bool| if met { "met" } else { "missed" };
        println!();
        for (load, aim) in AIMS {
            if let Some(ratio) = self.rate_ratio(load, ZENOH) {
                let met = said(ratio >= aim);
                println!("{load:>6}: {ratio:.2} times zenoh's rate, aim {aim}: {met}");
            }
        }
        let loads = self.delays.iter().filter(|(case, ..)| *case == OURS).map(|(_, load, _)| load);
        for load in loads.filter(|load| *load != "idle") {
            if let (Some(ours), Some(zenoh)) = (self.p99(load, OURS), self.p99(load, ZENOH)) {
                let met = said(ours <= zenoh);
                println!("{load:>6}: gossip p99 {ours:.2} ms, aim zenoh's {zenoh:.2} ms: {met}");
            }
        }
    }

    /// Writes the JSON; returns where.
    pub(crate) fn write(&self) -> std::io::Result<PathBuf> {
        write(&self.figures)
    }
}
