//! The concurrency slots of a function: how many invocations run at once, and how many wait for one
//! of them to end.
//!
//! All waiting invocations of the node count against one limit. A function may take at most as many
//! places as it leaves free: the more functions have waiting invocations, the fewer places each gets,
//! and a function that has none in the queue nearly always finds a place.
//!
//! Invariants: each slot that is taken is released once, and an invocation that does not wait holds
//! no place in the queue. `models/` checks them in every order of events.

use std::time::Duration;

use crate::sync::{Arc, AtomicUsize, Ordering::Relaxed, Semaphore, timeout};

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSlot {
    /// The function's queue is full, or the wait was too long.
    Function,
    /// So many invocations wait on the node that this function may not add another.
    Node,
}

/// Counts the invocations of all functions that wait for a slot.
pub(crate) struct NodeQueue {
    waiting: AtomicUsize,
    max: usize,
}

impl NodeQueue {
    pub(crate) fn new(max: usize) -> Self {
        Self { waiting: AtomicUsize::new(0), max }
    }
}

/// The slots of one function, and the queue for them.
pub(crate) struct Slots {
    free: Semaphore,
    count: usize,
    queued: AtomicUsize,
    queue: usize,
    node_queue: Arc<NodeQueue>,
    wait: Duration,
}

/// A place in the queue, given up on drop.
pub(crate) struct QueueTicket<'a> {
    slots: &'a Slots,
    /// The invocations that came before.
    pub(crate) ahead: usize,
}

impl Slots {
    /// At most `queue` invocations may wait, each for at most `wait`.
    pub(crate) fn new(
        count: usize,
        queue: usize,
        node_queue: Arc<NodeQueue>,
        wait: Duration,
    ) -> Self {
        Self {
            free: Semaphore::new(count),
            count,
            queued: AtomicUsize::new(0),
            queue,
            node_queue,
            wait,
        }
    }

    /// The number of slots that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.count - self.free.available_permits()
    }

    /// Takes a slot if one is free. The caller must [release](Self::release) it.
    pub(crate) fn try_take(&self) -> bool {
        // The permit borrows the semaphore, which a slot outlives: `release` adds it again.
        self.free.try_acquire().map(|permit| permit.forget()).is_ok()
    }

    /// Takes a place in the queue.
    pub(crate) fn join_queue(&self) -> Result<QueueTicket<'_>, NoSlot> {
        // If there is no place, then dropping the ticket undoes both additions.
        let ahead = self.queued.fetch_add(1, Relaxed);
        let ticket = QueueTicket { slots: self, ahead };
        let left =
            self.node_queue.max.saturating_sub(self.node_queue.waiting.fetch_add(1, Relaxed));
        if ahead >= self.queue {
            return Err(NoSlot::Function);
        }
        if ahead >= left {
            return Err(NoSlot::Node);
        }
        Ok(ticket)
    }

    pub(crate) fn release(&self) {
        self.free.add_permits(1);
    }
}

impl QueueTicket<'_> {
    /// Waits for a slot and takes it. Slots are given out in the order of arrival.
    pub(crate) async fn wait(self) -> Result<(), NoSlot> {
        let Self { slots, .. } = &self;
        // If this future is dropped when the permit is already its own, then the semaphore passes
        // the permit on to the next. Only `forget` makes it a slot.
        let permit = timeout(slots.wait, slots.free.acquire()).await;
        permit.map_err(|_| NoSlot::Function)?.map_err(|_| NoSlot::Function)?.forget();
        Ok(())
    }
}

impl Drop for QueueTicket<'_> {
    fn drop(&mut self) {
        self.slots.queued.fetch_sub(1, Relaxed);
        self.slots.node_queue.waiting.fetch_sub(1, Relaxed);
    }
}
