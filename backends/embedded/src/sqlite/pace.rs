//! Whether reads are fast enough to be made on the calling thread.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// Reads that are judged together.
const WINDOW: u32 = 1_000;
/// How long a read takes that counts as slow.
const SLOW: Duration = Duration::from_millis(1);
/// So many of a window are slow: one in a hundred.
const SLOW_MAX: u32 = WINDOW / 100;

/// Counts slow reads. Threads race for the numbers, and a read that is counted in another window changes
/// nothing that matters.
#[derive(Debug, Default)]
pub(super) struct Pace {
    reads: AtomicU32,
    slow: AtomicU32,
    is_slow: AtomicBool,
}

impl Pace {
    pub(super) fn is_slow(&self) -> bool {
        self.is_slow.load(Relaxed)
    }

    /// Counts a read. Too many slow ones count at once, and until a whole window has few.
    pub(super) fn took(&self, time: Duration) {
        if time > SLOW && self.slow.fetch_add(1, Relaxed) >= SLOW_MAX {
            self.is_slow.store(true, Relaxed);
        }
        if self.reads.fetch_add(1, Relaxed) + 1 >= WINDOW {
            self.reads.store(0, Relaxed);
            let slow = self.slow.swap(0, Relaxed);
            self.is_slow.store(slow > SLOW_MAX, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case L10.
    #[test]
    fn a_stalled_disk_is_noticed_after_a_few_reads_and_forgotten_after_many() {
        let pace = Pace::default();
        let fast = Duration::from_micros(10);
        for _ in 0..SLOW_MAX {
            pace.took(SLOW * 5);
        }
        assert!(!pace.is_slow());

        pace.took(SLOW * 5);
        assert!(pace.is_slow());

        // The rest of this window, and a whole one.
        for _ in 0..2 * WINDOW {
            pace.took(fast);
        }
        assert!(!pace.is_slow());
    }
}
