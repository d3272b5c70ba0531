//! Sheds load while the processors or the memory are used up: requests are rejected before any work
//! is done for them, so that admitted requests are answered in time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use runtime_pool::RunQueue;

use crate::problem::Problem;

/// Decides for every request, before anything else.
#[derive(Debug)]
pub(crate) struct LoadShedder {
    run_queue: Arc<RunQueue>,
    /// Whether the node's memory is almost used up.
    out_of_memory: AtomicBool,
}

impl LoadShedder {
    /// Assumes that there is memory; `run_queue` knows how busy the processors are.
    pub(crate) fn new(run_queue: Arc<RunQueue>) -> Self {
        Self { run_queue, out_of_memory: AtomicBool::new(false) }
    }

    /// Why a new request must be rejected, if it must.
    pub(crate) fn rejection(&self) -> Option<Problem> {
        if self.out_of_memory.load(Relaxed) {
            Some(Problem::memory_pressure())
        } else if self.run_queue.too_long() {
            Some(Problem::cpu_pressure())
        } else {
            None
        }
    }

    /// Sets whether the node's memory is almost used up.
    pub(crate) fn set_out_of_memory(&self, out: bool) {
        self.out_of_memory.store(out, Relaxed);
    }
}
