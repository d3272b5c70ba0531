//! What stores have, in numbers.

use std::{collections::HashMap, sync::Arc};

use backend_embedded::SqliteState;
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};
use runtime_pool::StoreUsage;
use store::Tenant;

use crate::functions::labels::NameLabels;

/// Shows what stores have.
#[derive(Debug)]
pub(super) struct StoreMetrics {
    count: IntGauge,
    bytes: IntGaugeVec,
    keys: IntGaugeVec,
    waiting: IntGauge,
    slow: IntGauge,
    labels: NameLabels,
}

impl StoreMetrics {
    pub(super) fn register(registry: &Registry, labels_max: usize) -> prometheus::Result<Self> {
        let of_store = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["store"]);
        let metrics = Self {
            count: IntGauge::new("mayfly_stores", "Stores of guests' data")?,
            bytes: of_store(
                "mayfly_store_bytes",
                "Bytes of all keys, values and metadata in a store",
            )?,
            keys: of_store("mayfly_store_keys", "Keys in a store")?,
            waiting: IntGauge::new(
                "mayfly_store_writes_waiting",
                "Writes to the embedded stores that wait for their turn",
            )?,
            slow: IntGauge::new(
                "mayfly_store_reads_slow",
                "1 while reads of the embedded stores are so slow that none is made on the threads of calls",
            )?,
            labels: NameLabels::new(labels_max),
        };
        registry.register(Box::new(metrics.count.clone()))?;
        registry.register(Box::new(metrics.bytes.clone()))?;
        registry.register(Box::new(metrics.keys.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.slow.clone()))?;
        Ok(metrics)
    }

    /// The label of a store; `other` if there are too many.
    pub(super) fn label(&self, tenant: &Tenant, name: &str) -> Arc<str> {
        self.labels.take(tenant, name)
    }

    /// Removes the series of a store that was deleted.
    pub(super) fn forget(&self, label: &str) {
        // The label that stores share stays.
        if self.labels.free(label) {
            // They exist, if they were ever shown.
            let _ = self.bytes.remove_label_values(&[label]);
            let _ = self.keys.remove_label_values(&[label]);
        }
    }

    pub(super) fn count(&self, stores: usize) {
        self.count.set(i64::try_from(stores).unwrap_or(i64::MAX));
    }

    pub(super) fn show_state(&self, state: SqliteState) {
        self.waiting.set(i64::try_from(state.waiting_writes).unwrap_or(i64::MAX));
        self.slow.set(i64::from(state.is_slow));
    }

    /// Shows what is in the stores. Those that share a label are added up.
    pub(super) fn show<'a>(&self, stores: impl Iterator<Item = (&'a str, StoreUsage)>) {
        let mut shown: HashMap<&str, StoreUsage> = HashMap::new();
        for (label, usage) in stores {
            let sum = shown.entry(label).or_default();
            sum.bytes += usage.bytes;
            sum.keys += usage.keys;
        }
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for (label, usage) in shown {
            self.bytes.with_label_values(&[label]).set(number(usage.bytes));
            self.keys.with_label_values(&[label]).set(number(usage.keys));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::labels::OTHER;

    #[test]
    fn names_of_stores_are_labels_up_to_a_limit_and_go_with_their_store() {
        let registry = Registry::new();
        let metrics = StoreMetrics::register(&registry, 1).unwrap();
        let [one, two, three] =
            ["one", "two", "three"].map(|name| metrics.label(&Tenant::default(), name));
        assert_eq!((&*one, &*two, &*three), ("one", OTHER, OTHER));
        let usage = StoreUsage { bytes: 7, keys: 2 };
        metrics.show([&*one, &*two, &*three].map(|label| (label, usage)).into_iter());
        assert_eq!(metrics.bytes.with_label_values(&[OTHER]).get(), 14);
        let series =
            || -> usize { registry.gather().iter().map(|family| family.get_metric().len()).sum() };
        let all = series();

        metrics.forget(OTHER);
        assert_eq!(series(), all, "others share this label");
        metrics.forget("one");

        assert_eq!(series(), all - 2);
        assert_eq!(&*metrics.label(&Tenant::default(), "two"), "two");
    }
}
