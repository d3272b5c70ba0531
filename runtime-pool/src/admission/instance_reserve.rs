//! The last eighth of the instances goes to functions and callers that have few.
//!
//! A call gets one of them only while its function, and its caller, have fewer calls running than
//! instances are left. So a function whose guests sleep, or a client with many calls, does not keep
//! the others out, and needs no share of its own while the node has room.
//!
//! An instance takes a slot of several kinds in its engine. Each kind has its own reserve.

use wasmtime::{Engine, PoolingAllocatorMetrics};

use crate::engine::EngineSlots;

/// Decides which calls get an instance of one engine.
pub(crate) struct InstanceReserve {
    taken: PoolingAllocatorMetrics,
    slots: EngineSlots,
}

impl InstanceReserve {
    /// `None` if the engine has no pool.
    pub(crate) fn new(engine: &Engine, slots: EngineSlots) -> Option<Self> {
        Some(Self { taken: engine.pooling_allocator_metrics()?, slots })
    }

    /// Whether a call may get an instance, if its function or its caller has `others` running.
    ///
    /// Only reads what the engine counts, so that calls do not wait for each other. Several at the
    /// same time may all be admitted; the engine still has the last word.
    pub(crate) fn admits(&self, others: usize) -> bool {
        let Self { taken, slots } = self;
        [
            (taken.component_instances(), slots.instances),
            (taken.stacks() as u64, slots.stacks),
            (taken.core_instances(), slots.core_instances),
            (taken.memories() as u64, slots.memories),
            (taken.tables() as u64, slots.tables),
        ]
        .into_iter()
        .all(|(taken, total)| has_room(taken, total.into(), slots.instances.into(), others as u64))
    }
}

/// Whether one of `total` slots may be taken. What is left of them is counted in instances.
fn has_room(taken: u64, total: u64, instances: u64, others: u64) -> bool {
    let left = total.saturating_sub(taken);
    left > total / 8 || left * instances > others.saturating_mul(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_eighth_is_for_those_that_have_fewer_than_are_left() {
        let room = |taken, others| has_room(taken, 1_000, 1_000, others);
        assert!(room(874, 874));
        assert!(!room(875, 875));
        assert!(room(875, 124) && !room(875, 125));
        assert!(room(999, 0) && !room(999, 1));
        assert!(!room(1_000, 0));
    }

    #[test]
    fn slots_of_which_an_instance_takes_many_are_counted_in_instances() {
        // Sixteen slots for each of 1,000 instances, of which each of these takes 64.
        let room = |running: u64, others| has_room(running * 64, 16_000, 1_000, others);
        assert!(room(218, 218));
        assert!(!room(219, 219), "2,000 of 16,000 slots are left, as for 125 instances");
        assert!(room(219, 100));
    }

    #[test]
    fn a_small_pool_has_no_reserve() {
        assert!(has_room(1, 2, 2, 1));
        assert!(!has_room(2, 2, 2, 0));
    }
}
