//! Counts the memory and the tables of stores, and refuses growth at the limits.

use prometheus::IntGauge;

use crate::error::Limit;

/// Linear memory of all instances of the node together, with its limit.
#[derive(Clone, Debug)]
pub(crate) struct NodeMemory {
    max: u64,
    /// The memory that is taken. This is also the gauge of the metrics.
    used: IntGauge,
}

impl NodeMemory {
    pub(crate) fn new(max: u64, used: IntGauge) -> Self {
        Self { max, used }
    }

    /// Memory without a limit, outside of the metrics.
    pub(crate) fn unlimited() -> Self {
        let used = IntGauge::new("memory_bytes", "not shown").expect("the name is a valid one");
        Self { max: u64::MAX, used }
    }

    /// Takes the first bytes of a new memory.
    fn begin(&self, bytes: usize) -> bool {
        self.take(bytes, self.max)
    }

    /// Takes bytes for a memory that grows. The last eighth of the limit is reserved for new
    /// memories, so that a few that keep growing do not stop others from starting.
    fn grow(&self, bytes: usize) -> bool {
        self.take(bytes, self.max - self.max / 8)
    }

    fn take(&self, bytes: usize, max: u64) -> bool {
        self.used.add(bytes as i64);
        let fits = self.used.get().cast_unsigned() <= max;
        if !fits {
            // Between these two lines another request may be refused although it would fit. That is
            // accepted: the node is full.
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.used.sub(bytes as i64);
    }
}

/// Counts the memory that a store has taken, and refuses growth at the limits.
#[derive(Debug)]
pub(crate) struct GrowthLimiter {
    memory_max: usize,
    memory_left: usize,
    table_elements: usize,
    node: NodeMemory,
}

impl GrowthLimiter {
    /// A limiter of `memory_bytes` in all memories of a store, and of `table_elements` in each table.
    pub(crate) fn new(memory_bytes: usize, table_elements: usize, node: NodeMemory) -> Self {
        Self { memory_max: memory_bytes, memory_left: memory_bytes, table_elements, node }
    }

    /// Linear memory of the store.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_max - self.memory_left
    }

    /// Lets a memory of `current` bytes grow to `desired`, or returns the limit that forbids it.
    pub(crate) fn grow_memory(&mut self, current: usize, desired: usize) -> Result<(), Limit> {
        let growth = desired.saturating_sub(current);
        let left = self.memory_left.checked_sub(growth).ok_or(Limit::Memory)?;
        let taken = if current == 0 { self.node.begin(growth) } else { self.node.grow(growth) };
        if !taken {
            return Err(Limit::NodeMemory);
        }
        self.memory_left = left;
        Ok(())
    }

    /// Lets a table grow to `desired` elements, or returns the limit that forbids it.
    pub(crate) fn grow_table(&self, desired: usize) -> Result<(), Limit> {
        if desired <= self.table_elements { Ok(()) } else { Err(Limit::TableElements) }
    }
}

impl Drop for GrowthLimiter {
    fn drop(&mut self) {
        self.node.give_back(self.memory_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_counted_over_all_memories_and_refused_at_the_limit() {
        let mut limiter = GrowthLimiter::new(100, 0, NodeMemory::unlimited());
        assert_eq!(limiter.grow_memory(0, 60), Ok(()));
        assert_eq!(limiter.grow_memory(0, 40), Ok(()));
        assert_eq!(limiter.grow_memory(40, 41), Err(Limit::Memory));
        assert_eq!(limiter.memory_bytes(), 100);
    }

    #[test]
    fn all_stores_share_the_nodes_memory_and_give_it_back() {
        let used = IntGauge::new("memory_bytes", "not shown").unwrap();
        let node = NodeMemory::new(80, used.clone());
        let mut first = GrowthLimiter::new(1_000, 0, node.clone());
        let mut second = GrowthLimiter::new(1_000, 0, node);
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
        let limiter = GrowthLimiter::new(0, 20_000, NodeMemory::unlimited());
        assert_eq!(limiter.grow_table(20_000), Ok(()));
        assert_eq!(limiter.grow_table(20_001), Err(Limit::TableElements));
    }
}
