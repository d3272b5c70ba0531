//! The room for warm instances: their number, and their memory together.

use crate::sync::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Never gives out more than there is. Of two that ask at the same time, both may be refused where
/// there is too little room for one of them.
pub(crate) struct WarmRoom {
    instances: AtomicUsize,
    bytes: AtomicU64,
    instances_max: usize,
    bytes_max: u64,
}

impl WarmRoom {
    pub(crate) fn new(instances_max: usize, bytes_max: u64) -> Self {
        let (instances, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { instances, bytes, instances_max, bytes_max }
    }

    /// Takes room for an instance of this size. Returns whether there is enough.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let instances = self.instances.fetch_add(1, Relaxed) + 1;
        let total = self.bytes.fetch_add(bytes, Relaxed) + bytes;
        let enough = instances <= self.instances_max && total <= self.bytes_max;
        if !enough {
            self.give_back(bytes);
        }
        enough
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.instances.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }
}
