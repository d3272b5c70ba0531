//! How thoroughly the orders of events are tried.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use loom::{model::Builder, sync::atomic::AtomicBool};

/// Tries every order of two threads' events.
pub(crate) fn every_order(model: impl Fn() + Sync + Send + 'static) {
    Builder::new().check(model);
}

/// Tries every order of three threads' events in which a thread is interrupted, in the middle of
/// what it does, at most so often in all. Without a bound three threads take days; what few
/// interruptions do not find, many hardly do. `MAYFLY_LONG=1` allows more of them.
pub(crate) fn orders_of_three(model: impl Fn() + Sync + Send + 'static) {
    let long = std::env::var_os("MAYFLY_LONG").is_some();
    let mut builder = Builder::new();
    builder.preemption_bound = Some(if long { 5 } else { 3 });
    builder.check(model);
}

/// How many are inside of what only so many may be in. No part of what is modelled: its counter
/// adds no events of its own but the one in the middle.
pub(crate) struct Inside {
    now: AtomicUsize,
    max: usize,
    middle: AtomicBool,
}

impl Inside {
    pub(crate) fn new(max: usize) -> Self {
        Self { now: AtomicUsize::new(0), max, middle: AtomicBool::new(false) }
    }

    /// Stays inside for a moment, with this weight.
    pub(crate) fn stay(&self, weight: usize) {
        let now = self.now.fetch_add(weight, SeqCst) + weight;
        assert!(now <= self.max, "{now} are inside where {} may be", self.max);
        self.middle.load(SeqCst);
        self.now.fetch_sub(weight, SeqCst);
    }
}
