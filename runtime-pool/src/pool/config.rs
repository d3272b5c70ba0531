//! The settings of a pool.

use std::time::Duration;

use crate::{BufferConfig, CompileConfig, EngineConfig, OutboundConfig, warm::WarmConfig};

/// The settings of a pool.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Wasmtime's reservations.
    pub engine: EngineConfig,
    /// How native code is compiled.
    pub compile: CompileConfig,
    /// The limits on guests' outbound requests.
    pub outbound: OutboundConfig,
    /// Linear memory of all instances together, in bytes.
    pub memory_bytes: u64,
    /// Buffers of request bodies.
    pub buffers: BufferConfig,
    /// Bytes that resident functions may take: native code and everything else. The least recently
    /// used function leaves first.
    pub resident_bytes: u64,
    /// Functions that may be linked at once.
    pub loads: usize,
    /// Invocations that may wait for a slot, over all functions.
    pub queue: usize,
    /// The longest that an invocation may wait in the run queue; zero means without limit.
    pub max_lag: Duration,
    /// Warm instances of all functions.
    pub warm: WarmConfig,
}
