//! What came out of a case's rounds.

use cluster_quic::DevCa;
use tokio::runtime::Runtime;

use super::case::{Case, Subject, Targets};
use super::round::{Outcome, round};
use super::times::Times;
use crate::report::{Figure, median, percentile, progress};
use crate::{Error, Options};

/// Gossip's p99 is to stay within this, in milliseconds.
pub(super) const P99_MS: f64 = 2.0;
/// And within this part of TCP's.
pub(super) const OF_TCP: f64 = 1.0 / 200.0;
/// The tells' rate is to be at least this part of Cubic's.
pub(super) const OF_CUBIC: f64 = 0.8;

/// A subject's rounds.
pub(super) struct Measured {
    pub(super) subject: Subject,
    /// Of all rounds, in milliseconds, in order of size.
    pub(super) sorted: Vec<f64>,
    pub(super) rounds: Vec<Outcome>,
}

impl Measured {
    fn new(subject: Subject, rounds: Vec<Outcome>) -> Self {
        let delays = rounds.iter().flat_map(|round| &round.delays);
        let mut sorted: Vec<_> = delays.map(|delay| delay.took * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        Self { subject, sorted, rounds }
    }

    pub(super) fn p(&self, percent: f64) -> f64 {
        percentile(&self.sorted, percent)
    }

    /// Gossip that had not come when it was waited for no longer.
    pub(super) fn missing(&self) -> usize {
        self.rounds.iter().map(|round| round.missing).sum()
    }

    pub(super) fn median(&self, of: impl Fn(&Outcome) -> Option<f64>) -> Option<f64> {
        let values: Vec<_> = self.rounds.iter().filter_map(of).collect();
        (!values.is_empty()).then(|| median(values))
    }

    pub(super) fn rate(&self) -> f64 {
        self.median(|round| Some(round.tells_per_second)).unwrap_or(0.0)
    }

    /// The median of the rounds' ratios.
    fn rate_against(&self, other: &Self) -> f64 {
        let pairs = self.rounds.iter().zip(&other.rounds);
        median(pairs.map(|(own, other)| own.tells_per_second / other.tells_per_second).collect())
    }
}

/// A case with all subjects that were wanted.
pub(super) struct Compared {
    pub(super) case: Case,
    pub(super) subjects: Vec<Measured>,
}

impl Compared {
    /// Runs the rounds, those of the subjects interleaved; `None` if none is wanted.
    pub(super) fn measure(
        options: &Options,
        director: &Runtime,
        ca: &DevCa,
        case: Case,
    ) -> Result<Option<Self>, Error> {
        let times = Times::of(options, &case);
        let wanted = |subject: &Subject| options.wants(&name(&case, *subject));
        let mut rounds: Vec<_> =
            Subject::ALL.into_iter().filter(wanted).map(|s| (s, Vec::new())).collect();
        for n in 1..=times.rounds {
            for (subject, outcomes) in &mut rounds {
                progress(&format!("{}: round {n} of {}", name(&case, *subject), times.rounds));
                let outcome = director.block_on(round(ca, &case, *subject, times))?;
                outcomes.push(outcome);
            }
        }
        progress("");
        let subjects: Vec<_> = rounds.into_iter().map(|(s, r)| Measured::new(s, r)).collect();
        Ok((!subjects.is_empty()).then_some(Self { case, subjects }))
    }

    pub(super) fn name(&self, subject: Subject) -> String {
        name(&self.case, subject)
    }

    pub(super) fn of(&self, subject: Subject) -> Option<&Measured> {
        self.subjects.iter().find(|measured| measured.subject == subject)
    }

    /// p99 of a subject, and how many times TCP's it is.
    pub(super) fn against_tcp(&self, measured: &Measured) -> Option<f64> {
        let tcp = self.of(Subject::Tcp).filter(|tcp| tcp.subject != measured.subject)?;
        Some(measured.p(99.0) / tcp.p(99.0))
    }

    /// The rate, as a part of Cubic's; none where there are few tells.
    pub(super) fn against_cubic(&self, measured: &Measured) -> Option<f64> {
        let cubic = self.of(Subject::Cubic).filter(|cubic| cubic.subject != measured.subject)?;
        let ratio = measured.rate_against(cubic);
        // In a short run it may be that none came.
        (self.has_rate() && ratio.is_finite()).then_some(ratio)
    }

    pub(super) fn has_rate(&self) -> bool {
        self.case.payload.is_some() && self.case.blocks.is_none()
    }

    pub(super) fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for measured in &self.subjects {
            let name = self.name(measured.subject);
            let against = |figure: Figure, subject, ratio: Option<f64>| match ratio {
                Some(ratio) => figure.against(self.name(subject), ratio),
                None => figure,
            };
            let p99 = Figure::new(&name, "gossip p99", "ms", measured.p(99.0));
            figures.push(Figure::new(&name, "gossip p50", "ms", measured.p(50.0)));
            figures.push(against(p99, Subject::Tcp, self.against_tcp(measured)));
            figures.push(Figure::new(&name, "gossip max", "ms", measured.p(100.0)));
            if self.case.payload.is_some() {
                let missing = measured.missing() as f64;
                figures.push(Figure::new(&name, "gossip that did not come", "probes", missing));
                let rate = Figure::new(&name, "tells", "1/s", measured.rate());
                figures.push(against(rate, Subject::Cubic, self.against_cubic(measured)));
            }
            for (metric, value) in [
                ("cores used", measured.median(|round| round.cores)),
                ("cores used by others", measured.median(|round| round.others)),
            ] {
                figures.extend(value.map(|value| Figure::new(&name, metric, "cores", value)));
            }
        }
        figures
    }

    /// What the default controller missed, in words.
    pub(super) fn missed(&self) -> Vec<String> {
        let Some(ours) = self.of(Subject::LowDelay) else { return Vec::new() };
        let mut missed = Vec::new();
        let mut demand = |holds: bool, what: String| {
            if !holds {
                missed.push(format!("{}: {what}", self.name(ours.subject)));
            }
        };
        if self.case.targets != Targets::None {
            let p99 = ours.p(99.0);
            demand(p99 <= P99_MS, format!("gossip p99 {p99:.2} ms, at most {P99_MS} ms"));
        }
        if self.case.targets == Targets::All {
            if let Some(ratio) = self.against_tcp(ours) {
                let part = 1.0 / ratio;
                demand(ratio <= OF_TCP, format!("gossip p99 1/{part:.0} of TCP's, at most 1/200"));
            }
            if let Some(ratio) = self.against_cubic(ours) {
                demand(ratio >= OF_CUBIC, format!("{ratio:.2} of Cubic's rate, at least 0.8"));
            }
        }
        missed
    }
}

fn name(case: &Case, subject: Subject) -> String {
    format!("loopback/{}/{}", case.name, subject.name())
}
