//! What was measured: the tables, the figures, and how far our aims are met.

use crate::counter::Outcome;
use crate::measure::GossipRound;
use crate::report::{
    Axis, Bar, Bars, Column, Columns, Figure, Report, Unit, Written, chart, grouped, median,
    percentile,
};

pub(crate) const OURS: &str = "cluster-quic";
pub(crate) const ZENOH: &str = "zenoh";
pub(crate) const TONIC: &str = "tonic";

/// How many times zenoh's rate ours is to be at least.
const AIMS: [(&str, f64); 3] = [("64B", 4.0), ("1KiB", 2.0), ("64KiB", 1.3)];

pub(crate) struct Results {
    /// Begun before anything is measured.
    report: Report,
    rates: Vec<Rates>,
    delays: Vec<(&'static str, String, Delays)>,
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
    pub(crate) fn new() -> Self {
        let mut report = Report::new("peers", "cluster-quic beside zenoh and tonic");
        report
            .command("cargo run --release -p cluster-quic-peers")
            .fact("Compared with", concat!("zenoh ", env!("ZENOH"), ", tonic ", env!("TONIC")));
        Self { report, rates: Vec::new(), delays: Vec::new() }
    }

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

    /// Prints the tables and keeps them for the page.
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
        let mut columns = Columns::new([
            Column::left("case", 24),
            Column::right("msg/s", 10),
            Column::right("min-max", 21),
            Column::right("MB/s", 8),
            Column::right("x zenoh", 8),
            Column::right("x tonic", 8),
            Column::right("inverted", 9),
            Column::right("lost", 5),
        ]);
        println!();
        columns.print_headers();
        let mut chart = Bars::new("Tells per second", Axis::log("msg/s", Unit::Count));
        let mut group = (String::new(), Vec::new());
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
                self.report.figure(Figure::new(&name, metric, unit, value));
            }
            let mut ratios = [const { String::new() }; 2];
            for (cell, peer) in ratios.iter_mut().zip([ZENOH, TONIC]).filter(|_| *case == OURS) {
                if let Some(ratio) = self.rate_ratio(load, peer) {
                    *cell = format!("{ratio:.2}");
                    let against = format!("rate/{peer}/{load}");
                    let figure = Figure::new(&name, "rate", "msg/s", value);
                    self.report.figure(figure.against(against, ratio));
                }
            }
            let [zenoh, tonic] = ratios;
            if group.0 != *load {
                if !group.0.is_empty() {
                    println!();
                }
                chart = add_group(chart, std::mem::replace(&mut group, (load.clone(), Vec::new())));
            }
            group.1.push(Bar::new(*case, value).range(min, max));
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
        let text = "Tells to one target, from the first send until the receiver has the last: the median \
                    of the rounds, which are interleaved over the subjects; × is the median of the \
                    rounds' ratios. Inverted are tells behind one that was sent later.";
        let section = self.report.section("Rate", text);
        section.chart(chart::bars(&add_group(chart, group))).table(columns.table());
    }

    fn print_delays(&mut self) {
        let mut columns = Columns::new([
            Column::left("gossip beside tells", 24),
            Column::right("p50 ms", 8),
            Column::right("p99 ms", 8),
            Column::right("max ms", 8),
            Column::right("sent", 6),
            Column::right("missing", 8),
            Column::right("tells/s", 10),
            Column::right("inverted", 9),
            Column::right("lost", 5),
        ]);
        println!();
        columns.print_headers();
        let axis = Axis::log("p99 of the delay, one way", Unit::Milliseconds);
        let mut chart = Bars::new("Gossip beside tells", axis);
        let mut group = (String::new(), Vec::new());
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
                self.report.figure(Figure::new(&name, metric, unit, value));
            }
            let mut figure = Figure::new(&name, "delay p99", "ms", p99);
            if let Some(zenoh) = self.p99(load, ZENOH).filter(|_| *case == OURS) {
                figure = figure.against(format!("gossip/{ZENOH}/{load}"), p99 / zenoh);
            }
            self.report.figure(figure);
            if group.0 != *load {
                if !group.0.is_empty() {
                    println!();
                }
                chart = add_group(chart, std::mem::replace(&mut group, (load.clone(), Vec::new())));
            }
            group.1.push(Bar::new(*case, p99).range(p50, max));
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
        let text = "How long 200 bytes take one way, every 10 ms, while tells of the given size are sent \
                    as fast as the subject takes them. The bar is the 99th percentile, the line goes from \
                    the median to the longest.";
        let section = self.report.section("Gossip beside tells", text);
        section.chart(chart::bars(&add_group(chart, group))).table(columns.table());
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

    pub(crate) fn write(&self) -> std::io::Result<Written> {
        self.report.write()
    }
}

/// A group that has bars.
fn add_group(chart: Bars, (name, bars): (String, Vec<Bar>)) -> Bars {
    if bars.is_empty() { chart } else { chart.group(name, bars) }
}
