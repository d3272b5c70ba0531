//! `[pool]` and `[compile]`: functions in memory, and the compiler.

use serde::{Deserialize, Serialize};

use super::machine::{cores, memory};
use crate::config::sizes::{GIB, MIB};

/// Functions and instances in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolSection {
    /// Instances alive at once, over all functions.
    pub instances: usize,
    /// Linear memory of all instances together; 0 stands for three quarters of the machine's. See
    /// [`Self::memory_budget`].
    pub memory_bytes: u64,
    /// What a slot keeps of an instance's memory for the next one.
    pub keep_bytes: usize,
    /// What resident functions may take: their native code, and 45 KiB for each.
    pub resident_bytes: u64,
    /// Whether functions for WASI 0.3 are served: their engine costs address space of its own.
    pub async_engine: bool,
    /// Functions being loaded at once; 0 stands for twice the cores. See [`Self::load_count`].
    pub loads: usize,
    /// Invocations that may wait for a slot, over all functions.
    pub queue: usize,
    /// Instances that may wait for calls, over all functions.
    pub warm_instances: usize,
    /// Linear memory of all instances that wait.
    pub warm_bytes: u64,
    /// Instances wait unasked only for functions where making one takes at least this long.
    pub warm_from_us: u64,
}

impl Default for PoolSection {
    fn default() -> Self {
        Self {
            instances: 1_000,
            memory_bytes: 0,
            keep_bytes: 8 * MIB as usize,
            resident_bytes: GIB,
            async_engine: true,
            loads: 4,
            queue: 2_000,
            warm_instances: 100,
            warm_bytes: GIB,
            warm_from_us: 250,
        }
    }
}

impl PoolSection {
    /// Functions being loaded at once.
    #[must_use]
    pub fn load_count(&self) -> usize {
        if self.loads == 0 { cores() * 2 } else { self.loads }
    }

    /// Linear memory of all instances together.
    #[must_use]
    pub fn memory_budget(&self) -> u64 {
        // A quarter is left for the code, the connections and everybody else.
        if self.memory_bytes == 0 { memory() / 4 * 3 } else { self.memory_bytes }
    }
}

/// The compiler and its child process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompileSection {
    /// Compilations at once; 0 stands for half of the cores. See [`Self::job_count`].
    pub jobs: usize,
    /// Compilations that may wait for one of those to end.
    pub queue: usize,
    /// Address space of one compilation.
    pub memory_bytes: u64,
    /// CPU time of one compilation.
    pub cpu_s: u64,
    /// Wall-clock time of one compilation.
    pub wall_s: u64,
    /// Native code that one compilation may produce.
    pub output_bytes: u64,
    /// Whether native code of another build is made anew in the background after a start.
    pub renew: bool,
}

impl Default for CompileSection {
    fn default() -> Self {
        Self {
            jobs: 0,
            queue: 32,
            memory_bytes: 3 * GIB,
            cpu_s: 60,
            wall_s: 120,
            output_bytes: 256 * MIB,
            renew: true,
        }
    }
}

impl CompileSection {
    /// Compilations at once. Half of the cores, so that a deploy never takes the machine away
    /// from invocations.
    #[must_use]
    pub fn job_count(&self) -> usize {
        if self.jobs == 0 { (cores() / 2).max(1) } else { self.jobs }
    }
}
