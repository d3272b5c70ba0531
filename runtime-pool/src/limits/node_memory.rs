//! The memory of the node, of which all stores take.

use prometheus::IntGauge;

use crate::limits::holders::Holders;

/// Memory of all instances of the node together, with its limit: their linear memory, and what the
/// host keeps for them.
#[derive(Clone, Debug)]
pub(crate) struct NodeMemory {
    max: u64,
    /// The memory that is taken. This is also the gauge of the metrics.
    used: IntGauge,
    /// The stores for which the host keeps much.
    pub(crate) holders: Holders,
}

impl NodeMemory {
    pub(crate) fn new(max: u64, used: IntGauge) -> Self {
        Self { max, used, holders: Holders::default() }
    }

    /// Memory without a limit, outside of the metrics.
    pub(crate) fn unlimited() -> Self {
        let used = IntGauge::new("memory_bytes", "not shown").expect("the name is a valid one");
        Self::new(u64::MAX, used)
    }

    /// Takes the first bytes of a new memory.
    pub(super) fn begin(&self, bytes: usize) -> bool {
        self.take(bytes, self.max)
    }

    /// Takes bytes for a memory that grows. The last eighth of the limit is reserved for new
    /// memories, so that a few that keep growing do not stop others from starting.
    pub(super) fn grow(&self, bytes: usize) -> bool {
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

    pub(super) fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.used.sub(bytes as i64);
        }
    }
}
