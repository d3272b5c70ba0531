//! `[logs]` and `[metrics]`.

use serde::{Deserialize, Serialize};

use crate::config::sizes::{GIB, MIB};

/// The gateway's log, and the lines of guests that are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogsSection {
    /// A level, or several `target=level` joined by commas.
    pub level: String,
    /// The format of a line.
    pub format: LogFormat,
    /// Bytes of the gateway's log that wait for a slow reader.
    pub buffer_bytes: usize,
    /// Lines of guests' output kept per function.
    pub lines_per_function: usize,
    /// Bytes of guests' output kept for all functions.
    pub bytes: u64,
    /// Free bytes of the disk below which guests' output is not stored.
    pub free_bytes: u64,
}

impl Default for LogsSection {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Auto,
            buffer_bytes: 4 << 20,
            lines_per_function: 10_000,
            bytes: GIB,
            // Room for a few deploys.
            free_bytes: 256 * MIB,
        }
    }
}

/// The format of a line of the gateway's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text, for people.
    Text,
    /// One JSON object for each line.
    Json,
}

/// The metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsSection {
    /// Functions with a label value of their own; all others share the value `other`.
    pub functions: usize,
    /// Channels with a label value of their own; all others share the value `other`.
    pub channels: usize,
    /// Named queues with a label value of their own; all others share the value `other`.
    pub queues: usize,
    /// Flows with a label value of their own; all others share the value `other`.
    pub flows: usize,
    /// Stores with a label value of their own; all others share the value `other`.
    pub stores: usize,
}

impl Default for MetricsSection {
    fn default() -> Self {
        Self { functions: 1_000, channels: 1_000, queues: 100, flows: 100, stores: 100 }
    }
}
