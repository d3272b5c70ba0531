//! What became of one request: counted once, and told to the function's owner.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use wasmtime_wasi_http::Error;

use super::failure::Failure;
use crate::metrics::{PoolMetrics, guest_log::InvocationLog};

/// Failures of one invocation that are written to its log: the first ones say it all.
const LINES: u32 = 16;

/// Counts the request when it is dropped.
pub(super) struct Report {
    metrics: PoolMetrics,
    function: Arc<str>,
    log: Arc<InvocationLog>,
    written: Arc<AtomicU32>,
    target: String,
    outcome: &'static str,
}

impl Report {
    pub(super) fn new(
        metrics: PoolMetrics,
        function: Arc<str>,
        log: Arc<InvocationLog>,
        written: Arc<AtomicU32>,
    ) -> Self {
        Self { metrics, function, log, written, target: String::new(), outcome: "cancelled" }
    }

    /// Where the request goes, once that is known.
    pub(super) fn set_target(&mut self, target: String) {
        self.target = target;
    }

    /// The answer's head is there: from here on nothing but its body can fail.
    pub(super) fn answered(&mut self) {
        self.outcome = "ok";
    }

    /// It came to nothing. Returns what the guest is told.
    pub(super) fn failed(&mut self, failure: &Failure) -> Error {
        self.outcome = failure.outcome();
        if let Some(limit) = failure.limit() {
            self.metrics.limit_hit(limit);
        }
        if self.written.fetch_add(1, Relaxed) < LINES {
            self.log.system(&format!("outbound: {}: {failure}", self.target));
        }
        failure.code()
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.metrics.outbound.count(&self.function, self.outcome);
    }
}
