//! The figures as JSON.

use std::path::PathBuf;

pub(crate) struct Figures {
    figures: Vec<String>,
    /// Whether all targets were.
    pub(crate) reached: bool,
}

impl Default for Figures {
    fn default() -> Self {
        Self { figures: Vec::new(), reached: true }
    }
}

impl Figures {
    /// Names need no escapes: they are this benchmark's own.
    pub(crate) fn add(&mut self, case: &str, metric: &str, unit: &str, value: f64) {
        self.figures.push(format!(
            r#"{{"case": "{case}", "metric": "{metric}", "unit": "{unit}", "value": {value:.2}}}"#
        ));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.figures.is_empty()
    }

    /// Writes the JSON; returns where.
    pub(crate) fn write(&self) -> std::io::Result<PathBuf> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let dir = root.join(target.unwrap_or_else(|| "target".into())).join("bench");
        std::fs::create_dir_all(&dir)?;
        let path = dir.join("isolation.json");
        std::fs::write(&path, format!("[\n  {}\n]\n", self.figures.join(",\n  ")))?;
        Ok(path)
    }
}

/// Of sorted values.
pub(crate) fn percentile(sorted: &[f64], p: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * p).round() as usize).copied().unwrap_or(0.0)
}
