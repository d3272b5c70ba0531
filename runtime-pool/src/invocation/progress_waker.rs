//! Whether a guest that pauses waits for something, or only lets others have their turn.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// Wakes the task of a guest, and remembers that it did: whoever is woken while it is polled goes
/// on as soon as it may, and waits for nothing.
#[derive(Debug, Default)]
pub(crate) struct ProgressWaker {
    task: AtomicWaker,
    woken: AtomicBool,
}

impl ProgressWaker {
    /// A waker to poll the guest with, in the task that `task` wakes.
    pub(crate) fn waker(self: &Arc<Self>, task: &Waker) -> Waker {
        self.task.register(task);
        Waker::from(Arc::clone(self))
    }

    /// Begins anew, before a poll.
    pub(crate) fn begin(&self) {
        self.woken.store(false, Relaxed);
    }

    /// Whether there was a wake since.
    pub(crate) fn woken(&self) -> bool {
        self.woken.load(Relaxed)
    }
}

impl Wake for ProgressWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The mark first: who is polled because of the wake may clear it.
        self.woken.store(true, Relaxed);
        self.task.wake();
    }
}
