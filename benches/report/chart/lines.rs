//! Lines, such as of a delay over time.

use super::decimate::decimate;
use super::frame::{Frame, Key};
use super::{Plot, Series, legend};

/// The points are joined in their order. One that is not finite is a gap.
pub(crate) fn lines(plot: &Plot, series: &[Series<(f64, f64)>]) -> String {
    let points = || series.iter().flat_map(|series| &series.values);
    let mut frame =
        Frame::new(plot, series, Key::Line, points().map(|p| p.0), points().map(|p| p.1));
    // The first is the one that matters: it is drawn last, on top.
    for (series, (colour, _)) in series.iter().zip(legend(series)).rev() {
        let finite = |point: &(f64, f64)| point.0.is_finite() && point.1.is_finite();
        for part in series.values.split(|point| !finite(point)).filter(|part| !part.is_empty()) {
            let placed: Vec<_> = part.iter().map(|point| frame.place(*point)).collect();
            frame.svg.curve(colour, &decimate(&placed, 1.0));
        }
    }
    frame.marks(&mut Vec::new());
    frame.finish()
}
