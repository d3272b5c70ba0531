//! Whether processors or memory are used up, so that requests are refused before anything was done
//! for them, and those that are let in are answered in time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use runtime_pool::RunQueue;

use crate::problem::Problem;

/// What every request asks first.
#[derive(Debug)]
pub(crate) struct LoadShedder {
    turns: Arc<RunQueue>,
    /// Whether the node's memory is as good as used up.
    out_of_memory: AtomicBool,
}

impl LoadShedder {
    /// There is memory, and `turns` knows of the processors.
    pub(crate) fn new(turns: Arc<RunQueue>) -> Self {
        Self { turns, out_of_memory: AtomicBool::new(false) }
    }

    /// Why a request that comes now must be refused, if it must.
    pub(crate) fn refusal(&self) -> Option<Problem> {
        if self.out_of_memory.load(Relaxed) {
            Some(Problem::memory_pressure())
        } else if self.turns.too_long() {
            Some(Problem::cpu_pressure())
        } else {
            None
        }
    }

    /// Says whether the node's memory is as good as used up.
    pub(crate) fn set_out_of_memory(&self, out: bool) {
        self.out_of_memory.store(out, Relaxed);
    }
}
