//! What operators are told of backups.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// What is known of backups.
#[derive(Clone)]
pub(crate) struct BackupMetrics {
    backups: IntCounterVec,
    last: IntGauge,
}

impl BackupMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let help = "Backups that were asked for, by outcome";
        let backups = IntCounterVec::new(Opts::new("mayfly_backups_total", help), &["outcome"])?;
        let help =
            "When the last backup was sent whole, in Unix seconds; 0 if none was since the start";
        let last = IntGauge::new("mayfly_last_backup_timestamp_seconds", help)?;
        registry.register(Box::new(backups.clone()))?;
        registry.register(Box::new(last.clone()))?;
        Ok(Self { backups, last })
    }

    /// Counts a backup by what became of it.
    pub(crate) fn count(&self, outcome: &str) {
        self.backups.with_label_values(&[outcome]).inc();
    }

    /// Counts one that was made at this time, and sent whole.
    pub(crate) fn sent(&self, created_ms: i64) {
        self.count("ok");
        self.last.set(created_ms / 1_000);
    }
}
