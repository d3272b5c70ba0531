//! The host of a guest: everything that it can reach.
//!
//! [`Host`] and [`ModuleHost`] are the data of a `wasmtime::Store`: a guest reaches what they grant,
//! and nothing else.

pub(crate) mod clock;
mod denied_sockets;
pub(crate) mod guarded_call;
#[cfg(test)]
mod handed_over;
pub(crate) mod instance;
pub(crate) mod interfaces;
pub(crate) mod invocation_state;
mod kept_memory;
mod output;
mod requests;
mod scratch;
mod short_texts;
mod store_limits;

use std::{any::Any, sync::Arc, time::Instant};

use wasmtime::{Engine, Store, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p1::WasiP1Ctx};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::{
    host::{
        clock::{GuestMonotonicClock, GuestWallClock},
        kept_memory::KeptMemory,
        output::GuestOutput,
        scratch::{
            component::{OpenNode, ScratchView},
            preview1::Descriptors,
        },
    },
    limits::GuestLimits,
    metrics::guest_log::{InvocationLog, LogStream},
    outbound::Outbound,
};

pub(crate) use self::store_limits::StoreLimits;

/// The host of a component.
pub(crate) struct Host {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: Outbound,
    table: ResourceTable,
    kept: KeptMemory,
    limits: StoreLimits,
}

/// The host of a preview1 module.
pub(crate) struct ModuleHost {
    pub(crate) wasi: WasiP1Ctx,
    /// What is open in the scratch directory, if there is one.
    files: Option<Descriptors>,
    limits: StoreLimits,
}

/// The data of a store, with the limits of that store.
pub(crate) trait HasStoreLimits: Send + 'static {
    fn store_limits(&mut self) -> &mut StoreLimits;
}

impl HasStoreLimits for Host {
    fn store_limits(&mut self) -> &mut StoreLimits {
        &mut self.limits
    }
}

impl HasStoreLimits for ModuleHost {
    fn store_limits(&mut self) -> &mut StoreLimits {
        &mut self.limits
    }
}

impl Host {
    pub(crate) fn new(wasi: WasiCtx, outbound: Outbound, limits: StoreLimits) -> Self {
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(limits.guest.field_bytes);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.guest.host_resources);
        let kept = KeptMemory::new(&limits.guest);
        Self { wasi, http, outbound, table, kept, limits }
    }

    /// Replaces the environment and the streams by those of one invocation.
    pub(crate) fn set_wasi(&mut self, wasi: WasiCtx) {
        self.wasi = wasi;
    }

    /// Replaces the outbound side, whose counts are those of one invocation, and empties the scratch
    /// directory.
    pub(crate) fn end_invocation(&mut self, outbound: Outbound) {
        self.outbound = outbound;
        if let Some(scratch) = self.limits.scratch() {
            scratch.clear();
        }
    }

    /// The outbound side of the invocation.
    pub(crate) fn outbound(&mut self) -> &mut Outbound {
        &mut self.outbound
    }

    /// Whether the guest holds any resource of the host: a stream, a request, a body, a file. It may keep
    /// the scratch directory itself, which is empty in the next call.
    pub(crate) fn holds_resources(&mut self) -> bool {
        let Some(scratch) = self.limits.scratch() else { return !self.table.is_empty() };
        let is_root =
            |resource: &dyn Any| resource.downcast_ref::<OpenNode>().is_some_and(OpenNode::is_root);
        scratch.is_open() || !self.table.iter_mut().all(|resource| is_root(resource))
    }

    /// The scratch directory, as the interfaces for files see it.
    fn files(&mut self) -> ScratchView<'_> {
        let scratch = self.limits.scratch().expect("only a function with a directory is linked so");
        ScratchView { table: &mut self.table, scratch }
    }
}

impl ModuleHost {
    pub(crate) fn new(wasi: WasiP1Ctx, limits: StoreLimits) -> Self {
        let most = limits.guest.host_resources;
        let files = limits.scratch().map(|scratch| Descriptors::new(scratch, most));
        let mut host = Self { wasi, files, limits };
        host.limit_resources();
        host
    }

    /// Replaces the environment and the streams by those of one invocation.
    pub(crate) fn set_wasi(&mut self, wasi: WasiP1Ctx) {
        self.wasi = wasi;
        self.limit_resources();
    }

    fn limit_resources(&mut self) {
        self.wasi.ctx().table.set_max_capacity(self.limits.guest.host_resources);
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        // This is asked for at each call of the host's HTTP functions. They alone take over data that
        // the host then keeps.
        let table = self.kept.table_for_call(&mut self.table, &mut self.limits);
        WasiHttpCtxView { ctx: &mut self.http, table, hooks: &mut self.outbound }
    }
}

/// A WASI context that grants nothing: no files, no network, no environment of the gateway. The
/// guest's output goes to its log. Its monotonic clock counts from `clock_start`.
pub(crate) fn wasi(
    environment: &[(String, String)],
    log: &Arc<InvocationLog>,
    limits: &GuestLimits,
    clock_start: Instant,
) -> WasiCtxBuilder {
    let mut wasi = WasiCtxBuilder::new();
    wasi.envs(environment)
        .stdout(GuestOutput::new(log, LogStream::Stdout, limits))
        .stderr(GuestOutput::new(log, LogStream::Stderr, limits))
        .allow_blocking_current_thread(false)
        .allow_tcp(false)
        .allow_udp(false)
        .max_random_size(limits.random_bytes)
        .monotonic_clock(GuestMonotonicClock { start: clock_start })
        .wall_clock(GuestWallClock);
    wasi
}

/// A store for one invocation of a component.
pub(crate) fn component_store(engine: &Engine, host: Host) -> Store<Host> {
    let limits = host.limits.guest;
    let mut store = new_store(engine, host);
    store.set_hostcall_fuel(limits.hostcall_bytes);
    store.set_max_component_handles(limits.component_handles);
    store
}

/// A store for one invocation of a preview1 module.
pub(crate) fn module_store(engine: &Engine, host: ModuleHost) -> Store<ModuleHost> {
    let limits = host.limits.guest;
    let mut store = new_store(engine, host);
    store.set_hostcall_fuel(limits.preview1_hostcall_bytes);
    store
}

fn new_store<T: HasStoreLimits>(engine: &Engine, data: T) -> Store<T> {
    let mut store = Store::new(engine, data);
    store.limiter(|data| data.store_limits());
    store.epoch_deadline_callback(|mut store| store.data_mut().store_limits().tick());
    store.set_epoch_deadline(1);
    store
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::*,
        limits::{Limits, NodeMemory},
        metrics::{
            PoolMetrics,
            guest_log::{FunctionKey, FunctionLog},
        },
    };

    /// Values that are not the defaults, so that a limit which is not applied shows.
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
        let store_limits = StoreLimits::new(&limits, NodeMemory::unlimited(), Arc::default());
        let log = log(&limits);
        let wasi = wasi(&[], &log, &limits.guest, Instant::now()).build();
        let host = Host::new(wasi, Outbound::denied(log), store_limits);
        let mut store = component_store(&engine(), host);
        assert_eq!(store.hostcall_fuel(), 13);
        assert_eq!(store.max_component_handles(), 12);
        assert_eq!(store.data_mut().table.max_capacity(), 11);
    }

    #[test]
    fn every_knob_of_a_modules_store_is_set() {
        let limits = limits();
        let wasi = || wasi(&[], &log(&limits), &limits.guest, Instant::now()).build_p1();
        let store_limits = StoreLimits::new(&limits, NodeMemory::unlimited(), Arc::default());
        let mut store = module_store(&engine(), ModuleHost::new(wasi(), store_limits));
        assert_eq!(store.hostcall_fuel(), 14);
        assert_eq!(store.data_mut().wasi.ctx().table.max_capacity(), 11);
        // Each invocation has a context of its own.
        store.data_mut().set_wasi(wasi());
        assert_eq!(store.data_mut().wasi.ctx().table.max_capacity(), 11);
    }
}
