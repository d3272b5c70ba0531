//! Series of counters, and how they end.

use std::collections::HashMap;

use prometheus::{IntCounterVec, core::Collector as _};

/// Removes all series with this value of a label.
pub fn remove_series(counters: &IntCounterVec, label: &str, value: &str) {
    for series in counters.collect().iter().flat_map(|family| family.get_metric()) {
        let labels = series.get_label().iter().map(|pair| (pair.name(), pair.value()));
        let labels: HashMap<&str, &str> = labels.collect();
        if labels.get(label) == Some(&value) {
            // It exists, unless another thread has just removed it.
            let _ = counters.remove(&labels);
        }
    }
}
