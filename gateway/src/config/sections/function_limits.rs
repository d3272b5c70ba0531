//! `[limits]` and `[ceilings]`: what one function may use.

use serde::{Deserialize, Serialize};

use crate::config::sizes::{GIB, KIB, MIB};

/// What one function may use. `[limits]` holds the defaults, `[ceilings]` the most that an
/// owner may ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionLimits {
    /// Linear memory of one instance.
    pub memory_bytes: usize,
    /// CPU time of one invocation.
    pub cpu_ms: u64,
    /// Wall-clock time of one invocation, from admission to the last byte of its response.
    pub timeout_ms: u64,
    /// Invocations that may run at once.
    pub concurrency: usize,
    /// Invocations that may wait for one of those to end.
    pub queue: usize,
    /// How long an invocation may wait in that queue.
    pub queue_wait_ms: u64,
    /// A function that was not called for this long leaves memory.
    pub idle_ms: u64,
    /// Instances that wait for calls even if nobody calls.
    pub min_warm: usize,
    /// Instances that may wait for calls.
    pub max_warm: usize,
    /// Bytes of a response body.
    pub response_bytes: u64,
    /// Bytes of a request body.
    pub request_bytes: u64,
    /// Names and values of the environment together.
    pub environment_bytes: usize,
    /// Standard output and standard error kept per invocation.
    pub log_bytes: usize,
}

impl FunctionLimits {
    /// What holds for a function whose owner asked for nothing.
    #[must_use]
    pub fn defaults() -> Self {
        Self {
            memory_bytes: 128 * MIB as usize,
            cpu_ms: 1_000,
            timeout_ms: 30_000,
            concurrency: 64,
            // Ten times the concurrency: a burst waits a moment, a flood is refused.
            queue: 640,
            queue_wait_ms: 1_000,
            idle_ms: 300_000,
            min_warm: 0,
            max_warm: 8,
            response_bytes: 100 * MIB,
            request_bytes: 100 * MIB,
            environment_bytes: 32 * KIB as usize,
            log_bytes: 64 * KIB as usize,
        }
    }

    /// The most that an owner may ask for, unless the operator says otherwise.
    #[must_use]
    pub fn ceilings() -> Self {
        Self {
            memory_bytes: 512 * MIB as usize,
            cpu_ms: 30_000,
            timeout_ms: 300_000,
            concurrency: 1_024,
            queue: 10_240,
            queue_wait_ms: 10_000,
            idle_ms: 86_400_000,
            min_warm: 16,
            max_warm: 64,
            response_bytes: 10 * GIB,
            request_bytes: 10 * GIB,
            environment_bytes: 64 * KIB as usize,
            log_bytes: MIB as usize,
        }
    }
}
