//! How compilation is run and bounded.

use std::{path::PathBuf, time::Duration};

/// How compilation is run and bounded.
#[derive(Clone, Debug)]
pub struct CompileConfig {
    /// The program to start as the worker: this same binary.
    pub worker: PathBuf,
    /// Where native code is kept.
    pub dir: PathBuf,
    /// Compilations that may run at once.
    pub jobs: usize,
    /// Compilations that may wait for those.
    pub queue: usize,
    /// Address space of a worker, in bytes.
    pub memory_bytes: u64,
    /// CPU time of a worker, in seconds.
    pub cpu_s: u64,
    /// Wall-clock time of a worker.
    pub wall: Duration,
    /// The largest native code of one artifact, in bytes.
    pub output_bytes: u64,
    /// Compilations that deploys may begin within a minute. Published revisions are recompiled
    /// without this limit.
    pub deploys_per_minute: usize,
    /// Whether simple components for WASI HTTP 0.2 are compiled as their core module.
    pub core_modules: bool,
    /// Native code that is kept on the disk, in bytes.
    pub code_bytes: u64,
}
