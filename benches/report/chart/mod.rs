//! Charts: functions from data to SVG.
//!
//! The SVG is written here, and not by `plotters`: that one's colours are fixed in every element, so that
//! a page cannot have them follow a dark screen, and it knows neither bars side by side, nor the values
//! as labels that get out of each other's way, nor ticks such as `10 ms` and `1 s` on one axis. The looks
//! are in `style.css`; here are only places.

mod bars;
mod decimate;
mod distribution;
mod frame;
mod lines;
mod points;
mod scale;
mod svg;
mod unit;

pub(crate) use bars::{Bar, Bars, bars};
pub(crate) use decimate::decimate;
pub(crate) use distribution::distribution;
pub(crate) use lines::lines;
pub(crate) use points::points;
pub(crate) use scale::Axis;
pub(crate) use unit::Unit;

/// What a chart with two axes has beside its series.
#[derive(Debug, Clone)]
pub(crate) struct Plot {
    title: String,
    x: Axis,
    y: Axis,
}

impl Plot {
    pub(crate) fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Self { title: title.into(), x, y }
    }
}

/// Values under a name: points `(x, y)` for [`lines`] and [`points`], samples for [`distribution`].
#[derive(Debug, Clone)]
pub(crate) struct Series<T> {
    name: String,
    values: Vec<T>,
    colour: Option<usize>,
}

impl<T> Series<T> {
    pub(crate) fn new(name: impl Into<String>, values: Vec<T>) -> Self {
        Self { name: name.into(), values, colour: None }
    }

    /// The colour, and the shape of points, counted from 0. By default it is the place among the series:
    /// to be given where a chart has not all of those that others on the page have.
    pub(crate) fn colour(mut self, colour: usize) -> Self {
        self.colour = Some(colour);
        self
    }
}

/// The names with their colours.
fn legend<T>(series: &[Series<T>]) -> Vec<(usize, &str)> {
    let named = series.iter().enumerate();
    named.map(|(n, series)| (series.colour.unwrap_or(n), &*series.name)).collect()
}
