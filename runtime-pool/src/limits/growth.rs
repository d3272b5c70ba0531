//! Counts the memory and the tables of stores, and refuses growth at the limits.

use std::sync::Arc;

use crate::{
    error::Limit,
    limits::{Limits, NodeMemory, ScratchBudget, holders::Holder},
};

/// What the host keeps for a store is counted in steps of this size: the node's counter is shared by
/// all threads, and most stores never reach the first step.
const HOST_STEP_BYTES: usize = 256 << 10;

/// Counts the memory that a store has taken, and refuses growth at the limits.
#[derive(Debug)]
pub(crate) struct GrowthLimiter {
    memory_max: usize,
    memory_left: usize,
    table_elements: usize,
    /// What the host may keep for the store.
    host_max: usize,
    /// The part of it that the node has counted, in whole steps.
    host_counted: usize,
    holder: Option<Arc<Holder>>,
    /// The scratch directory of the store, if it has one.
    scratch: Option<Arc<ScratchBudget>>,
    node: NodeMemory,
}

impl GrowthLimiter {
    /// A limiter of `memory_bytes` in all memories of a store, of `table_elements` in each table, and
    /// of `host_bytes` that the host keeps for it.
    pub(crate) fn new(limits: &Limits, node: NodeMemory) -> Self {
        let &Limits { scratch_bytes, memory_bytes, .. } = limits;
        let scratch = (scratch_bytes > 0)
            .then(|| Arc::new(ScratchBudget::new(scratch_bytes, memory_bytes, node.clone())));
        Self {
            memory_max: limits.memory_bytes,
            memory_left: limits.memory_bytes,
            table_elements: limits.guest.table_elements,
            host_max: limits.guest.host_bytes,
            host_counted: 0,
            holder: scratch.as_ref().map(|scratch| Arc::clone(scratch.holder())),
            scratch,
            node,
        }
    }

    /// Linear memory of the store.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_max - self.memory_left
    }

    /// Lets a memory of `current` bytes grow to `desired`, or returns the limit that forbids it.
    pub(crate) fn grow_memory(&mut self, current: usize, desired: usize) -> Result<(), Limit> {
        let growth = desired.saturating_sub(current);
        let left = self.memory_left.checked_sub(growth).ok_or(Limit::Memory)?;
        if self.scratch.as_ref().is_some_and(|scratch| scratch.used() > left) {
            return Err(Limit::Memory);
        }
        let taken = if current == 0 { self.node.begin(growth) } else { self.node.grow(growth) };
        if !taken {
            return Err(Limit::NodeMemory);
        }
        self.memory_left = left;
        if let Some(scratch) = &self.scratch {
            scratch.set_linear(self.memory_bytes());
        }
        Ok(())
    }

    /// Lets a table grow to `desired` elements, or returns the limit that forbids it.
    pub(crate) fn grow_table(&self, desired: usize) -> Result<(), Limit> {
        if desired <= self.table_elements { Ok(()) } else { Err(Limit::TableElements) }
    }

    /// Lets the host keep `bytes` for the store, or returns the limit that forbids it.
    pub(crate) fn keep_in_host(&mut self, bytes: usize) -> Result<(), Limit> {
        if bytes > self.host_max {
            return Err(Limit::HostBytes);
        }
        let (before, counted) = (self.host_counted, bytes - bytes % HOST_STEP_BYTES);
        if counted > before && !self.node.grow(counted - before) {
            return Err(Limit::NodeMemory);
        }
        self.node.give_back(before.saturating_sub(counted));
        self.host_counted = counted;
        if counted > 0 || self.holder.is_some() {
            self.holder.get_or_insert_with(|| self.node.holders.join()).set(counted);
        }
        Ok(())
    }

    /// The scratch directory of the store, if it has one.
    pub(crate) fn scratch(&self) -> Option<&Arc<ScratchBudget>> {
        self.scratch.as_ref()
    }

    /// What the host may keep for the store.
    pub(crate) fn host_max(&self) -> usize {
        self.host_max
    }

    /// The store among those for which the host keeps much, if it is one.
    pub(crate) fn holder(&self) -> Option<&Arc<Holder>> {
        self.holder.as_ref()
    }
}

impl Drop for GrowthLimiter {
    fn drop(&mut self) {
        self.node.give_back(self.memory_bytes() + self.host_counted);
    }
}

#[cfg(test)]
mod tests {
    use prometheus::IntGauge;

    use super::*;
    use crate::limits::GuestLimits;

    fn limiter(memory_bytes: usize, node: NodeMemory) -> GrowthLimiter {
        let guest = GuestLimits { host_bytes: 4 * HOST_STEP_BYTES, ..GuestLimits::default() };
        GrowthLimiter::new(&Limits { memory_bytes, guest, ..Limits::default() }, node)
    }

    #[test]
    fn growth_is_counted_over_all_memories_and_refused_at_the_limit() {
        let mut limiter = limiter(100, NodeMemory::unlimited());
        assert_eq!(limiter.grow_memory(0, 60), Ok(()));
        assert_eq!(limiter.grow_memory(0, 40), Ok(()));
        assert_eq!(limiter.grow_memory(40, 41), Err(Limit::Memory));
        assert_eq!(limiter.memory_bytes(), 100);
    }

    #[test]
    fn all_stores_share_the_nodes_memory_and_give_it_back() {
        let used = IntGauge::new("memory_bytes", "not shown").unwrap();
        let node = NodeMemory::new(80, used.clone());
        let mut first = limiter(1_000, node.clone());
        let mut second = limiter(1_000, node);
        assert_eq!(first.grow_memory(0, 10), Ok(()));
        assert_eq!(first.grow_memory(10, 70), Ok(()));
        // The rest is reserved for new memories.
        assert_eq!(first.grow_memory(70, 71), Err(Limit::NodeMemory));
        assert_eq!(second.grow_memory(0, 11), Err(Limit::NodeMemory));
        assert_eq!(second.grow_memory(0, 10), Ok(()));
        drop(first);
        assert_eq!(second.grow_memory(10, 70), Ok(()));
        assert_eq!(used.get(), 70);
        drop(second);
        assert_eq!(used.get(), 0);
    }

    #[test]
    fn a_table_may_grow_to_its_limit_and_no_further() {
        let limiter = limiter(0, NodeMemory::unlimited());
        assert_eq!(limiter.grow_table(20_000), Ok(()));
        assert_eq!(limiter.grow_table(20_001), Err(Limit::TableElements));
    }

    #[test]
    fn linear_memory_and_the_scratch_directory_share_one_limit() {
        let limits = Limits { memory_bytes: 100, scratch_bytes: 80, ..Limits::default() };
        let mut limiter = GrowthLimiter::new(&limits, NodeMemory::unlimited());
        let scratch = Arc::clone(limiter.scratch().unwrap());
        assert_eq!(limiter.grow_memory(0, 40), Ok(()));
        assert_eq!(scratch.take(61), Err(Limit::Memory));
        assert_eq!(scratch.take(60), Ok(()));
        assert_eq!(limiter.grow_memory(40, 41), Err(Limit::Memory));
        scratch.give_back(1);
        assert_eq!(limiter.grow_memory(40, 41), Ok(()));
        assert_eq!(limiter.memory_bytes(), 41);
    }

    #[test]
    fn what_the_host_keeps_counts_as_the_nodes_memory_in_steps_and_is_given_back() {
        let used = IntGauge::new("memory_bytes", "not shown").unwrap();
        let node = NodeMemory::new(4 * HOST_STEP_BYTES as u64, used.clone());
        let mut store = limiter(0, node.clone());
        assert_eq!(store.keep_in_host(HOST_STEP_BYTES - 1), Ok(()));
        assert_eq!((used.get(), store.holder().is_some()), (0, false));
        assert_eq!(store.keep_in_host(3 * HOST_STEP_BYTES + 1), Ok(()));
        assert_eq!(used.get(), 3 * HOST_STEP_BYTES as i64);
        assert_eq!(node.holders.end_largest(1), (1, 3 * HOST_STEP_BYTES as u64));
        // Beyond the store's own limit, and beyond what the node leaves to those that grow.
        assert_eq!(store.keep_in_host(4 * HOST_STEP_BYTES + 1), Err(Limit::HostBytes));
        assert_eq!(store.keep_in_host(4 * HOST_STEP_BYTES), Err(Limit::NodeMemory));
        assert_eq!(store.keep_in_host(HOST_STEP_BYTES), Ok(()));
        assert_eq!(used.get(), HOST_STEP_BYTES as i64);
        drop(store);
        assert_eq!(used.get(), 0);
    }
}
