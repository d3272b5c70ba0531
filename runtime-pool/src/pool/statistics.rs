//! The counters of one resident function.

use prometheus::Counter;

use crate::{
    host::invocation_state::InvocationState,
    metrics::{PoolMetrics, start::Tier},
};

/// Counts a function as resident until this is dropped, and counts what its invocations use.
pub(crate) struct Statistics {
    /// Bytes of its native code.
    pub(crate) code_bytes: u64,
    /// The tier from which it was loaded.
    pub(crate) origin: Tier,
    pub(crate) metrics: PoolMetrics,
    /// CPU time of its guests.
    pub(crate) cpu_seconds: Counter,
}

impl Statistics {
    pub(crate) fn new(metrics: PoolMetrics, label: &str, code_bytes: u64, origin: Tier) -> Self {
        metrics.resident_functions.inc();
        metrics.resident_bytes.add(code_bytes as f64);
        let cpu_seconds = metrics.cpu_seconds.with_label_values(&[label]);
        Self { code_bytes, origin, metrics, cpu_seconds }
    }

    /// Counts an invocation as running.
    pub(crate) fn begin_invocation(&self) {
        self.metrics.live_instances.inc();
    }

    /// Counts an invocation as ended, and what it has used.
    pub(crate) fn end_invocation(&self, state: &InvocationState) {
        self.cpu_seconds.inc_by(state.meter.used().as_secs_f64());
        state.refused().for_each(|limit| self.metrics.limit_hit(limit));
        self.metrics.polled(state.meter.longest_poll());
        self.metrics.live_instances.dec();
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        self.metrics.resident_functions.dec();
        self.metrics.resident_bytes.sub(self.code_bytes as f64);
    }
}
