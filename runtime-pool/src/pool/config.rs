//! How a pool is made.

use std::time::Duration;

use crate::{CompileConfig, EngineConfig, OutboundConfig, warm::WarmConfig};

/// What stays in memory, and what it is made with.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Wasmtime's reservations.
    pub engine: EngineConfig,
    /// How native code is made.
    pub compile: CompileConfig,
    /// What guests may call.
    pub outbound: OutboundConfig,
    /// Linear memory of all instances together, in bytes.
    pub memory_bytes: u64,
    /// Bytes that resident functions may take, each its native code and what there is besides;
    /// the least recently used leaves first.
    pub resident_bytes: u64,
    /// Functions that may be loaded at once.
    pub loads: usize,
    /// Invocations that may wait for a slot, over all functions.
    pub queue: usize,
    /// The longest that invocations should wait for a thread; zero for as long as it takes.
    pub max_lag: Duration,
    /// Instances that may wait for calls.
    pub waiting: WarmConfig,
}
