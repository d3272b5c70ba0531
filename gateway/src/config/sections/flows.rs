//! `[flows]`: functions that are called one after the other.

use serde::{Deserialize, Serialize};

use crate::config::sizes::MIB;

/// Runs of flows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowsSection {
    /// Bytes of the state of a run, which is in memory.
    pub state_bytes: usize,
    /// Asynchronous runs of one flow that wait or go on.
    pub runs: u64,
}

impl Default for FlowsSection {
    fn default() -> Self {
        // Several thousand runs that wait fit into what the queue may hold.
        Self { state_bytes: MIB as usize, runs: 10_000 }
    }
}
