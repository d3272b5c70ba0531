//! A function's slots: how many invocations run at once, and how many wait for one of them to end.
//!
//! All that wait on the node stand in one line, in which each function may take as many places as
//! it leaves to others: the more of them want some, the fewer each gets, and one that nobody has
//! called yet always finds one.
//!
//! Invariant: each slot that was taken is given back once, and nobody is in the queue who does not
//! wait. `models/` tries it with every order of events.

use std::time::Duration;

use crate::sync::{Arc, AtomicUsize, Ordering::Relaxed, Semaphore, timeout};

/// Why there is no slot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoSlot {
    /// The function's queue is full, or the wait was too long.
    Function,
    /// So many wait on the node that the function may have no more of them.
    Node,
}

/// Those who wait for a slot on the node.
pub(crate) struct NodeQueue {
    waiting: AtomicUsize,
    max: usize,
}

impl NodeQueue {
    pub(crate) fn new(max: usize) -> Self {
        Self { waiting: AtomicUsize::new(0), max }
    }
}

/// What may run at once, and what may wait.
pub(crate) struct Slots {
    free: Semaphore,
    count: usize,
    queued: AtomicUsize,
    queue: usize,
    line: Arc<NodeQueue>,
    wait: Duration,
}

/// A place in the queue; given up when dropped.
pub(crate) struct QueueTicket<'a> {
    slots: &'a Slots,
    /// Those who came before.
    pub(crate) ahead: usize,
}

impl Slots {
    /// `queue` many may wait in the node's line, each at most for `wait`.
    pub(crate) fn new(count: usize, queue: usize, line: Arc<NodeQueue>, wait: Duration) -> Self {
        Self { free: Semaphore::new(count), count, queued: AtomicUsize::new(0), queue, line, wait }
    }

    /// Slots that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.count - self.free.available_permits()
    }

    /// Takes a slot if one is free. Whoever takes one must [give it back](Self::give_back).
    pub(crate) fn take(&self) -> bool {
        // A permit that is forgotten is given back by hand.
        self.free.try_acquire().map(|permit| permit.forget()).is_ok()
    }

    /// A place in the queue for one.
    pub(crate) fn join_queue(&self) -> Result<QueueTicket<'_>, NoSlot> {
        // Whoever is one too many takes its own place back by dropping it.
        let ahead = self.queued.fetch_add(1, Relaxed);
        let place = QueueTicket { slots: self, ahead };
        let left = self.line.max.saturating_sub(self.line.waiting.fetch_add(1, Relaxed));
        if ahead >= self.queue {
            return Err(NoSlot::Function);
        }
        if ahead >= left {
            return Err(NoSlot::Node);
        }
        Ok(place)
    }

    pub(crate) fn give_back(&self) {
        self.free.add_permits(1);
    }
}

impl QueueTicket<'_> {
    /// Waits for a slot and takes it. Those who wait get theirs in the order in which they came.
    pub(crate) async fn slot(self) -> Result<(), NoSlot> {
        let Self { slots, .. } = &self;
        // Who leaves while the slot is on its way passes it on: the permit is its own until then.
        let permit = timeout(slots.wait, slots.free.acquire()).await;
        permit.map_err(|_| NoSlot::Function)?.map_err(|_| NoSlot::Function)?.forget();
        Ok(())
    }
}

impl Drop for QueueTicket<'_> {
    fn drop(&mut self) {
        self.slots.queued.fetch_sub(1, Relaxed);
        self.slots.line.waiting.fetch_sub(1, Relaxed);
    }
}
