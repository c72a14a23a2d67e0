//! What was measured, for programs to read.

use serde::Serialize;

/// One object of the JSON.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) case: String,
    pub(crate) metric: String,
    pub(crate) unit: String,
    pub(crate) value: f64,
    /// The case that it is compared with, and how many times that one's value it is.
    pub(crate) against: Option<(String, f64)>,
}

impl Figure {
    pub(crate) fn new(
        case: impl Into<String>,
        metric: impl Into<String>,
        unit: impl Into<String>,
        value: f64,
    ) -> Self {
        Self { case: case.into(), metric: metric.into(), unit: unit.into(), value, against: None }
    }

    pub(crate) fn against(mut self, case: impl Into<String>, ratio: f64) -> Self {
        self.against = Some((case.into(), ratio));
        self
    }
}

/// The order of the keys, and that two of them can be missing. What is not finite is `null`.
#[derive(Serialize)]
struct Object<'a> {
    case: &'a str,
    metric: &'a str,
    unit: &'a str,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

/// An array with a line for each figure, so that two runs can be compared with `diff`.
pub(crate) fn json(figures: &[Figure]) -> serde_json::Result<String> {
    let mut lines = Vec::new();
    for Figure { case, metric, unit, value, against } in figures {
        let (against, ratio) = match against {
            Some((against, ratio)) => (Some(&**against), Some(*ratio)),
            None => (None, None),
        };
        let object = Object { case, metric, unit, value: *value, against, ratio };
        lines.push(serde_json::to_string(&object)?);
    }
    Ok(format!("[\n  {}\n]\n", lines.join(",\n  ")))
}
