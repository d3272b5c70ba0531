//! The metrics of requests that guests make.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use crate::metrics::series::remove_series;

/// The families about outbound requests.
#[derive(Debug)]
pub(crate) struct OutboundMetrics {
    requests: IntCounterVec,
    /// Requests of the gateway itself.
    own: IntCounterVec,
    /// Open connections, idle ones included.
    pub(crate) connections: IntGauge,
}

impl OutboundMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new(
                "mayfly_outbound_requests_total",
                "Requests that guests made, by function and outcome",
            ),
            &["function", "outcome"],
        )?;
        let own = IntCounterVec::new(
            Opts::new(
                "mayfly_outbound_own_requests_total",
                "Requests that the gateway itself made to addresses of owners, by purpose and outcome",
            ),
            &["purpose", "outcome"],
        )?;
        let connections = IntGauge::new(
            "mayfly_outbound_connections",
            "Open connections to servers that guests call, idle ones included",
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(own.clone()))?;
        registry.register(Box::new(connections.clone()))?;
        Ok(Self { requests, own, connections })
    }

    /// Removes the series of a function.
    pub(super) fn forget(&self, function: &str) {
        remove_series(&self.requests, "function", function);
    }

    pub(crate) fn count_own(&self, purpose: &str, outcome: &str) {
        self.own.with_label_values(&[purpose, outcome]).inc();
    }

    pub(crate) fn count(&self, function: &str, outcome: &str) {
        self.requests.with_label_values(&[function, outcome]).inc();
    }
}
