//! The outcome of one request: counted once, and logged for the function's owner if it failed.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use wasmtime_wasi_http::Error;

use super::failure::OutboundFailure;
use crate::metrics::{PoolMetrics, guest_log::InvocationLog};

/// Failures of one invocation that are written to its log. Further ones rarely say anything new.
const LINES: u32 = 16;

/// Counts the request when it is dropped.
pub(super) struct OutboundReport {
    metrics: PoolMetrics,
    function: Arc<str>,
    log: Arc<InvocationLog>,
    written: Arc<AtomicU32>,
    target: String,
    outcome: &'static str,
}

impl OutboundReport {
    pub(super) fn new(
        metrics: PoolMetrics,
        function: Arc<str>,
        log: Arc<InvocationLog>,
        written: Arc<AtomicU32>,
    ) -> Self {
        Self { metrics, function, log, written, target: String::new(), outcome: "cancelled" }
    }

    /// Sets where the request goes, once that is known.
    pub(super) fn set_target(&mut self, target: String) {
        self.target = target;
    }

    /// The head of the response has arrived. Only its body can still fail.
    pub(super) fn responded(&mut self) {
        self.outcome = "ok";
    }

    /// The request failed. Returns the error for the guest.
    pub(super) fn failed(&mut self, failure: &OutboundFailure) -> Error {
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

impl Drop for OutboundReport {
    fn drop(&mut self) {
        self.metrics.outbound.count(&self.function, self.outcome);
    }
}
