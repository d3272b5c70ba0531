//! The metrics of memory that is given back while there are no calls.

use prometheus::{IntCounter, Registry};

/// What was given back.
#[derive(Debug)]
pub(crate) struct IdleMemoryMetrics {
    pub(crate) slots: IntCounter,
    pub(crate) bytes: IntCounter,
}

impl IdleMemoryMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let slots = IntCounter::new(
            "mayfly_idle_slots_returned_total",
            "Places of instances whose memory was given back while the node was idle",
        )?;
        let bytes = IntCounter::new(
            "mayfly_idle_memory_returned_bytes_total",
            "Memory that was given back while the node was idle",
        )?;
        registry.register(Box::new(slots.clone()))?;
        registry.register(Box::new(bytes.clone()))?;
        Ok(Self { slots, bytes })
    }
}
