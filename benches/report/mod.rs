//! What the benchmarks share to tell what they measured: figures as JSON, a page with charts, lines and
//! tables on the console.
//!
//! A benchmark includes it with `#[path = "../report/mod.rs"] mod report;`. It knows nothing of the crate,
//! so that benchmarks of other transports can include it too; it needs `serde` (with `derive`),
//! `serde_json` and `time`.
//!
//! ```text
//! let mut report = Report::new("isolation", "Gossip beside a backlog of tells");
//! report.figure(Figure::new("quic/10MB", "delay p99", "ms", 1.4).against("tcp/10MB", 0.01));
//! let plot = Plot::new(
//!     "Delay while the backlog drains",
//!     Axis::linear("time", Unit::Seconds),
//!     Axis::log("delay", Unit::Milliseconds).mark(50.0, "target: 50 ms"),
//! );
//! report
//!     .section("Delay over time", "What it shows. `code` is set as such.\n\nAnother paragraph.")
//!     .chart(chart::lines(&plot, &[Series::new("quic", points)]))
//!     .table(Table::new(["case", "p50", "p99"]).row(["quic", "0.2 ms", "1.4 ms"]));
//! let written = report.write()?; // target/bench/isolation.json, target/bench/isolation.html
//! ```

#![allow(dead_code, unused_imports, reason = "no benchmark uses every kind of chart and helper")]

pub(crate) mod chart;
mod console;
mod facts;
mod figure;
mod html;
mod output;
mod page;
mod statistics;

pub(crate) use chart::{Axis, Bar, Bars, Plot, Series, Unit};
pub(crate) use console::{Column, Columns, progress};
pub(crate) use figure::{Figure, json};
pub(crate) use html::{Table, escape};
pub(crate) use output::Written;
pub(crate) use page::{Report, Section};
pub(crate) use statistics::{grouped, median, percentile};
