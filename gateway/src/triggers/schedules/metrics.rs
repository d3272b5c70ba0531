//! What schedules do, in numbers.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};
use store::RunOutcome;

/// Counts runs.
#[derive(Clone, Debug)]
pub(crate) struct ScheduleMetrics {
    runs: IntCounterVec,
    /// How long after its due time a run is enqueued.
    pub(crate) lag: Histogram,
    /// How many schedules there are.
    pub(crate) count: IntGauge,
}

impl ScheduleMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let runs = IntCounterVec::new(
            Opts::new(
                "mayfly_schedule_runs_total",
                "Due times of schedules, by what became of each",
            ),
            &["outcome"],
        )?;
        let lag = Histogram::with_opts(
            HistogramOpts::new(
                "mayfly_schedule_lag_seconds",
                "The time from a due time until its run is in the queue",
            )
            .buckets(vec![0.01, 0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0]),
        )?;
        let count = IntGauge::new("mayfly_schedules", "Schedules")?;
        registry.register(Box::new(runs.clone()))?;
        registry.register(Box::new(lag.clone()))?;
        registry.register(Box::new(count.clone()))?;
        Ok(Self { runs, lag, count })
    }

    /// Counts due times: `queued`, `asked-for`, `skipped`, `missed`, `refused`, or `deferred` for each
    /// attempt that the queue did not take.
    pub(crate) fn add(&self, outcome: &str, count: u64) {
        self.runs.with_label_values(&[outcome]).inc_by(count);
    }

    /// Counts one due time.
    pub(crate) fn outcome(&self, outcome: RunOutcome) {
        let word = match outcome {
            RunOutcome::Queued => "queued",
            RunOutcome::Skipped => "skipped",
            RunOutcome::Missed => "missed",
            RunOutcome::Refused => "refused",
        };
        self.add(word, 1);
    }
}
