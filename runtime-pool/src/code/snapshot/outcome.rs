//! The outcome of a snapshot, for the function's owner and for the cache.

use serde::{Deserialize, Serialize};

/// The outcome of a snapshot that an owner has asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotOutcome {
    /// Instances start from it.
    Taken {
        /// CPU time of the start-up function, which they save, in milliseconds.
        init_ms: u64,
        /// Bytes of memory that they start with, without the zeros at the ends of pages.
        bytes: u64,
    },
    /// Instances start without a snapshot.
    NotTaken {
        /// Why, for the owner.
        reason: String,
    },
}
