//! A function's slots: how many invocations run at once, and how many wait for one of them to end.
//!
//! Invariant: each slot that was taken is given back once, and nobody is in the queue who does not
//! wait. `models/` tries it with every order of events.

use std::time::Duration;

use crate::sync::{AtomicUsize, Ordering::Relaxed, Semaphore, timeout};

/// There was no slot, nor one to be had in time.
#[derive(Debug)]
pub(crate) struct NoSlot;

/// What may run at once, and what may wait.
pub(crate) struct Slots {
    free: Semaphore,
    count: usize,
    queued: AtomicUsize,
    queue: usize,
    wait: Duration,
}

/// A place in the queue; given up when dropped.
pub(crate) struct QueuePlace<'a>(&'a Slots);

impl Slots {
    /// `queue` many may wait, each at most for `wait`.
    pub(crate) fn new(count: usize, queue: usize, wait: Duration) -> Self {
        Self { free: Semaphore::new(count), count, queued: AtomicUsize::new(0), queue, wait }
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
    pub(crate) fn join_queue(&self) -> Result<QueuePlace<'_>, NoSlot> {
        let place = QueuePlace(self);
        // Whoever is one too many takes its own place back by dropping it.
        if self.queued.fetch_add(1, Relaxed) < self.queue { Ok(place) } else { Err(NoSlot) }
    }

    pub(crate) fn give_back(&self) {
        self.free.add_permits(1);
    }
}

impl QueuePlace<'_> {
    /// Waits for a slot and takes it. Those who wait get theirs in the order in which they came.
    pub(crate) async fn slot(self) -> Result<(), NoSlot> {
        let Self(slots) = &self;
        // Who leaves while the slot is on its way passes it on: the permit is its own until then.
        let permit = timeout(slots.wait, slots.free.acquire()).await;
        permit.map_err(|_| NoSlot)?.map_err(|_| NoSlot)?.forget();
        Ok(())
    }
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Relaxed);
    }
}
