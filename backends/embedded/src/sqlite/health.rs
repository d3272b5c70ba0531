//! Says in the log when the file fails, and when it works again: once each, however often it is used.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether the last use of the file has failed.
#[derive(Debug)]
pub(super) struct Health {
    /// What is done with the file.
    doing: &'static str,
    failing: AtomicBool,
}

impl Health {
    pub(super) fn new(doing: &'static str) -> Self {
        Self { doing, failing: AtomicBool::new(false) }
    }

    pub(super) fn failed(&self, error: &rusqlite::Error) {
        if !self.failing.swap(true, Relaxed) {
            tracing::error!(error = %error, "{} fails", self.doing);
        }
    }

    pub(super) fn works(&self) {
        if self.failing.load(Relaxed) && self.failing.swap(false, Relaxed) {
            tracing::info!("{} works again", self.doing);
        }
    }
}
