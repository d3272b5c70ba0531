//! The two engines and the epoch clock.
//!
//! The lean engine runs WASI 0.2 and preview1. It does not support concurrency inside a store,
//! which halves the cost of a fresh instance. The concurrent engine runs WASI 0.3, which needs that
//! support.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    thread,
    time::Duration,
};

use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
};

use crate::{
    engine::dirty_pages::close_gaps_regularly,
    error::StartError,
    limits::{ArtifactLimits, GuestLimits},
};

/// Stack of a fiber besides the guest's part, for frames of the host.
const HOST_STACK_BYTES: usize = (2 << 20) - (512 << 10);
/// Address space into which the memory of a guest in the compile worker can grow before it must be
/// moved.
const GROWTH_BYTES: u64 = 64 << 20;
/// Metadata of one component instance in the host.
const INSTANCE_BYTES: usize = 1 << 20;
/// Bytes of a freed slot's tables that stay mapped and are reset by a pagemap scan. Chosen by
/// measurement; without the scan, keeping any is slower than keeping none.
const RESIDENT_TABLE_BYTES: usize = 64 << 10;
/// Freed slots to unmap at once where the kernel has no pagemap scan. Chosen by measurement.
const DECOMMIT_BATCH: usize = 128;

/// The sizes of the engines, which Wasmtime reserves at the start.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Instances that may live at once in each engine, over all functions.
    pub instances: u32,
    /// The largest linear memory of any function, in bytes.
    pub memory_bytes_max: usize,
    /// Bytes of its memory that a freed slot keeps and resets, instead of returning them.
    pub keep_bytes: usize,
    /// The time without calls after which slots give back even that; zero: never.
    pub idle_memory: Duration,
    /// Whether the engine for WASI 0.3 exists.
    pub async_engine: bool,
    /// The limits of one artifact.
    pub artifact: ArtifactLimits,
    /// The limits of all guests.
    pub guest: GuestLimits,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            instances: 1_000,
            memory_bytes_max: 512 << 20,
            // Chosen by measurement: JavaScript and Python write about 7 MiB to answer a request.
            // Every slot that was ever in use may keep this much.
            keep_bytes: 8 << 20,
            idle_memory: Duration::from_secs(10),
            async_engine: true,
            artifact: ArtifactLimits::default(),
            guest: GuestLimits::default(),
        }
    }
}

/// Which of the two engines runs a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EngineKind {
    Lean,
    Concurrent,
}

/// The settings that native code depends on. They must be equal where code is compiled and where it
/// runs.
fn code_config(kind: EngineKind, stack_bytes: usize) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .memory_init_cow(true)
        // Proposals that common guests do not use are disabled: several of them have had security
        // advisories.
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_threads(false)
        .wasm_shared_everything_threads(false)
        .shared_memory(false)
        .wasm_memory64(false)
        .wasm_stack_switching(false)
        .gc_support(false)
        .max_wasm_stack(stack_bytes)
        .async_stack_size(stack_bytes + HOST_STACK_BYTES)
        // Set here, so that RUST_BACKTRACE and WASMTIME_BACKTRACE_DETAILS have no effect.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        // Names in backtraces need neither of these, and both make native code larger and slower
        // to load.
        .generate_address_map(false)
        .native_unwind_info(false);
    match kind {
        EngineKind::Lean => config.concurrency_support(false),
        EngineKind::Concurrent => config.concurrency_support(true).wasm_component_model_async(true),
    };
    config
}

/// An engine that only compiles. It reserves no memory, so it starts under a small limit of address
/// space. The pooled engine of the same kind loads its native code.
pub(crate) fn compiling_engine(kind: EngineKind) -> wasmtime::Result<wasmtime::Engine> {
    wasmtime::Engine::new(&code_config(kind, GuestLimits::default().stack_bytes))
}

/// An engine that runs a guest's start-up function in the compile worker, where the address space
/// is small and the kernel limits the CPU time. Its results are the same on every machine.
pub(crate) fn initialising_engine(kind: EngineKind) -> wasmtime::Result<wasmtime::Engine> {
    let mut config = code_config(kind, GuestLimits::default().stack_bytes);
    config
        .epoch_interruption(false)
        .memory_init_cow(false)
        .memory_reservation(0)
        .memory_reservation_for_growth(GROWTH_BYTES)
        .memory_guard_size(0)
        .guard_before_linear_memory(false)
        .memory_may_move(true)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true);
    wasmtime::Engine::new(&config)
}

/// An engine that runs guests in a pool of slots, and its epoch clock.
pub(crate) fn pooled_engine(
    kind: EngineKind,
    config: &EngineConfig,
) -> Result<wasmtime::Engine, StartError> {
    let mut engine_config = code_config(kind, config.guest.stack_bytes);
    engine_config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(config)));
    let engine = wasmtime::Engine::new(&engine_config)
        .map_err(|cause| StartError { what: "reserving the pool of instances", cause })?;
    start_epoch_clock(&engine, config.guest.tick)?;
    // The thread serves all memories of the process.
    if kind == EngineKind::Lean && PoolingAllocationConfig::is_pagemap_scan_available() {
        close_gaps_regularly(engine.weak())?;
    }
    Ok(engine)
}

/// How many of each kind a pooled engine has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineSlots {
    /// Component instances.
    pub(crate) instances: u32,
    /// Two for each instance: one for its guest, and one on which a guest that runs as a core module
    /// allocates what a function of the host returns for which it has waited.
    pub(crate) stacks: u32,
    pub(crate) core_instances: u32,
    pub(crate) memories: u32,
    pub(crate) tables: u32,
}

impl EngineSlots {
    pub(crate) fn new(config: &EngineConfig) -> Self {
        let ArtifactLimits { core_instances, memories, tables, .. } = config.artifact;
        let instances = config.instances;
        // Few artifacts reach these limits, so a quarter of them is reserved for each instance.
        let reserved = |each: u32| instances.saturating_mul(each.div_ceil(4)).max(each);
        Self {
            instances,
            stacks: instances.saturating_mul(2),
            core_instances: reserved(core_instances),
            memories: reserved(memories),
            tables: reserved(tables),
        }
    }
}

/// The reservations of a pooled engine, and the limits that it enforces on artifacts.
fn pooling(config: &EngineConfig) -> PoolingAllocationConfig {
    let ArtifactLimits { core_instances, memories, tables, .. } = config.artifact;
    let slots = EngineSlots::new(config);
    let mut pooling = PoolingAllocationConfig::default();
    pooling
        .total_component_instances(config.instances)
        .total_core_instances(slots.core_instances)
        .total_memories(slots.memories)
        .total_tables(slots.tables)
        .total_stacks(slots.stacks)
        .max_core_instances_per_component(core_instances)
        .max_memories_per_component(memories)
        .max_tables_per_component(tables)
        .max_tables_per_module(tables)
        .max_memories_per_module(memories)
        .max_component_instance_size(INSTANCE_BYTES)
        .max_core_instance_size(INSTANCE_BYTES)
        .table_elements(config.guest.table_elements)
        .max_memory_size(config.memory_bytes_max);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pooling
            .pagemap_scan(Enabled::Yes)
            .linear_memory_keep_resident(config.keep_bytes)
            .table_keep_resident(RESIDENT_TABLE_BYTES);
    } else {
        pooling.decommit_batch_size(DECOMMIT_BATCH);
    }
    pooling
}

/// The way in which freed instances are reset on this machine.
pub fn reset_strategy() -> &'static str {
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        "pagemap scan"
    } else {
        "batched decommit"
    }
}

/// A hash of everything in the engines that native code depends on, and of the functions that core
/// modules of components are served, where there are such.
pub(crate) fn compatibility(engines: [&wasmtime::Engine; 2], served: &[(&str, &str)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for engine in engines {
        engine.precompile_compatibility_hash().hash(&mut hasher);
    }
    if !served.is_empty() {
        served.hash(&mut hasher);
    }
    hasher.finish()
}

/// Starts a thread that advances the epoch until the last handle to the engine is dropped.
fn start_epoch_clock(engine: &wasmtime::Engine, every: Duration) -> Result<(), StartError> {
    let engine = engine.weak();
    thread::Builder::new()
        .name("mayfly-epoch".into())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                thread::sleep(every);
            }
        })
        .map_err(|cause| StartError { what: "starting the epoch clock", cause: cause.into() })?;
    Ok(())
}

pub(crate) mod cpu_meter;
pub(crate) mod dirty_pages;
pub(crate) mod idle_slots;

#[cfg(test)]
mod tests;
