//! What became of a snapshot, for its owner and for the cache.

use serde::{Deserialize, Serialize};

/// What became of a snapshot that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Snapshot {
    /// Instances start from it.
    Taken {
        /// CPU time of the start-up that they are spared, in milliseconds.
        init_ms: u64,
        /// Bytes of memory that they start with, zeros at the ends of pages left out.
        bytes: u64,
    },
    /// Instances start as if none had been asked for.
    NotTaken {
        /// Why, for the owner.
        reason: String,
    },
}
