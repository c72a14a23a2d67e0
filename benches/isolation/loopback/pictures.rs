//! What it looked like.

use super::backlog::{Backlog, Drained};
use super::case::{Subject, Targets};
use super::measured::{Compared, Measured, P99_MS};
use super::rows::cells;
use crate::beside_bulk::Delays;
use crate::report::{
    Axis, Bar, Bars, Plot, Report, Series, Table, Unit, chart, grouped, median, percentile,
};

/// Between the rounds, in the pictures over time, in seconds.
const PAUSE: f64 = 0.1;

fn delay() -> Axis {
    Axis::log("gossip, one way", Unit::Milliseconds).mark(P99_MS, "p99 at most 2 ms")
}

/// All cases at a glance.
pub(super) fn overview(report: &mut Report, all: &[Compared]) {
    if all.is_empty() {
        return;
    }
    let section = report.section(
        "Loopback",
        "Two nodes in one process over real sockets on 127.0.0.1, which tell as fast as they can. \
         Gossip's delay is to depend neither on the tells' size, nor on their number, nor on a sink that \
         blocks, nor on an application that never lets go of its runtime. `tcp` is \
         `atomr_cluster::TcpClusterTransport`, where gossip stands behind the tells.\n\n\
         “of TCP's” is of the p99, “× Cubic” of the rate. “cores” is what this process used of the processor, “others” what the rest of the machine used \
         meanwhile: delays beside much of the latter are that machine's. “>” marks a case in which some \
         gossip had not come when it was waited for no longer.",
    );
    let groups = all.iter().map(|compared| {
        let bar = |measured: &Measured| Bar::new(measured.subject.name(), measured.p(99.0));
        (compared.case.name, compared.subjects.iter().map(bar).collect())
    });
    let bars = Bars::new("p99 of gossip's delay", delay());
    section.chart(chart::bars(&groups.fold(bars, |bars, (name, group)| bars.group(name, group))));
    section.table(table(all));
}

fn table(all: &[Compared]) -> Table {
    let headers = [
        "", "p50 ms", "p99 ms", "max ms", "of TCP's", "tells/s", "MB/s", "× Cubic", "cores",
        "others",
    ];
    let rows = all.iter().flat_map(|compared| {
        compared.subjects.iter().map(move |measured| {
            let mut cells = cells(compared, measured);
            cells[0] = format!("{}, {}", compared.case.name, measured.subject.name());
            cells
        })
    });
    rows.fold(Table::new(headers), |table, row| table.row(row))
}

/// One of them in detail.
pub(super) fn case(report: &mut Report, compared: &Compared) {
    let targets = match compared.case.targets {
        Targets::None => "It is not judged.",
        Targets::Delay => "Gossip's p99 is to stay within 2 ms.",
        Targets::All => {
            "Gossip's p99 is to stay within 2 ms and a two-hundredth of TCP's, at no less than 0.8 of \
             the rate with Cubic."
        }
    };
    let heading = format!("Loopback: {}", compared.case.name);
    let section = report.section(heading, format!("{} {targets}", compared.case.what));
    let series = |measured: &Measured, points| {
        Series::new(measured.subject.name(), points).colour(measured.subject.colour())
    };
    let over_time = compared.subjects.iter().map(|measured| series(measured, over_time(measured)));
    let plot = Plot::new(
        "Delay over time, rounds in a row",
        Axis::linear("sent at", Unit::Seconds),
        delay(),
    );
    section.chart(chart::lines(&plot, &over_time.collect::<Vec<_>>()));
    let samples = compared.subjects.iter().map(|measured| {
        Series::new(measured.subject.name(), measured.sorted.clone())
            .colour(measured.subject.colour())
    });
    section.chart(chart::distribution("Distribution", delay(), &samples.collect::<Vec<_>>()));
    section.table(table(std::slice::from_ref(compared)));
}

/// The rounds one behind the other, with gaps.
fn over_time(measured: &Measured) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    let mut offset = 0.0;
    for round in &measured.rounds {
        let mut delays = round.delays.clone();
        delays.sort_by_key(|delay| delay.sent);
        let Some(first) = delays.first().map(|delay| delay.sent) else { continue };
        let at = |sent: u64| offset + (sent - first) as f64 / 1e9;
        points.extend(delays.iter().map(|delay| (at(delay.sent), delay.took * 1e3)));
        points.push((f64::NAN, f64::NAN));
        offset = delays.last().map_or(offset, |delay| at(delay.sent)) + PAUSE;
    }
    points
}

/// Delay against the size of a backlog, and over time while it drains.
pub(super) fn backlogs(report: &mut Report, all: &[(Backlog, Vec<Drained>)]) {
    if all.is_empty() {
        return;
    }
    let section = report.section(
        "Loopback: delay against backlog",
        "Ten tells of 1 byte, 100 kB and 10 MB are queued at once, and 100 MB in 100 000 tells as well; \
         gossip follows every millisecond until the last tell has arrived. Only gossip that was sent while \
         the backlog lasted is counted.",
    );
    let ten = || all.iter().filter(|(backlog, _)| backlog.tells == 10);
    for (title, part) in [("Median delay", 50.0), ("p99 of the delay", 99.0)] {
        let series = Subject::ALL.into_iter().filter_map(|subject| {
            let points = ten().filter_map(|(backlog, drained)| {
                let of = drained.iter().find(|drained| drained.subject == subject)?;
                Some((backlog.bytes(), of.p(part)))
            });
            let points: Vec<_> = points.collect();
            let series = || Series::new(subject.name(), points.clone()).colour(subject.colour());
            (!points.is_empty()).then(series)
        });
        let plot = Plot::new(title, Axis::log("backlog", Unit::Bytes), delay());
        section.chart(chart::points(&plot, &series.collect::<Vec<_>>()));
    }
    for (backlog, drained) in all.iter().filter(|(backlog, _)| backlog.bytes() >= 1e8) {
        let series = drained.iter().filter_map(|of| {
            let drain = of.drains.last()?;
            let points = drain.points.iter().filter(|point| point.0 >= 0.0).copied().collect();
            Some(Series::new(of.subject.name(), points).colour(of.subject.colour()))
        });
        let ends = drained.iter().filter_map(|of| of.drains.last()?.points.last());
        let end = ends.map(|point| point.0).fold(0.0, f64::max);
        let title = format!("Delay while {} drain", words(backlog));
        let sent = Axis::linear("sent at", Unit::Seconds).range(0.0, end);
        let plot = Plot::new(title, sent, delay());
        section.chart(chart::lines(&plot, &series.collect::<Vec<_>>()));
    }
    let mut table = Table::new(["", "p50 ms", "p99 ms", "max ms", "gossip", "drained in, ms"]);
    for (backlog, drained) in all {
        for of in drained {
            let took: Vec<_> = of.drains.iter().map(|drain| drain.took * 1e3).collect();
            table = table.row([
                format!("{}, {}", words(backlog), of.subject.name()),
                format!("{:.2}", of.p(50.0)),
                format!("{:.2}", of.p(99.0)),
                format!("{:.2}", of.p(100.0)),
                of.sorted.len().to_string(),
                format!("{:.1}", median(took)),
            ]);
        }
    }
    section.table(table);
}

fn words(backlog: &Backlog) -> String {
    let bytes = |bytes: f64| Unit::Bytes.format(bytes);
    format!("{} × {}", grouped(backlog.tells as f64), bytes(backlog.payload as f64))
}

/// Small tells beside large ones.
pub(super) fn bulk(report: &mut Report, delays: &Delays) {
    let section = report.section(
        "Loopback: small tells beside 16 MiB tells",
        "One target receives tells of 16 MiB without end, two others a tell of 64 bytes every 2 ms. The \
         target path decides about a tell's lane: whose lane is not the large tells' does not wait for \
         them. Four lanes, the default.",
    );
    let lanes = [("another lane", &delays.other), ("the large tells' lane", &delays.same)];
    let series = lanes.map(|(name, sorted)| Series::new(name, sorted.clone()));
    let axis = Axis::log("small tell, one way", Unit::Milliseconds);
    section.chart(chart::distribution("Distribution", axis, &series));
    let table = Table::new(["", "p50 ms", "p99 ms", "max ms"]);
    section.table(lanes.into_iter().fold(table, |table, (name, sorted)| {
        let [p50, p99, max] =
            [50.0, 99.0, 100.0].map(|part| format!("{:.2}", percentile(sorted, part)));
        table.row([name.to_owned(), p50, p99, max])
    }));
}
