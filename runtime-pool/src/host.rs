//! The data of a `wasmtime::Store`: all that a guest can reach.

use std::{sync::Arc, time::Duration};

use wasmtime::{Engine, Store, UpdateDeadline, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p1::WasiP1Ctx};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::{
    error::CpuExceeded,
    guest_log::{GuestOutput, InvocationLog, LogStream},
    limits::{
        COMPONENT_HANDLES, FIELD_BYTES, HOST_RESOURCES, HOSTCALL_BYTES, Limits,
        PREVIEW1_HOSTCALL_BYTES, RANDOM_BYTES, StoreLimiter,
    },
    outbound::Outbound,
    run::Run,
};

/// What a component can reach.
pub(crate) struct Host {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: Outbound,
    table: ResourceTable,
    control: Control,
}

/// What a preview1 module can reach.
pub(crate) struct ModuleHost {
    pub(crate) wasi: WasiP1Ctx,
    control: Control,
}

/// What holds a guest in check, in either kind of store.
pub(crate) struct Control {
    pub(crate) limiter: StoreLimiter,
    run: Arc<Run>,
    cpu: Duration,
}

impl Control {
    pub(crate) fn new(limits: &Limits, run: Arc<Run>) -> Self {
        Self { limiter: StoreLimiter::new(limits.memory_bytes), run, cpu: limits.cpu }
    }

    /// Gives the store to an invocation.
    pub(crate) fn begin(&mut self, run: Arc<Run>) {
        self.run = run;
        self.limiter.memory_refused = false;
    }

    /// CPU time that the invocation may use.
    pub(crate) fn cpu_limit(&self) -> Duration {
        self.cpu
    }

    /// Called at every epoch tick while guest code runs.
    fn tick(&self) -> wasmtime::Result<UpdateDeadline> {
        if self.run.meter.tick() > self.cpu {
            return Err(CpuExceeded.into());
        }
        // Others on this thread get their turn.
        Ok(UpdateDeadline::Yield(1))
    }
}

/// Store data that can be held in check.
pub(crate) trait Controlled: Send + 'static {
    fn control(&mut self) -> &mut Control;
}

impl Controlled for Host {
    fn control(&mut self) -> &mut Control {
        &mut self.control
    }
}

impl Controlled for ModuleHost {
    fn control(&mut self) -> &mut Control {
        &mut self.control
    }
}

impl Host {
    pub(crate) fn new(wasi: WasiCtx, outbound: Outbound, control: Control) -> Self {
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELD_BYTES);
        let mut table = ResourceTable::new();
        table.set_max_capacity(HOST_RESOURCES);
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

    /// Whether the guest has something open: a stream, a request, a body.
    pub(crate) fn holds_resources(&self) -> bool {
        !self.table.is_empty()
    }
}

impl ModuleHost {
    pub(crate) fn new(wasi: WasiP1Ctx, control: Control) -> Self {
        let mut host = Self { wasi, control };
        host.wasi.ctx().table.set_max_capacity(HOST_RESOURCES);
        host
    }

    /// Gives the guest the environment and the streams of one invocation.
    pub(crate) fn set_wasi(&mut self, mut wasi: WasiP1Ctx) {
        wasi.ctx().table.set_max_capacity(HOST_RESOURCES);
        self.wasi = wasi;
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
/// guest writes goes to its log.
pub(crate) fn wasi(environment: &[(String, String)], log: &Arc<InvocationLog>) -> WasiCtxBuilder {
    let mut wasi = WasiCtxBuilder::new();
    wasi.envs(environment)
        .stdout(GuestOutput::new(log, LogStream::Stdout))
        .stderr(GuestOutput::new(log, LogStream::Stderr))
        .allow_blocking_current_thread(false)
        .allow_tcp(false)
        .allow_udp(false)
        .max_random_size(RANDOM_BYTES);
    wasi
}

/// A store for one invocation of a component.
pub(crate) fn component_store(engine: &Engine, host: Host) -> Store<Host> {
    let mut store = new_store(engine, host);
    store.set_hostcall_fuel(HOSTCALL_BYTES);
    store.set_max_component_handles(COMPONENT_HANDLES);
    store
}

/// A store for one invocation of a preview1 module.
pub(crate) fn module_store(engine: &Engine, host: ModuleHost) -> Store<ModuleHost> {
    let mut store = new_store(engine, host);
    store.set_hostcall_fuel(PREVIEW1_HOSTCALL_BYTES);
    store
}

fn new_store<T: Controlled>(engine: &Engine, data: T) -> Store<T> {
    let mut store = Store::new(engine, data);
    store.limiter(|data| &mut data.control().limiter);
    store.epoch_deadline_callback(|mut store| store.data_mut().control().tick());
    store.set_epoch_deadline(1);
    store
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::*, guest_log::FunctionLog, key::FunctionKey, metrics::PoolMetrics};

    #[test]
    fn every_knob_of_a_store_is_set() {
        let config = EngineConfig { instances: 2, memory_bytes_max: 1 << 20, async_engine: false };
        let engine = pooled_engine(EngineKind::Lean, &config).unwrap();
        let metrics = PoolMetrics::register(&prometheus::Registry::new()).unwrap();
        let key = FunctionKey { function: 1, revision: 1 };
        let lines = tokio::sync::mpsc::channel(1).0;
        let log = Arc::new(FunctionLog::new(key, lines, metrics));
        let log = InvocationLog::new(log, 1, 1);
        let control = Control::new(&Limits::default(), Arc::default());
        let host = Host::new(wasi(&[], &log).build(), Outbound::denied(log), control);
        let mut store = component_store(&engine, host);
        assert_eq!(store.hostcall_fuel(), HOSTCALL_BYTES);
        assert_eq!(store.max_component_handles(), COMPONENT_HANDLES);
        assert_eq!(store.data_mut().table.max_capacity(), HOST_RESOURCES);
    }
}
