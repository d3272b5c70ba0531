//! `[queue]`: calls that wait to be made.

use std::thread;

use serde::{Deserialize, Serialize};

use crate::config::sizes::{GIB, MIB};

const DAY_MS: u64 = 24 * 3_600_000;

/// The queue of calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSection {
    /// Enqueued calls that run at once; 0 stands for twice the processors, at least 4.
    pub workers: usize,
    /// Bytes of the body of one call, or of one message.
    pub body_bytes: u64,
    /// Messages that wait or run in one named queue.
    pub messages: u64,
    /// Bytes of all calls that wait or run.
    pub bytes: u64,
    /// Bytes of all calls that have ended and are kept.
    pub kept_bytes: u64,
    /// How long an answer is kept, in milliseconds.
    pub results_ms: u64,
    /// How long a call is kept that has failed for good, in milliseconds.
    pub dead_ms: u64,
    /// The time before the second attempt, in milliseconds. It doubles with each attempt.
    pub retry_ms: u64,
    /// The longest time before an attempt, in milliseconds.
    pub retry_max_ms: u64,
}

impl Default for QueueSection {
    fn default() -> Self {
        Self {
            workers: 0,
            // Several thousand of them fit into what may wait.
            body_bytes: MIB,
            // With 10 KiB each, one queue takes the bytes of all.
            messages: 100_000,
            bytes: GIB,
            kept_bytes: GIB,
            results_ms: DAY_MS,
            // Time to notice, and to repair a function.
            dead_ms: 14 * DAY_MS,
            retry_ms: 1_000,
            retry_max_ms: 300_000,
        }
    }
}

impl QueueSection {
    /// The number of calls that run at once.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => {
                thread::available_parallelism().map_or(4, |processors| processors.get() * 2).max(4)
            }
            some => some,
        }
    }
}
