//! How thoroughly a model explores the orders of events.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use loom::{model::Builder, sync::atomic::AtomicBool};

/// Tries every order of two threads' events.
pub(crate) fn every_order(model: impl Fn() + Sync + Send + 'static) {
    Builder::new().check(model);
}

/// Tries the orders of three threads' events with a bounded number of preemptions. Without a bound
/// three threads take days, and bugs that need many preemptions are rare. `MAYFLY_LONG=1` raises
/// the bound.
pub(crate) fn orders_of_three(model: impl Fn() + Sync + Send + 'static) {
    let long = std::env::var_os("MAYFLY_LONG").is_some();
    let mut builder = Builder::new();
    builder.preemption_bound = Some(if long { 5 } else { 3 });
    builder.check(model);
}

/// Asserts how many threads are inside a section at once. It is not part of the model: its counter
/// adds no events except for the one in the middle of the section.
pub(crate) struct Inside {
    now: AtomicUsize,
    max: usize,
    middle: AtomicBool,
}

impl Inside {
    pub(crate) fn new(max: usize) -> Self {
        Self { now: AtomicUsize::new(0), max, middle: AtomicBool::new(false) }
    }

    /// Enters the section with this weight, and leaves it.
    pub(crate) fn stay(&self, weight: usize) {
        let now = self.now.fetch_add(weight, SeqCst) + weight;
        assert!(now <= self.max, "{now} are inside where {} may be", self.max);
        self.middle.load(SeqCst);
        self.now.fetch_sub(weight, SeqCst);
    }
}
