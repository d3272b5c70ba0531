//! Making instances that wait: one at a time, until there are enough.

use crate::sync::{AtomicBool, Ordering::AcqRel};

/// Whether somebody is making some.
pub(crate) struct Refilling(AtomicBool);

/// Gives back the right to make more, however making them ends.
struct Refiller<'a>(&'a Refilling);

impl Refilling {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// The right to make more, if nobody has it. Whoever gets it calls [`Self::until_enough`].
    pub(crate) fn begin(&self) -> bool {
        !self.0.swap(true, AcqRel)
    }

    /// Makes more until nothing is missing or it does not go well.
    pub(crate) async fn until_enough<F: Future<Output = bool>>(
        &self,
        is_short: impl Fn() -> bool,
        make: impl Fn() -> F,
    ) {
        loop {
            let maker = Refiller(self);
            let mut goes_well = true;
            while goes_well && is_short() {
                goes_well = make().await;
            }
            drop(maker);
            // Who wanted more after we had last looked, but before we were done, has left it to
            // us: so look once more.
            if !(goes_well && is_short() && self.begin()) {
                return;
            }
        }
    }
}

impl Drop for Refiller<'_> {
    fn drop(&mut self) {
        // An exchange and no mere write: who found us at it has been heard then.
        self.0.0.swap(false, AcqRel);
    }
}
