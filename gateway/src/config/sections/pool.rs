//! `[pool]` and `[compile]`: functions in memory, and the compiler.

use serde::{Deserialize, Serialize};

use super::machine::{cores, memory};
use crate::config::sizes::{GIB, MIB};

/// How many functions and instances are in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolSection {
    /// Instances at once, of all functions together.
    pub instances: usize,
    /// Linear memory of all instances together; 0: three quarters of the machine's memory. See
    /// [`Self::memory_budget`].
    pub memory_bytes: u64,
    /// Memory that a slot keeps of one instance for the next.
    pub keep_bytes: usize,
    /// Buffered request bodies of all invocations together.
    pub buffer_bytes: u64,
    /// Time with hardly any call after which slots give that back, too; 0: never.
    pub idle_memory_ms: u64,
    /// Memory of resident functions: their native code, and 45 KiB for each.
    pub resident_bytes: u64,
    /// Whether functions for WASI 0.3 are served: their engine costs address space of its own.
    pub async_engine: bool,
    /// Whether simple components for WASI HTTP 0.2 run as their core module, without the engine's
    /// component layer.
    pub core_modules: bool,
    /// Functions that are loaded at once; 0: twice the number of cores. See [`Self::load_count`].
    pub loads: usize,
    /// Invocations that may wait for a slot, of all functions together.
    pub queue: usize,
    /// Warm instances of all functions together.
    pub warm_instances: usize,
    /// Linear memory of all warm instances.
    pub warm_bytes: u64,
    /// A function without `min_warm` gets warm instances only if making one takes at least this long.
    pub warm_from_us: u64,
}

impl Default for PoolSection {
    fn default() -> Self {
        Self {
            instances: 1_000,
            memory_bytes: 0,
            keep_bytes: 8 * MIB as usize,
            buffer_bytes: GIB,
            idle_memory_ms: 10_000,
            resident_bytes: GIB,
            async_engine: true,
            core_modules: true,
            loads: 4,
            queue: 2_000,
            warm_instances: 100,
            warm_bytes: GIB,
            warm_from_us: 250,
        }
    }
}

impl PoolSection {
    /// Functions that are loaded at once.
    #[must_use]
    pub fn load_count(&self) -> usize {
        if self.loads == 0 { cores() * 2 } else { self.loads }
    }

    /// Linear memory of all instances together.
    #[must_use]
    pub fn memory_budget(&self) -> u64 {
        // A quarter is left for native code, connections and other processes.
        if self.memory_bytes == 0 { memory() / 4 * 3 } else { self.memory_bytes }
    }
}

/// The compiler and its child process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompileSection {
    /// Compilations at once; 0: half of the cores. See [`Self::job_count`].
    pub jobs: usize,
    /// Compilations that may wait in the queue.
    pub queue: usize,
    /// Address space of one compilation.
    pub memory_bytes: u64,
    /// CPU time of one compilation.
    pub cpu_s: u64,
    /// Wall-clock time of one compilation.
    pub wall_s: u64,
    /// Native code that one compilation may produce.
    pub output_bytes: u64,
    /// Whether artifacts whose native code is of another build are recompiled in the background
    /// after a start.
    pub renew: bool,
    /// Whether uploads by tokens that may deploy but not administer need a complete sandbox.
    pub require_sandbox: bool,
}

impl Default for CompileSection {
    fn default() -> Self {
        Self {
            jobs: 0,
            queue: 64,
            memory_bytes: 3 * GIB,
            cpu_s: 60,
            wall_s: 120,
            output_bytes: 256 * MIB,
            renew: true,
            require_sandbox: true,
        }
    }
}

impl CompileSection {
    /// Compilations at once. By default half of the cores, so that deploys leave processors for
    /// invocations.
    #[must_use]
    pub fn job_count(&self) -> usize {
        if self.jobs == 0 { (cores() / 2).max(1) } else { self.jobs }
    }
}
