//! `[logs]` and `[metrics]`.

use serde::{Deserialize, Serialize};

/// Our own log, and what is kept of the guests'.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogsSection {
    /// A level, or several `target=level` joined by commas.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
    /// Lines of guests' output kept per function.
    pub lines_per_function: usize,
}

impl Default for LogsSection {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto, lines_per_function: 10_000 }
    }
}

/// How a line of our own log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

/// The metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsSection {
    /// Functions with a label value of their own; those beyond are counted as `other`.
    pub functions: usize,
}

impl Default for MetricsSection {
    fn default() -> Self {
        Self { functions: 1_000 }
    }
}
