//! What named queues do, in numbers.

use std::sync::Arc;

use prometheus::{GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use runtime_pool::remove_series;
use store::{LaneTotals, NextState};

use crate::{functions::labels::NameLabels, triggers::queues::table::NamedQueue};

/// States of messages, as the metric names them.
const STATES: [&str; 3] = ["waiting", "running", "dead"];

/// Counts messages.
#[derive(Debug)]
pub(super) struct MessageMetrics {
    /// How many queues there are.
    pub(super) count: IntGauge,
    published: IntCounterVec,
    delivered: IntCounterVec,
    depth: IntGaugeVec,
    age: GaugeVec,
    labels: NameLabels,
}

impl MessageMetrics {
    pub(super) fn register(registry: &Registry, labels_max: usize) -> prometheus::Result<Self> {
        let metrics = Self {
            count: IntGauge::new("mayfly_queues", "Named queues")?,
            published: IntCounterVec::new(
                Opts::new(
                    "mayfly_queue_messages_published_total",
                    "Messages that were added to a named queue",
                ),
                &["queue"],
            )?,
            delivered: IntCounterVec::new(
                Opts::new(
                    "mayfly_queue_messages_delivered_total",
                    "Deliveries of messages of a named queue, by their outcome",
                ),
                &["queue", "outcome"],
            )?,
            depth: IntGaugeVec::new(
                Opts::new("mayfly_queue_messages", "Messages in a named queue, by state"),
                &["queue", "state"],
            )?,
            age: GaugeVec::new(
                Opts::new(
                    "mayfly_queue_message_age_seconds",
                    "The age of the oldest message that waits in a named queue",
                ),
                &["queue"],
            )?,
            labels: NameLabels::new(labels_max),
        };
        registry.register(Box::new(metrics.count.clone()))?;
        registry.register(Box::new(metrics.published.clone()))?;
        registry.register(Box::new(metrics.delivered.clone()))?;
        registry.register(Box::new(metrics.depth.clone()))?;
        registry.register(Box::new(metrics.age.clone()))?;
        Ok(metrics)
    }

    /// The label of a queue; `other` if there are too many.
    pub(super) fn label(&self, tenant: &store::Tenant, name: &str) -> Arc<str> {
        self.labels.take(tenant, name)
    }

    /// Removes the series of a queue that was deleted.
    pub(super) fn forget(&self, queue: &NamedQueue) {
        let label = &*queue.label;
        // The label that queues share stays.
        if !self.labels.free(label) {
            return;
        }
        remove_series(&self.published, "queue", label);
        remove_series(&self.delivered, "queue", label);
        for state in STATES {
            // It exists, if it was ever shown.
            let _ = self.depth.remove_label_values(&[label, state]);
        }
        let _ = self.age.remove_label_values(&[label]);
    }

    pub(super) fn published(&self, queue: &NamedQueue, messages: u64) {
        self.published.with_label_values(&[&queue.label]).inc_by(messages);
    }

    /// Counts the end of an attempt of a message.
    pub(super) fn ended(&self, queue: &NamedQueue, next: NextState) {
        let outcome = match next {
            NextState::Succeeded => "succeeded",
            NextState::Dead => "dead",
            NextState::Moved { .. } => "moved",
            NextState::Retry { .. } => "retry",
            NextState::HandedBack { .. } => "handed-back",
        };
        self.delivered.with_label_values(&[&queue.label, outcome]).inc();
    }

    /// Counts messages that were given up before they were delivered.
    pub(super) fn expired(&self, queue: &NamedQueue, messages: u64) {
        self.delivered.with_label_values(&[&queue.label, "expired"]).inc_by(messages);
    }

    /// Shows what is in the queues. Those that share a label are added up.
    pub(super) fn show(&self, queues: &[(Arc<NamedQueue>, Option<&LaneTotals>)], now_ms: i64) {
        let mut shown: std::collections::HashMap<&str, ([i64; 3], f64)> =
            std::collections::HashMap::new();
        for (queue, totals) in queues {
            let (counts, age) = shown.entry(&queue.label).or_default();
            let Some(totals) = totals else { continue };
            let own = [totals.due, totals.running, totals.dead];
            for (count, own) in counts.iter_mut().zip(own) {
                *count = count.saturating_add(i64::try_from(own).unwrap_or(i64::MAX));
            }
            let oldest = totals.oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest).max(0));
            *age = age.max(oldest as f64 / 1_000.0);
        }
        for (label, (counts, age)) in shown {
            for (state, count) in STATES.into_iter().zip(counts) {
                self.depth.with_label_values(&[label, state]).set(count);
            }
            self.age.with_label_values(&[label]).set(age);
        }
    }
}

#[cfg(test)]
mod tests {
    use gateway_api::QueueSpec;
    use store::Tenant;

    use super::*;
    use crate::functions::labels::OTHER;

    /// Case B06.
    #[test]
    fn names_of_queues_are_labels_up_to_a_limit_and_go_with_their_queue() {
        let registry = Registry::new();
        let metrics = MessageMetrics::register(&registry, 1).unwrap();
        let queue = |name: &str| NamedQueue {
            label: metrics.label(&Tenant::default(), name),
            ..NamedQueue::for_tests(&QueueSpec::default())
        };
        let (one, two) = (queue("one"), queue("two"));
        assert_eq!((&*one.label, &*two.label, &*queue("one").label), ("one", OTHER, "one"));
        metrics.published(&one, 2);
        metrics.published(&two, 3);
        metrics.ended(&one, NextState::Succeeded);
        metrics.show(&[(Arc::new(queue("one")), None), (Arc::new(queue("two")), None)], 0);
        let series =
            || -> usize { registry.gather().iter().map(|family| family.get_metric().len()).sum() };
        let all = series();
        metrics.forget(&two);
        assert_eq!(series(), all, "others share its label");
        metrics.forget(&one);
        // Of the gauges: three states and the age; of the counters: two.
        assert_eq!(series(), all - 6);
        assert_eq!(&*queue("two").label, "two");
    }
}
