//! `[stores]`: what guests keep.

use serde::{Deserialize, Serialize};

use crate::config::sizes::{GIB, MIB};

/// Stores of guests' data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoresSection {
    /// Whether a deploy makes the stores that its settings name and that are not there.
    pub create_on_deploy: bool,
    /// Bytes of a store whose owner asks for no other number.
    pub bytes: u64,
    /// The most bytes that an owner may ask for.
    pub max_bytes: u64,
    /// Keys of a store whose owner asks for no other number.
    pub keys: u64,
    /// The most keys that an owner may ask for.
    pub max_keys: u64,
    /// Bytes of all stores in memory together.
    pub memory_bytes: u64,
}

impl Default for StoresSection {
    fn default() -> Self {
        Self {
            create_on_deploy: true,
            bytes: GIB,
            // A tenth of a disk of moderate size.
            max_bytes: 16 * GIB,
            keys: 1_000_000,
            // What fits into the largest store, with some hundred bytes each.
            max_keys: 100_000_000,
            memory_bytes: 64 * MIB,
        }
    }
}
