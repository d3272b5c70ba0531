//! Does a guest that pauses wait for something, or does it only yield to other tasks?

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// Wakes the task of a guest, and remembers that it did. A guest that was woken during its own poll
/// does not wait for anything: it continues as soon as it is polled again.
#[derive(Debug, Default)]
pub(crate) struct ProgressWaker {
    task: AtomicWaker,
    woken: AtomicBool,
}

impl ProgressWaker {
    /// The waker to poll the guest with. It wakes the task of `task`.
    pub(crate) fn waker(self: &Arc<Self>, task: &Waker) -> Waker {
        self.task.register(task);
        Waker::from(Arc::clone(self))
    }

    /// Forgets earlier wakes. Called before each poll.
    pub(crate) fn reset(&self) {
        self.woken.store(false, Relaxed);
    }

    /// Whether the guest was woken since the last reset.
    pub(crate) fn was_woken(&self) -> bool {
        self.woken.load(Relaxed)
    }
}

impl Wake for ProgressWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Stored before the wake: the poll that the wake causes may reset it at once.
        self.woken.store(true, Relaxed);
        self.task.wake();
    }
}
