//! The metrics of what guests do in stores and with their configuration.

use prometheus::{IntCounterVec, Opts, Registry};

use crate::metrics::series::remove_series;

/// The families about capabilities.
#[derive(Debug)]
pub(crate) struct CapabilityMetrics {
    operations: IntCounterVec,
}

impl CapabilityMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let operations = IntCounterVec::new(
            Opts::new(
                "mayfly_capability_operations_total",
                "Operations of guests on stores and configuration, by function, kind, operation and \
                 outcome",
            ),
            &["function", "kind", "operation", "outcome"],
        )?;
        registry.register(Box::new(operations.clone()))?;
        Ok(Self { operations })
    }

    /// Removes the series of a function.
    pub(super) fn forget(&self, function: &str) {
        remove_series(&self.operations, "function", function);
    }

    pub(crate) fn count(&self, function: &str, kind: &str, operation: &str, outcome: &str) {
        self.operations.with_label_values(&[function, kind, operation, outcome]).inc();
    }
}
