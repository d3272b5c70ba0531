//! What flows do, in numbers.

use std::sync::Arc;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};
use runtime_pool::remove_series;
use store::{StepOutcome, Tenant};

use crate::functions::labels::NameLabels;

/// Counts runs and steps.
#[derive(Debug)]
pub(super) struct FlowMetrics {
    /// How many flows there are.
    pub(super) count: IntGauge,
    runs: IntCounterVec,
    steps: IntCounterVec,
    seconds: Histogram,
    labels: NameLabels,
}

impl FlowMetrics {
    pub(super) fn register(registry: &Registry, labels_max: usize) -> prometheus::Result<Self> {
        let metrics = Self {
            count: IntGauge::new("mayfly_flows", "Flows")?,
            runs: IntCounterVec::new(
                Opts::new("mayfly_flow_runs_total", "Runs of flows, by flow and outcome"),
                &["flow", "outcome"],
            )?,
            steps: IntCounterVec::new(
                Opts::new("mayfly_flow_steps_total", "Steps of flows, by flow and outcome"),
                &["flow", "outcome"],
            )?,
            seconds: Histogram::with_opts(
                HistogramOpts::new("mayfly_flow_seconds", "The time of a run of a flow")
                    .buckets(vec![0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1_000.0]),
            )?,
            labels: NameLabels::new(labels_max),
        };
        registry.register(Box::new(metrics.count.clone()))?;
        registry.register(Box::new(metrics.runs.clone()))?;
        registry.register(Box::new(metrics.steps.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        Ok(metrics)
    }

    /// The label of a flow; `other` if there are too many.
    pub(super) fn label(&self, tenant: &Tenant, name: &str) -> Arc<str> {
        self.labels.take(tenant, name)
    }

    /// Removes the series of a flow that was deleted.
    pub(super) fn forget(&self, label: &str) {
        // The label that flows share stays.
        if self.labels.free(label) {
            remove_series(&self.runs, "flow", label);
            remove_series(&self.steps, "flow", label);
        }
    }

    /// Counts a run, or an attempt of an asynchronous one.
    pub(super) fn run(&self, label: &str, outcome: &str, seconds: f64) {
        self.runs.with_label_values(&[label, outcome]).inc();
        self.seconds.observe(seconds);
    }

    /// Counts a step.
    pub(super) fn step(&self, label: &str, outcome: StepOutcome) {
        let outcome = match outcome {
            StepOutcome::Done => "done",
            StepOutcome::Continued => "continued",
            StepOutcome::Failed => "failed",
        };
        self.steps.with_label_values(&[label, outcome]).inc();
    }
}
