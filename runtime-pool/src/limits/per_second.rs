//! How much of something there may be in a second.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

/// Counts something by the second, and refuses what does not fit into the current one.
#[derive(Debug)]
pub(crate) struct PerSecond {
    most: u64,
    started: Instant,
    /// The current second in the upper half, what was taken of it in the lower.
    taken: AtomicU64,
}

impl PerSecond {
    /// At most `most` in each second.
    pub(crate) fn new(most: u64) -> Self {
        Self { most, started: Instant::now(), taken: AtomicU64::new(0) }
    }

    /// Takes `count` of the current second, if it has as many left. What does not fit leaves its room to
    /// smaller ones.
    pub(crate) fn take(&self, count: u64) -> bool {
        self.take_at(self.started.elapsed().as_secs(), count)
    }

    fn take_at(&self, second: u64, count: u64) -> bool {
        let half = u64::from(u32::MAX);
        let second = second & half;
        let taken = self.taken.fetch_update(Relaxed, Relaxed, |seen| {
            let before = if seen >> 32 == second { seen & half } else { 0 };
            let after = before.saturating_add(count);
            (after <= self.most.min(half)).then_some(second << 32 | after)
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own_count_and_what_does_not_fit_takes_nothing() {
        let rate = PerSecond::new(10);
        assert!(rate.take_at(1, 6) && !rate.take_at(1, 5) && rate.take_at(1, 4));
        assert!(!rate.take_at(1, 1) && rate.take_at(1, 0));
        assert!(rate.take_at(2, 10) && !rate.take_at(2, u64::MAX));
        assert!(!PerSecond::new(0).take(1));
    }
}
