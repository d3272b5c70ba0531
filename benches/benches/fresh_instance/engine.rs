//! The engine, with the settings of `runtime-pool/src/engine.rs` that affect an instance.

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

pub(crate) fn engine() -> Engine {
    let mut pooling = PoolingAllocationConfig::default();
    pooling.max_memory_size(512 << 20).max_component_instance_size(1 << 20);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pooling
            .pagemap_scan(Enabled::Yes)
            .linear_memory_keep_resident(8 << 20)
            .table_keep_resident(64 << 10);
    }
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .gc_support(false)
        .concurrency_support(false)
        .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable)
        .generate_address_map(false)
        .native_unwind_info(false)
        .max_wasm_stack(512 << 10)
        .async_stack_size(2 << 20)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pooling));
    Engine::new(&config).unwrap()
}
