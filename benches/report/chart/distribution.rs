//! Which share of samples is how large: the tail of a distribution, down to one in a thousand.

use super::decimate::decimate;
use super::frame::{Frame, Key};
use super::{Axis, Plot, Series, Unit, legend};

/// The rarest that is shown.
const LEAST: f64 = 0.001;

/// Samples are along `axis`; the height is the share of those that are at least so large.
pub(crate) fn distribution(title: &str, axis: Axis, series: &[Series<f64>]) -> String {
    let share = Axis::log("share of samples at or above", Unit::Share).range(LEAST, 1.0);
    let plot = Plot::new(title, axis, share);
    let samples = || series.iter().flat_map(|series| &series.values).copied();
    let mut frame = Frame::new(&plot, series, Key::Line, samples(), std::iter::empty());
    for (series, (colour, _)) in series.iter().zip(legend(series)).rev() {
        let steps: Vec<_> = steps(&series.values).map(|step| frame.place(step)).collect();
        if !steps.is_empty() {
            frame.svg.curve(colour, &decimate(&steps, 1.0));
        }
    }
    frame.marks(&mut Vec::new());
    frame.finish()
}

/// Down by one sample's share at each; not below what is shown.
fn steps(samples: &[f64]) -> impl Iterator<Item = (f64, f64)> {
    let mut sorted: Vec<_> = samples.iter().copied().filter(|sample| sample.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let shown = (0..sorted.len()).map(move |n| (sorted[n], (count - n as f64) / count));
    let shown = shown.take_while(|(_, share)| *share >= LEAST);
    shown
        .scan(1.0, |before, (sample, share)| {
            Some([(sample, std::mem::replace(before, share)), (sample, share)])
        })
        .flatten()
}
