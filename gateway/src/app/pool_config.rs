//! The configuration of the pool, out of several sections of the settings.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use gateway_api::FunctionLimit;
use runtime_pool::{BufferConfig, CompileConfig, EngineConfig, PoolConfig, WarmConfig};

use crate::config::Config;

/// The directory of native code, in the data directory.
const CODE_DIR: &str = "code";

/// The directory of buffered bodies, in the data directory: the store empties it at each start.
const BUFFER_DIR: &str = "tmp";

/// The pool's configuration.
pub(crate) fn pool_config(config: &Config) -> anyhow::Result<PoolConfig> {
    Ok(PoolConfig {
        engine: EngineConfig {
            instances: u32::try_from(config.pool.instances)?,
            memory_bytes_max: config.ceilings.size(FunctionLimit::MemoryBytes),
            keep_bytes: config.pool.keep_bytes,
            idle_memory: Duration::from_millis(config.pool.idle_memory_ms),
            async_engine: config.pool.async_engine,
            artifact: config.uploads.artifact,
            guest: config.guests,
        },
        compile: CompileConfig {
            worker: own_binary()?,
            dir: config.data_dir.join(CODE_DIR),
            jobs: config.compile.job_count(),
            queue: config.compile.queue,
            memory_bytes: config.compile.memory_bytes,
            cpu_s: config.compile.cpu_s,
            wall: Duration::from_secs(config.compile.wall_s),
            output_bytes: config.compile.output_bytes,
            deploys_per_minute: config.quotas.compiles_per_minute,
            core_modules: config.pool.core_modules,
            code_bytes: config.quotas.code_bytes,
        },
        outbound: config.outbound.clone(),
        memory_bytes: config.pool.memory_budget(),
        buffers: BufferConfig {
            dir: config.data_dir.join(BUFFER_DIR),
            bytes: config.pool.buffer_bytes,
        },
        resident_bytes: config.pool.resident_bytes,
        loads: config.pool.load_count(),
        queue: config.pool.queue,
        max_lag: config.server.admission.max_lag,
        warm: WarmConfig {
            instances: config.pool.warm_instances,
            bytes: config.pool.warm_bytes,
            worthwhile: Duration::from_micros(config.pool.warm_from_us),
        },
    })
}

/// This program, which is also the compile worker. The link in /proc names it even after a newer
/// version has replaced the file.
fn own_binary() -> anyhow::Result<PathBuf> {
    let link = PathBuf::from("/proc/self/exe");
    if link.exists() { Ok(link) } else { std::env::current_exe().context("finding this program") }
}
