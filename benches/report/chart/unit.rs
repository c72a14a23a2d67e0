//! Values as people write them.

/// What the values of an axis are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// `1`, `1k`, `1M`.
    Count,
    Seconds,
    /// Values in milliseconds; written as `50 µs`, `5 ms`, `5 s`.
    Milliseconds,
    /// `1 kB` is 1000.
    Bytes,
    /// Of one; written in percent.
    Share,
    /// `×2.5`.
    Times,
}

impl Unit {
    /// A value with three digits that count.
    pub(crate) fn format(self, value: f64) -> String {
        match self {
            Self::Count => scaled(value, &[(1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G")]),
            Self::Seconds => seconds(value),
            Self::Milliseconds => seconds(value / 1e3),
            Self::Bytes => scaled(value, &[(1.0, " B"), (1e3, " kB"), (1e6, " MB"), (1e9, " GB")]),
            Self::Share => format!("{} %", digits(value * 100.0)),
            Self::Times => format!("×{}", digits(value)),
        }
    }
}

fn seconds(value: f64) -> String {
    if value == 0.0 {
        return "0 s".into();
    }
    scaled(value, &[(1e-9, " ns"), (1e-6, " µs"), (1e-3, " ms"), (1.0, " s")])
}

/// By the largest of the scales that leaves at least one before the point.
fn scaled(value: f64, scales: &[(f64, &str)]) -> String {
    // What is rounded up to a thousand already has the next scale.
    let fits = |(scale, _): &&(f64, &str)| value.abs() >= scale * 0.9995;
    let (scale, suffix) = scales.iter().rev().find(fits).unwrap_or(&scales[0]);
    format!("{}{suffix}", digits(value / scale))
}

fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => return "0".into(),
        1e-6..1e6 => {}
        _ if value.is_finite() => return format!("{value:.1e}"),
        _ => return "–".into(),
    }
    let decimals = (2.0 - value.abs().log10().floor()).max(0.0) as usize;
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').into(),
        false => text,
    }
}
