//! The data of a `wasmtime::Store`: all that a guest can reach.

pub(crate) mod clock;
pub(crate) mod instance;
pub(crate) mod interfaces;
pub(crate) mod invocation_state;
mod output;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p1::WasiP1Ctx};
use wasmtime_wasi_http::{FieldMap, WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::{
    error::{CpuExceeded, HeadersExceeded, Limit},
    host::{
        clock::{GuestMonotonicClock, GuestWallClock},
        invocation_state::InvocationState,
        output::GuestOutput,
    },
    limits::{GuestLimits, Limits, NodeMemory, StoreLimiter},
    metrics::guest_log::{InvocationLog, LogStream},
    outbound::Outbound,
};

/// How many `fields` may be full at once.
const FIELDS_FULL: usize = 64;
/// What one header field takes in the host besides its name and value, which copies share.
const FIELD_OVERHEAD_BYTES: usize = 128;

/// What a component can reach.
pub(crate) struct Host {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: Outbound,
    table: ResourceTable,
    control: StoreLimits,
}

/// What a preview1 module can reach.
pub(crate) struct ModuleHost {
    pub(crate) wasi: WasiP1Ctx,
    control: StoreLimits,
}

/// What holds a guest in check, in either kind of store.
pub(crate) struct StoreLimits {
    limiter: StoreLimiter,
    run: Arc<InvocationState>,
    cpu: Duration,
    guest: GuestLimits,
}

impl StoreLimits {
    pub(crate) fn new(limits: &Limits, node: NodeMemory, run: Arc<InvocationState>) -> Self {
        let limiter = StoreLimiter::new(limits, node);
        Self { limiter, run, cpu: limits.cpu, guest: limits.guest }
    }

    /// Gives the store to an invocation.
    pub(crate) fn begin(&mut self, run: Arc<InvocationState>) {
        self.run = run;
    }

    /// Linear memory that the store has.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.limiter.memory_bytes()
    }

    /// Whether growth of memory was refused, and by which limit.
    pub(crate) fn refused_memory(&self) -> Option<Limit> {
        self.run.refused_memory()
    }

    /// CPU time that the invocation may use.
    pub(crate) fn cpu_limit(&self) -> Duration {
        self.cpu
    }

    /// Bytes of one write to a body.
    pub(crate) fn body_chunk_bytes(&self) -> usize {
        self.guest.body_chunk_bytes
    }

    fn tick(&self) -> wasmtime::Result<UpdateDeadline> {
        if self.run.meter.tick(self.guest.tick) > self.cpu {
            return Err(CpuExceeded.into());
        }
        self.run.interrupt();
        // Others on this thread get their turn.
        Ok(UpdateDeadline::Yield(1))
    }
}

impl ResourceLimiter for StoreLimits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = self.limiter.grow_memory(current, desired);
        Ok(grown.map_err(|limit| self.run.refuse(limit)).is_ok())
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.run.refuse(Limit::Memory);
        Ok(())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = self.limiter.grow_table(desired);
        Ok(grown.map_err(|limit| self.run.refuse(limit)).is_ok())
    }
}

/// Store data that can be held in check.
pub(crate) trait HasStoreLimits: Send + 'static {
    fn control(&mut self) -> &mut StoreLimits;

    /// Called at every epoch tick while guest code runs.
    fn tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        self.control().tick()
    }
}

impl HasStoreLimits for Host {
    fn control(&mut self) -> &mut StoreLimits {
        &mut self.control
    }

    fn tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        // Each `fields` has its limit, and so has their number, but as many as there may be with as
        // much as each may have would be a gigabyte.
        if self.header_bytes() > FIELDS_FULL * self.control.guest.field_bytes {
            return Err(HeadersExceeded.into());
        }
        self.control.tick()
    }
}

impl HasStoreLimits for ModuleHost {
    fn control(&mut self) -> &mut StoreLimits {
        &mut self.control
    }
}

impl Host {
    pub(crate) fn new(wasi: WasiCtx, outbound: Outbound, control: StoreLimits) -> Self {
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(control.guest.field_bytes);
        let mut table = ResourceTable::new();
        table.set_max_capacity(control.guest.host_resources);
        Self { wasi, http, outbound, table, control }
    }

    /// Gives the guest the environment and the streams of one invocation.
    pub(crate) fn set_wasi(&mut self, wasi: WasiCtx) {
        self.wasi = wasi;
    }

    /// Counts requests of the guest anew.
    pub(crate) fn set_outbound(&mut self, outbound: Outbound) {
        self.outbound = outbound;
    }

    /// The requests of the invocation.
    pub(crate) fn outbound(&mut self) -> &mut Outbound {
        &mut self.outbound
    }

    /// What all header fields that the guest holds take in the host, about.
    fn header_bytes(&mut self) -> usize {
        let fields = self.table.iter_mut().filter_map(|entry| entry.downcast_ref::<FieldMap>());
        fields.map(|fields| fields.len() * FIELD_OVERHEAD_BYTES).sum()
    }

    /// Whether the guest has something open: a stream, a request, a body.
    pub(crate) fn holds_resources(&self) -> bool {
        !self.table.is_empty()
    }
}

impl ModuleHost {
    pub(crate) fn new(wasi: WasiP1Ctx, control: StoreLimits) -> Self {
        let mut host = Self { wasi, control };
        host.bound();
        host
    }

    /// Gives the guest the environment and the streams of one invocation.
    pub(crate) fn set_wasi(&mut self, wasi: WasiP1Ctx) {
        self.wasi = wasi;
        self.bound();
    }

    fn bound(&mut self) {
        self.wasi.ctx().table.set_max_capacity(self.control.guest.host_resources);
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outbound }
    }
}

/// A WASI context that grants nothing: no files, no network, no environment of ours; what the
/// guest writes goes to its log. Its clock counts from `since`.
pub(crate) fn wasi(
    environment: &[(String, String)],
    log: &Arc<InvocationLog>,
    limits: &GuestLimits,
    since: Instant,
) -> WasiCtxBuilder {
    let mut wasi = WasiCtxBuilder::new();
    wasi.envs(environment)
        .stdout(GuestOutput::new(log, LogStream::Stdout))
        .stderr(GuestOutput::new(log, LogStream::Stderr))
        .allow_blocking_current_thread(false)
        .allow_tcp(false)
        .allow_udp(false)
        .max_random_size(limits.random_bytes)
        .monotonic_clock(GuestMonotonicClock { since })
        .wall_clock(GuestWallClock);
    wasi
}

/// A store for one invocation of a component.
pub(crate) fn component_store(engine: &Engine, host: Host) -> Store<Host> {
    let limits = host.control.guest;
    let mut store = new_store(engine, host);
    store.set_hostcall_fuel(limits.hostcall_bytes);
    store.set_max_component_handles(limits.component_handles);
    store
}

/// A store for one invocation of a preview1 module.
pub(crate) fn module_store(engine: &Engine, host: ModuleHost) -> Store<ModuleHost> {
    let limits = host.control.guest;
    let mut store = new_store(engine, host);
    store.set_hostcall_fuel(limits.preview1_hostcall_bytes);
    store
}

fn new_store<T: HasStoreLimits>(engine: &Engine, data: T) -> Store<T> {
    let mut store = Store::new(engine, data);
    store.limiter(|data| data.control());
    store.epoch_deadline_callback(|mut store| store.data_mut().tick());
    store.set_epoch_deadline(1);
    store
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::*,
        metrics::{
            PoolMetrics,
            guest_log::{FunctionKey, FunctionLog},
        },
    };

    /// Values that are no defaults, so that each knob shows whether it was turned.
    fn limits() -> Limits {
        let guest = GuestLimits {
            host_resources: 11,
            component_handles: 12,
            hostcall_bytes: 13,
            preview1_hostcall_bytes: 14,
            ..GuestLimits::default()
        };
        Limits { guest, ..Limits::default() }
    }

    fn log(limits: &Limits) -> Arc<InvocationLog> {
        let metrics = PoolMetrics::register(&prometheus::Registry::new()).unwrap();
        let key = FunctionKey { function: 1, revision: 1, generation: 0 };
        let lines = tokio::sync::mpsc::channel(1).0;
        let log = FunctionLog::new(key, lines, &limits.guest, metrics);
        InvocationLog::new(Arc::new(log), 1, 1)
    }

    fn engine() -> Engine {
        let config = EngineConfig { instances: 2, ..EngineConfig::default() };
        pooled_engine(EngineKind::Lean, &config).unwrap()
    }

    #[test]
    fn every_knob_of_a_components_store_is_set() {
        let limits = limits();
        let control = StoreLimits::new(&limits, NodeMemory::unlimited(), Arc::default());
        let log = log(&limits);
        let wasi = wasi(&[], &log, &limits.guest, Instant::now()).build();
        let host = Host::new(wasi, Outbound::denied(log), control);
        let mut store = component_store(&engine(), host);
        assert_eq!(store.hostcall_fuel(), 13);
        assert_eq!(store.max_component_handles(), 12);
        assert_eq!(store.data_mut().table.max_capacity(), 11);
    }

    #[test]
    fn every_knob_of_a_modules_store_is_set() {
        let limits = limits();
        let wasi = || wasi(&[], &log(&limits), &limits.guest, Instant::now()).build_p1();
        let control = StoreLimits::new(&limits, NodeMemory::unlimited(), Arc::default());
        let mut store = module_store(&engine(), ModuleHost::new(wasi(), control));
        assert_eq!(store.hostcall_fuel(), 14);
        assert_eq!(store.data_mut().wasi.ctx().table.max_capacity(), 11);
        // Each invocation brings a context of its own.
        store.data_mut().set_wasi(wasi());
        assert_eq!(store.data_mut().wasi.ctx().table.max_capacity(), 11);
    }
}
