//! Making warm instances: one at a time, until there are enough.

use crate::sync::{AtomicBool, Ordering::AcqRel};

/// Whether a task is making instances.
pub(crate) struct Refilling(AtomicBool);

/// The right to make instances. Released on drop, also after a panic.
struct Refiller<'a>(&'a Refilling);

impl Refilling {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Takes the right to make instances. Returns whether it was free. The task that gets it calls
    /// [`Self::until_enough`].
    pub(crate) fn begin(&self) -> bool {
        !self.0.swap(true, AcqRel)
    }

    /// Makes instances until none are missing, or until making one fails.
    pub(crate) async fn until_enough<F: Future<Output = bool>>(
        &self,
        is_short: impl Fn() -> bool,
        make: impl Fn() -> F,
    ) {
        loop {
            let maker = Refiller(self);
            let mut succeeded = true;
            while succeeded && is_short() {
                succeeded = make().await;
            }
            drop(maker);
            // A task that raised the target between the last check and the release has found the
            // right taken, and has left the work to this one. So check once more.
            if !(succeeded && is_short() && self.begin()) {
                return;
            }
        }
    }
}

impl Drop for Refiller<'_> {
    fn drop(&mut self) {
        // An exchange, not a store: it sees what tasks wrote before they found the right taken.
        self.0.0.swap(false, AcqRel);
    }
}
