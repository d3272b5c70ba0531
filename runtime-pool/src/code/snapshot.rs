//! Snapshots: a guest's start-up function runs once, at the deploy, and the memory that it leaves
//! becomes the image from which every instance starts.
//!
//! This runs in the compile worker, because it runs the guest. Invariant: nothing that differs from
//! one run to the next gets into the image. A call for random numbers, a clock, input or the
//! network ends the attempt. A guest that asks for its environment gets an empty one, and no
//! snapshot. A guest that keeps a host resource open gets no snapshot either.

pub(crate) mod expose;
mod failure;
pub(crate) mod imports;
mod outcome;
pub(crate) mod state;

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Instant,
};

use tokio::sync::mpsc;
use wasmparser::{Parser, Payload};
use wasmtime::{Store, component};
use wasmtime_wasi::I32Exit;
use wasmtime_wizer::Wizer;

pub(crate) use self::failure::SnapshotFailure;
pub use self::outcome::SnapshotOutcome;
use self::{
    imports::{EnvironmentReads, ForbiddenCall},
    state::{ComponentState, ModuleState},
};
use crate::{
    code::{artifact::Kind, key::StartUp},
    engine::{cpu_meter::thread_cpu_ns, initialising_engine},
    error::ExitedWithError,
    host::{
        HasStoreLimits, Host, ModuleHost, StoreLimits, capabilities, component_store, interfaces,
        module_store,
        wasi::{WasiSource, variables::GuestVariables},
    },
    limits::{GuestLimits, Limits, NodeMemory},
    metrics::{
        PoolMetrics,
        guest_log::{FunctionKey, FunctionLog, InvocationLog, LogLine},
    },
    outbound::Outbound,
};

/// Lines of a start-up function's output that are shown when it fails.
const LINES: usize = 8;

/// A guest with the state that its start-up function has left.
pub(crate) struct SnapshotImage {
    pub(crate) wasm: Vec<u8>,
    pub(crate) outcome: SnapshotOutcome,
}

/// Runs the start-up function of `wasm` and makes a binary of the state that it leaves.
pub(crate) fn take(
    wasm: &[u8],
    kind: Kind,
    start_up: &StartUp,
) -> Result<SnapshotImage, SnapshotFailure> {
    // The library that rewrites binaries panics where it does not support something. The panic is
    // caught, and not printed, because the worker's report needs standard error.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let taken = panic::catch_unwind(AssertUnwindSafe(|| run(wasm, kind, start_up)));
    panic::set_hook(hook);
    let (wasm, init_ms) = taken.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        Err(SnapshotFailure::Unfit(format!(
            "it contains something that a snapshot cannot hold: {text}"
        )))
    })?;
    let bytes = data_bytes(&wasm).map_err(|error| SnapshotFailure::Unfit(error.to_string()))?;
    Ok(SnapshotImage { wasm, outcome: SnapshotOutcome::Taken { init_ms, bytes } })
}

fn run(wasm: &[u8], kind: Kind, start_up: &StartUp) -> Result<(Vec<u8>, u64), SnapshotFailure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|error| {
            SnapshotFailure::Unfit(format!("the worker could not start a runtime: {error}"))
        })?;
    runtime.block_on(async {
        match kind {
            Kind::WasiPreview1 => module(wasm, start_up).await,
            Kind::WasiHttp02 | Kind::WasiHttp03 | Kind::WasiCommand | Kind::WasiCommand03 => {
                component(wasm, kind, start_up).await
            }
        }
    })
}

async fn component(
    wasm: &[u8],
    kind: Kind,
    start_up: &StartUp,
) -> Result<(Vec<u8>, u64), SnapshotFailure> {
    let (wasm, export) = expose::start_function(wasm, &start_up.function)?;
    let mut wizer = Wizer::new();
    // The component's own wiring refers to this export; without it the component would be invalid.
    wizer.init_func(export).keep_init_func(true);
    let (context, instrumented) = wizer.instrument_component(&wasm)?;

    let engine = initialising_engine(kind.engine())?;
    let component = component::Component::new(&engine, &instrumented)?;
    let mut linker = match kind {
        Kind::WasiHttp03 | Kind::WasiCommand03 => interfaces::wasi_03(&engine),
        Kind::WasiHttp02 | Kind::WasiCommand | Kind::WasiPreview1 => interfaces::wasi_02(&engine),
    }?;
    let environment_reads = EnvironmentReads::default();
    imports::refuse_in_component(&mut linker, &component, &environment_reads)?;

    let (output, log) = output();
    let limits = store_limits(start_up);
    let host = Host::new(wasi(&log), variables(), Outbound::denied(log), None, None, limits);
    let mut store = component_store(&engine, host);
    let before = thread_cpu_ns();
    let run = async {
        let pre = capabilities::interfaces::resolve(&linker, &component)?;
        let instance = pre.instantiate_async(&mut store).await?;
        let function = instance.get_typed_func::<(), ()>(&mut store, export)?;
        function.call_async(&mut store, ()).await?;
        Ok(instance)
    };
    let instance = match run.await {
        Ok(instance) => instance,
        Err(error) => return Err(explain(&error, store, start_up, output)),
    };
    let init_ms = (thread_cpu_ns() - before) / 1_000_000;
    environment_reads.check()?;
    if store.data_mut().holds_resources() {
        return Err(SnapshotFailure::Unfit(
            "it keeps a resource of the host open (its standard output, a request, a body), \
             which other instances would not have"
                .into(),
        ));
    }
    lift_limits(&mut store);
    let mut state = ComponentState::new(&mut store, instance);
    let image = wizer.snapshot_component(&context, &mut state).await;
    state.check()?;
    Ok((image?, init_ms))
}

async fn module(wasm: &[u8], start_up: &StartUp) -> Result<(Vec<u8>, u64), SnapshotFailure> {
    let mut wizer = Wizer::new();
    wizer.init_func(&*start_up.function).keep_init_func(true);
    let engine = initialising_engine(Kind::WasiPreview1.engine())?;
    let (context, instrumented) = wizer.instrument(wasm)?;
    let module = wasmtime::Module::new(&engine, &instrumented)?;
    match module.get_export(&start_up.function) {
        Some(wasmtime::ExternType::Func(ty)) if ty.params().len() + ty.results().len() == 0 => {}
        Some(_) => return Err(expose::unsuitable(&start_up.function)),
        None => return Err(expose::missing(&start_up.function)),
    }
    let mut linker = wasmtime::Linker::new(&engine);
    interfaces::preview1(&mut linker)?;
    let environment_reads = EnvironmentReads::default();
    imports::refuse_in_module(&mut linker, &module, &environment_reads)?;

    let (output, log) = output();
    let limits = store_limits(start_up);
    let host = ModuleHost::new(wasi(&log), variables(), None, limits);
    drop(log);
    let mut store = module_store(&engine, host);
    let before = thread_cpu_ns();
    let run = async {
        let instance = linker.instantiate_async(&mut store, &module).await?;
        // The constructors of a reactor run first. Its snapshot does not export this function, so
        // they do not run again.
        if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut store, "_initialize")
            && &*start_up.function != "_initialize"
        {
            initialize.call_async(&mut store, ()).await?;
        }
        let function = instance.get_typed_func::<(), ()>(&mut store, &start_up.function)?;
        function.call_async(&mut store, ()).await?;
        Ok(instance)
    };
    let instance = match run.await {
        Ok(instance) => instance,
        Err(error) => return Err(explain(&error, store, start_up, output)),
    };
    let init_ms = (thread_cpu_ns() - before) / 1_000_000;
    environment_reads.check()?;
    lift_limits(&mut store);
    let image = wizer.snapshot(&context, &mut ModuleState::new(&mut store, instance)).await;
    Ok((image?, init_ms))
}

/// Only memory is limited here: the kernel limits the worker's CPU and wall-clock time.
fn store_limits(start_up: &StartUp) -> StoreLimits {
    let memory_bytes = usize::try_from(start_up.memory_bytes).unwrap_or(usize::MAX);
    let limits = Limits { memory_bytes, ..Limits::default() };
    StoreLimits::new(&limits, NodeMemory::unlimited(), Arc::default())
}

/// Grants the guest nothing. A call for the time ends the attempt before a clock is read.
fn wasi(log: &Arc<InvocationLog>) -> WasiSource {
    WasiSource { log: Arc::clone(log), clock_start: Instant::now() }
}

fn variables() -> GuestVariables {
    GuestVariables::Settings(Arc::default())
}

/// Lets a component's memory grow a little more, which reading its state needs. The guest itself
/// runs no more.
fn lift_limits(store: &mut Store<impl HasStoreLimits>) {
    let limits = Limits { memory_bytes: usize::MAX, ..Limits::default() };
    *store.data_mut().store_limits() =
        StoreLimits::new(&limits, NodeMemory::unlimited(), Arc::default());
    store.set_hostcall_fuel(usize::MAX);
}

/// A log for the guest's output, and its lines: the last of them often explain a failure.
fn output() -> (mpsc::Receiver<LogLine>, Arc<InvocationLog>) {
    let (sender, lines) = mpsc::channel(LINES);
    let metrics = PoolMetrics::register(&prometheus::Registry::new())
        .expect("nothing else is registered there");
    let no_function = FunctionKey { function: 0, revision: 0, generation: 0, overlay: 0 };
    let log = FunctionLog::new(no_function, sender, &GuestLimits::default(), metrics);
    (lines, InvocationLog::new(Arc::new(log), 0, Limits::default().log_bytes))
}

/// Says why the start-up function did not return. Drops the store first, because it holds back an
/// unfinished line of the guest's output.
fn explain<T: HasStoreLimits>(
    error: &wasmtime::Error,
    mut store: Store<T>,
    start_up: &StartUp,
    mut output: mpsc::Receiver<LogLine>,
) -> SnapshotFailure {
    let memory_was_refused = store.data_mut().store_limits().refused_memory().is_some();
    drop(store);
    if let Some(call) = error.downcast_ref::<ForbiddenCall>() {
        return SnapshotFailure::Unfit(call.to_string());
    }
    let is_guests =
        error.is::<wasmtime::Trap>() || error.is::<I32Exit>() || error.is::<ExitedWithError>();
    let mut text = match error.downcast_ref::<I32Exit>() {
        Some(I32Exit(status)) => format!("it exited with status {}", status.cast_unsigned()),
        None => error.root_cause().to_string(),
    };
    if memory_was_refused {
        text.push_str(&format!(
            "; its memory may not grow beyond {} bytes (memory_bytes)",
            start_up.memory_bytes
        ));
    } else if !is_guests {
        return SnapshotFailure::Unfit(format!("{error:#}"));
    }
    let lines = std::iter::from_fn(|| output.try_recv().ok()).map(|line| line.line);
    let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    if !lines.is_empty() {
        text.push_str(&format!("; its output: {}", lines.join(" / ")));
    }
    SnapshotFailure::Failed(text)
}

/// Bytes of all data segments in all modules of a binary.
fn data_bytes(wasm: &[u8]) -> wasmparser::Result<u64> {
    let mut bytes = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::DataSection(section) = payload? {
            for segment in section {
                bytes += segment?.data.len() as u64;
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests;
