//! The counter that most invocations of a function increment.

use std::sync::OnceLock;

use prometheus::IntCounter;

/// Counts the invocations that a resident function has answered. The first of them looks the
/// counter up by its labels; the others find it here.
#[derive(Debug, Default)]
pub(crate) struct OkCounter(OnceLock<IntCounter>);

impl OkCounter {
    /// Counts one invocation. `find` looks the counter up.
    pub(crate) fn inc(&self, find: impl FnOnce() -> IntCounter) {
        self.0.get_or_init(find).inc();
    }
}
