//! Start-up paid once: a guest's start-up function is run at the deploy, and the memory it leaves
//! becomes the image that every instance starts from.
//!
//! Runs in the compile worker, because it runs the guest. Invariant: nothing that differs from one
//! run to the next gets into the image. Calls for random numbers, clocks, input or the network
//! end the attempt; a guest that asks for its environment is given none, and gets no snapshot; one
//! that keeps something of the host's open gets none either.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Instant,
};

use tokio::sync::mpsc;
use wasmparser::{Parser, Payload};
use wasmtime::{Store, component};
use wasmtime_wasi::{I32Exit, WasiCtxBuilder};
use wasmtime_wizer::Wizer;

use crate::{
    code::{artifact::Kind, key::StartUp},
    engine::cpu_meter::thread_cpu_ns,
    engine::initialising_engine,
    host::{
        self, HasStoreLimits, Host, ModuleHost, StoreLimits, component_store, interfaces,
        module_store,
    },
    limits::{GuestLimits, Limits, NodeMemory},
    metrics::{
        PoolMetrics,
        guest_log::{FunctionKey, FunctionLog, InvocationLog, LogLine},
    },
    outbound::Outbound,
};

pub(crate) mod expose;
pub(crate) mod imports;
pub(crate) mod outcome;
pub(crate) mod state;

use imports::{Refused, Tainted};
use state::{ComponentState, ModuleState};

pub use self::outcome::Snapshot;

/// Lines of a start-up function's output that are shown when it fails.
const LINES: usize = 8;

/// Why there is no snapshot.
#[derive(Debug)]
pub(crate) enum Failure {
    /// This guest cannot have one, and goes on without.
    Unfit(String),
    /// The start-up function failed, as it would at every start.
    Failed(String),
}

/// A guest as it is after its start-up.
pub(crate) struct Image {
    pub(crate) wasm: Vec<u8>,
    pub(crate) snapshot: Snapshot,
}

/// Runs the start-up function of `wasm` and makes a binary of what it leaves.
pub(crate) fn take(wasm: &[u8], kind: Kind, start_up: &StartUp) -> Result<Image, Failure> {
    // What rewrites binaries asserts what it does not support, and the report has the stream to
    // which a panic would be printed.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let taken = panic::catch_unwind(AssertUnwindSafe(|| run(wasm, kind, start_up)));
    panic::set_hook(hook);
    let (wasm, init_ms) = taken.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        Err(Failure::Unfit(format!("it has something that cannot be made a snapshot: {text}")))
    })?;
    let bytes = data_bytes(&wasm).map_err(|error| Failure::Unfit(error.to_string()))?;
    Ok(Image { wasm, snapshot: Snapshot::Taken { init_ms, bytes } })
}

fn run(wasm: &[u8], kind: Kind, start_up: &StartUp) -> Result<(Vec<u8>, u64), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| Failure::Unfit(format!("the worker has no runtime: {error}")))?;
    runtime.block_on(async {
        match kind {
            Kind::WasiPreview1 => module(wasm, start_up).await,
            Kind::WasiHttp02 | Kind::WasiHttp03 | Kind::WasiCommand => {
                component(wasm, kind, start_up).await
            }
        }
    })
}

async fn component(wasm: &[u8], kind: Kind, start_up: &StartUp) -> Result<(Vec<u8>, u64), Failure> {
    let (wasm, export) = expose::start_function(wasm, &start_up.function)?;
    let mut wizer = Wizer::new();
    // A component without the export that its own wiring refers to would not be valid.
    wizer.init_func(export).keep_init_func(true);
    let (context, instrumented) = wizer.instrument_component(&wasm)?;

    let engine = initialising_engine(kind.engine())?;
    let component = component::Component::new(&engine, &instrumented)?;
    let mut linker = match kind {
        Kind::WasiHttp03 => interfaces::wasi_03(&engine),
        Kind::WasiHttp02 | Kind::WasiCommand | Kind::WasiPreview1 => interfaces::wasi_02(&engine),
    }?;
    let tainted = Tainted::default();
    imports::refuse_in_component(&mut linker, &component, &tainted)?;

    let (output, log) = output();
    let control = control(start_up);
    let host = Host::new(wasi(&log).build(), Outbound::denied(log), control);
    let mut store = component_store(&engine, host);
    let before = thread_cpu_ns();
    let run = async {
        let instance = linker.instantiate_async(&mut store, &component).await?;
        let function = instance.get_typed_func::<(), ()>(&mut store, export)?;
        function.call_async(&mut store, ()).await?;
        Ok(instance)
    };
    let instance = match run.await {
        Ok(instance) => instance,
        Err(error) => return Err(explain(&error, store, start_up, output)),
    };
    let init_ms = (thread_cpu_ns() - before) / 1_000_000;
    tainted.check()?;
    if store.data().holds_resources() {
        return Err(Failure::Unfit(
            "it keeps something of the host's open (its standard output, a request, a body), \
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

async fn module(wasm: &[u8], start_up: &StartUp) -> Result<(Vec<u8>, u64), Failure> {
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
    let tainted = Tainted::default();
    imports::refuse_in_module(&mut linker, &module, &tainted)?;

    let (output, log) = output();
    let control = control(start_up);
    let host = ModuleHost::new(wasi(&log).build_p1(), control);
    drop(log);
    let mut store = module_store(&engine, host);
    let before = thread_cpu_ns();
    let run = async {
        let instance = linker.instantiate_async(&mut store, &module).await?;
        // A reactor's constructors come first, and its snapshot no longer exports this.
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
    tainted.check()?;
    lift_limits(&mut store);
    let image = wizer.snapshot(&context, &mut ModuleState::new(&mut store, instance)).await;
    Ok((image?, init_ms))
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Self {
        Self::Unfit(format!("{error:#}"))
    }
}

/// The kernel's limits on the worker hold for CPU and wall-clock time.
fn control(start_up: &StartUp) -> StoreLimits {
    let memory_bytes = usize::try_from(start_up.memory_bytes).unwrap_or(usize::MAX);
    let limits = Limits { memory_bytes, ..Limits::default() };
    StoreLimits::new(&limits, NodeMemory::unlimited(), Arc::default())
}

/// What the guest is given: nothing. Asking for the time ends the attempt before any clock is read.
fn wasi(log: &Arc<InvocationLog>) -> WasiCtxBuilder {
    host::wasi(&[], log, &GuestLimits::default(), Instant::now())
}

/// The guest has had its turn: what follows only reads its memory, for which a component must be
/// able to grow it a little.
fn lift_limits(store: &mut Store<impl HasStoreLimits>) {
    let limits = Limits { memory_bytes: usize::MAX, ..Limits::default() };
    *store.data_mut().control() =
        StoreLimits::new(&limits, NodeMemory::unlimited(), Arc::default());
    store.set_hostcall_fuel(usize::MAX);
}

/// Where the guest's output goes: what it said last is the best explanation of a failure.
fn output() -> (mpsc::Receiver<LogLine>, Arc<InvocationLog>) {
    let (sender, lines) = mpsc::channel(LINES);
    let metrics = PoolMetrics::register(&prometheus::Registry::new())
        .expect("nothing else is registered there");
    let nobody = FunctionKey { function: 0, revision: 0, generation: 0 };
    let log = FunctionLog::new(nobody, sender, &GuestLimits::default(), metrics);
    (lines, InvocationLog::new(Arc::new(log), 0, Limits::default().log_bytes))
}

/// Says why the start-up did not come to its end. Takes the store, which holds the guest's output
/// back as long as a line is not complete.
fn explain<T: HasStoreLimits>(
    error: &wasmtime::Error,
    mut store: Store<T>,
    start_up: &StartUp,
    mut output: mpsc::Receiver<LogLine>,
) -> Failure {
    let refused = store.data_mut().control().refused_memory().is_some();
    drop(store);
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return Failure::Unfit(refused.to_string());
    }
    let is_guests = error.is::<wasmtime::Trap>() || error.is::<I32Exit>();
    let mut text = match error.downcast_ref::<I32Exit>() {
        Some(I32Exit(status)) => format!("it exited with status {status}"),
        None => error.root_cause().to_string(),
    };
    if refused {
        text.push_str(&format!(
            "; it was refused memory before: it may have {} bytes (memory_bytes)",
            start_up.memory_bytes
        ));
    } else if !is_guests {
        return Failure::Unfit(format!("{error:#}"));
    }
    let said = std::iter::from_fn(|| output.try_recv().ok()).map(|line| line.line);
    let said: Vec<String> = said.filter(|line| !line.is_empty()).collect();
    if !said.is_empty() {
        text.push_str(&format!("; it said: {}", said.join(" / ")));
    }
    Failure::Failed(text)
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
