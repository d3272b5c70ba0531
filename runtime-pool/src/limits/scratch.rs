//! Counts what the files of one call's scratch directory take.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::{
    error::Limit,
    limits::{NodeMemory, holders::Holder},
};

/// The node's counter is shared by all threads, so the directory is counted there in steps of this
/// size.
const STEP_BYTES: usize = 256 << 10;

/// What a scratch directory takes, with its limits: its own, the memory of the call, which it shares
/// with the guest's linear memory, and the memory of the node.
///
/// The directory and the store's limiter both count here. One thread at a time runs a guest, so that
/// the numbers need not change together.
#[derive(Debug)]
pub(crate) struct ScratchBudget {
    bytes_max: usize,
    memory_max: usize,
    /// The guest's linear memory.
    linear: AtomicUsize,
    used: AtomicUsize,
    /// The part of it that the node has counted, in whole steps.
    counted: AtomicUsize,
    node: NodeMemory,
    holder: Arc<Holder>,
}

impl ScratchBudget {
    /// A directory of at most `bytes_max`, which has at most `memory_max` together with the guest's
    /// linear memory.
    pub(super) fn new(bytes_max: usize, memory_max: usize, node: NodeMemory) -> Self {
        let holder = node.holders.join();
        let [linear, used, counted] = [0; 3].map(AtomicUsize::new);
        Self { bytes_max, memory_max, linear, used, counted, node, holder }
    }

    /// The most that the directory may take.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// What the directory takes.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// What the directory could still take, as far as its call is concerned.
    pub(crate) fn room(&self) -> usize {
        let used = self.used();
        let memory = self.memory_max.saturating_sub(self.linear.load(Relaxed));
        self.bytes_max.min(memory).saturating_sub(used)
    }

    /// The store among those for which the host keeps much.
    pub(super) fn holder(&self) -> &Arc<Holder> {
        &self.holder
    }

    /// Sets the size of the guest's linear memory.
    pub(super) fn set_linear(&self, bytes: usize) {
        self.linear.store(bytes, Relaxed);
    }

    /// Takes `bytes` for the directory, or returns the limit that forbids it.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), Limit> {
        let used = self.used().saturating_add(bytes);
        if used > self.bytes_max {
            return Err(Limit::ScratchBytes);
        }
        if used.saturating_add(self.linear.load(Relaxed)) > self.memory_max {
            return Err(Limit::Memory);
        }
        let (before, counted) = (self.counted.load(Relaxed), used.next_multiple_of(STEP_BYTES));
        if counted > before {
            if !self.node.grow(counted - before) {
                return Err(Limit::NodeMemory);
            }
            self.set_counted(counted);
        }
        self.used.store(used, Relaxed);
        Ok(())
    }

    /// Gives back what the directory took.
    pub(crate) fn give_back(&self, bytes: usize) {
        let used = self.used() - bytes;
        self.used.store(used, Relaxed);
        let (before, counted) = (self.counted.load(Relaxed), used.next_multiple_of(STEP_BYTES));
        if counted < before {
            self.node.give_back(before - counted);
            self.set_counted(counted);
        }
    }

    fn set_counted(&self, bytes: usize) {
        self.counted.store(bytes, Relaxed);
        self.holder.set_scratch(bytes);
    }
}

impl Drop for ScratchBudget {
    fn drop(&mut self) {
        self.node.give_back(self.counted.load(Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use prometheus::IntGauge;

    use super::*;

    #[test]
    fn each_of_three_limits_refuses_and_nothing_is_counted_then() {
        let used = IntGauge::new("memory_bytes", "not shown").unwrap();
        let node = NodeMemory::new(16 * STEP_BYTES as u64, used.clone());
        let budget = ScratchBudget::new(STEP_BYTES, 2 * STEP_BYTES, node.clone());
        assert_eq!(budget.take(STEP_BYTES + 1), Err(Limit::ScratchBytes));
        budget.set_linear(2 * STEP_BYTES - 10);
        assert_eq!(budget.take(11), Err(Limit::Memory));
        assert_eq!((budget.used(), used.get()), (0, 0));
        assert_eq!((budget.room(), budget.take(10)), (10, Ok(())));
        assert_eq!((budget.used(), used.get()), (10, STEP_BYTES as i64));

        let large = ScratchBudget::new(usize::MAX, usize::MAX, node);
        // The last eighth of the node is for new instances.
        assert_eq!(large.take(13 * STEP_BYTES + 1), Err(Limit::NodeMemory));
        assert_eq!(large.take(13 * STEP_BYTES), Ok(()));
        drop(large);
        drop(budget);
        assert_eq!(used.get(), 0);
    }

    #[test]
    fn what_is_given_back_is_free_for_others() {
        let used = IntGauge::new("memory_bytes", "not shown").unwrap();
        let node = NodeMemory::new(u64::MAX, used.clone());
        let budget = ScratchBudget::new(usize::MAX, usize::MAX, node.clone());
        budget.take(3 * STEP_BYTES).unwrap();
        assert_eq!(node.holders.end_largest(1), (1, 3 * STEP_BYTES as u64));
        budget.give_back(2 * STEP_BYTES + 1);
        assert_eq!((budget.used(), used.get()), (STEP_BYTES - 1, STEP_BYTES as i64));
    }
}
