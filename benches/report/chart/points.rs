//! Few points, joined, with their values: such as a delay against the size of a backlog.

use super::frame::{Frame, Key};
use super::svg::{Anchor, Area};
use super::{Plot, Series, legend};

/// Labels have their `y`, as far as there is room for them.
pub(crate) fn points(plot: &Plot, series: &[Series<(f64, f64)>]) -> String {
    let finite = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
    let all = || series.iter().flat_map(|series| &series.values).filter(finite);
    let mut frame = Frame::new(plot, series, Key::Dot, all().map(|p| p.0), all().map(|p| p.1));
    let mut taken: Vec<_> = all().map(|point| around(frame.place(*point))).collect();
    let named = || series.iter().zip(legend(series));
    for (series, (colour, _)) in named().rev() {
        let placed: Vec<_> =
            series.values.iter().filter(finite).map(|point| frame.place(*point)).collect();
        if !placed.is_empty() {
            frame.svg.curve(colour, &placed);
        }
    }
    for (series, (colour, name)) in named().rev() {
        for point in series.values.iter().filter(finite) {
            let (x, y) = (plot.x.unit.format(point.0), plot.y.unit.format(point.1));
            frame.svg.dot(colour, frame.place(*point), &format!("{name}: {y} at {x}"));
        }
    }
    frame.marks(&mut taken);
    let bounds = frame.bounds();
    // The first series' labels come first: the others take the room that is left.
    for (series, _) in named() {
        for point in series.values.iter().filter(finite) {
            let label = plot.y.unit.format(point.1);
            let free = candidates(frame.place(*point)).into_iter().find(|(at, anchor)| {
                let area = Area::of_label(*at, *anchor, &label);
                area.is_within(&bounds) && !taken.iter().any(|other| area.meets(other))
            });
            if let Some((at, anchor)) = free {
                taken.push(Area::of_label(at, anchor, &label));
                frame.svg.text("label", at, anchor, &label);
            }
        }
    }
    frame.finish()
}

/// What a dot covers.
fn around((x, y): (f64, f64)) -> Area {
    Area { left: x - 6.0, top: y - 6.0, right: x + 6.0, bottom: y + 6.0 }
}

/// Where a label of a point can stand, the best first.
fn candidates((x, y): (f64, f64)) -> [((f64, f64), Anchor); 4] {
    [
        ((x, y - 10.0), Anchor::Middle),
        ((x, y + 19.0), Anchor::Middle),
        ((x + 10.0, y + 4.0), Anchor::Start),
        ((x - 10.0, y + 4.0), Anchor::End),
    ]
}
