//! An estimate of how long an invocation waits in the queue of a function. Where that is longer than
//! it may wait, it is refused at once.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Learns from recent waits. Zero until the first.
#[derive(Debug, Default)]
pub(crate) struct QueueDelayEstimate {
    /// The time from one free slot to the next.
    interval_ns: AtomicU64,
}

impl QueueDelayEstimate {
    /// Records a wait, with a slot at its end or without. `ahead` invocations came before.
    pub(crate) fn note(&self, ahead: usize, waited: Duration) {
        let latest = waited.as_nanos() as u64 / (ahead as u64 + 1);
        let interval = match self.interval_ns.load(Relaxed) {
            0 => latest,
            before => (before * 7 + latest) / 8,
        };
        // A concurrent record may be lost, which hardly changes the average.
        self.interval_ns.store(interval, Relaxed);
    }

    /// The expected wait behind `ahead` others. Zero for the first, which therefore always waits:
    /// otherwise the estimate of a function that has become faster would never fall.
    pub(crate) fn expected(&self, ahead: usize) -> Duration {
        if ahead == 0 {
            return Duration::ZERO;
        }
        let interval = self.interval_ns.load(Relaxed);
        Duration::from_nanos(interval.saturating_mul(ahead as u64 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_expected_delay_grows_with_the_calls_ahead() {
        let wait = QueueDelayEstimate::default();
        assert_eq!(wait.expected(1_000), Duration::ZERO, "no request has waited yet");
        wait.note(9, 20 * MS);
        assert_eq!(wait.expected(9), 20 * MS);
        assert_eq!(wait.expected(99), 200 * MS);
    }

    #[test]
    fn one_long_delay_is_forgotten_after_many_short_ones() {
        let wait = QueueDelayEstimate::default();
        wait.note(0, 1_000 * MS);
        assert_eq!(wait.expected(1), 2_000 * MS);
        for _ in 0..100 {
            assert_eq!(wait.expected(0), Duration::ZERO);
            wait.note(0, MS);
        }
        assert!(wait.expected(1) < 3 * MS);
    }
}
