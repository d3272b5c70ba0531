//! What operators see of the queue.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use store::{Cause, Lane, LaneTotals, NextState, RemovedInvocations};

/// The metrics of the queue.
#[derive(Clone, Debug)]
pub(crate) struct QueueMetrics {
    enqueued: IntCounterVec,
    attempts: IntCounterVec,
    calls: IntGaugeVec,
    delay: Gauge,
    pub(super) held_back: IntCounter,
    removed: IntCounterVec,
}

impl QueueMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            enqueued: IntCounterVec::new(
                Opts::new(
                    "mayfly_queue_enqueued_total",
                    "Calls that were enqueued, by their cause",
                ),
                &["cause"],
            )?,
            attempts: IntCounterVec::new(
                Opts::new(
                    "mayfly_queue_attempts_total",
                    "Attempts of enqueued calls, by their cause and outcome",
                ),
                &["cause", "outcome"],
            )?,
            calls: IntGaugeVec::new(
                Opts::new("mayfly_queue_calls", "Calls in the queue, by state"),
                &["state"],
            )?,
            delay: Gauge::new(
                "mayfly_queue_delay_seconds",
                "For how long the oldest of the enqueued calls that may run has waited",
            )?,
            held_back: IntCounter::new(
                "mayfly_queue_held_back_total",
                "Times at which no enqueued call was begun because the node was busy",
            )?,
            removed: IntCounterVec::new(
                Opts::new(
                    "mayfly_queue_removed_total",
                    "Enqueued calls that had ended and were removed, by kind",
                ),
                &["kind"],
            )?,
        };
        registry.register(Box::new(metrics.enqueued.clone()))?;
        registry.register(Box::new(metrics.attempts.clone()))?;
        registry.register(Box::new(metrics.calls.clone()))?;
        registry.register(Box::new(metrics.delay.clone()))?;
        registry.register(Box::new(metrics.held_back.clone()))?;
        registry.register(Box::new(metrics.removed.clone()))?;
        Ok(metrics)
    }

    pub(super) fn enqueued(&self, cause: Cause) {
        self.enqueued.with_label_values(&[cause.as_str()]).inc();
    }

    pub(super) fn ended(&self, cause: Cause, next: NextState) {
        let outcome = match next {
            NextState::Succeeded => "succeeded",
            NextState::Dead => "dead",
            NextState::Retry { .. } => "retry",
            NextState::HandedBack { .. } => "handed-back",
            NextState::Moved { .. } => "moved",
        };
        self.attempts.with_label_values(&[cause.as_str(), outcome]).inc();
    }

    pub(super) fn removed(&self, removed: RemovedInvocations) {
        self.removed.with_label_values(&["result"]).inc_by(removed.results);
        self.removed.with_label_values(&["dead"]).inc_by(removed.dead);
    }

    /// Shows what is in the queue.
    pub(super) fn show(&self, lanes: &[LaneTotals], now_ms: i64) {
        let sum = |count: fn(&LaneTotals) -> u64| lanes.iter().map(count).sum::<u64>();
        let states =
            [("due", sum(|l| l.due)), ("running", sum(|l| l.running)), ("dead", sum(|l| l.dead))];
        for (state, count) in states {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.calls.with_label_values(&[state]).set(count);
        }
        // Messages have metrics of their own, and may wait because their owner wants it.
        let calls = lanes.iter().filter(|lane| !matches!(lane.lane, Lane::Queue(_)));
        let first = calls.filter_map(|lane| lane.first_due_ms).min();
        let late = first.map_or(0, |first| now_ms.saturating_sub(first).max(0));
        self.delay.set(late as f64 / 1_000.0);
    }
}
