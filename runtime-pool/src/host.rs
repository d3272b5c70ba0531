//! The host of a guest: everything that it can reach.
//!
//! [`Host`] and [`ModuleHost`] are the data of a `wasmtime::Store`: a guest reaches what they grant,
//! and nothing else.

pub(crate) mod capabilities;
pub(crate) mod core_module;
mod denied_sockets;
pub(crate) mod files;
pub(crate) mod guarded_call;
#[cfg(test)]
mod handed_over;
pub(crate) mod http;
pub(crate) mod instance;
pub(crate) mod interfaces;
pub(crate) mod invocation_state;
mod kept_memory;
mod store_limits;
pub(crate) mod wasi;

use std::{any::Any, sync::Arc};

use wasmtime::{Engine, Store, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, p1::WasiP1Ctx};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::{
    host::{
        capabilities::invocation::{Capabilities, CapabilitiesView},
        files::{
            component::{FilesView, OpenNode},
            mounted::MountedFiles,
            preview1::Descriptors,
            scratch::Scratch,
        },
        kept_memory::KeptMemory,
        wasi::{LazyWasi, WasiSource, variables::GuestVariables},
    },
    metrics::guest_log::InvocationLog,
    outbound::Outbound,
};

pub(crate) use self::store_limits::StoreLimits;

/// The host of a component.
pub(crate) struct Host {
    wasi: LazyWasi<WasiCtx>,
    variables: GuestVariables,
    http: WasiHttpCtx,
    outbound: Outbound,
    table: ResourceTable,
    kept: KeptMemory,
    /// The files that the function was given.
    mounted: Option<Arc<MountedFiles>>,
    /// What the function was granted. Most were granted nothing, and pay nothing for it.
    capabilities: Option<Box<Capabilities>>,
    limits: StoreLimits,
}

/// The host of a preview1 module.
pub(crate) struct ModuleHost {
    wasi: LazyWasi<WasiP1Ctx>,
    /// What is open of the files of the guest, if there are any.
    files: Option<Descriptors>,
    variables: GuestVariables,
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
    pub(crate) fn new(
        wasi: WasiSource,
        variables: GuestVariables,
        outbound: Outbound,
        mounted: Option<Arc<MountedFiles>>,
        capabilities: Option<Box<Capabilities>>,
        limits: StoreLimits,
    ) -> Self {
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(limits.guest.field_bytes);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.guest.host_resources);
        let kept = KeptMemory::new(&limits.guest);
        let wasi = LazyWasi::Later(wasi);
        Self { wasi, variables, http, outbound, table, kept, mounted, capabilities, limits }
    }

    /// Replaces the streams and the variables by those of one invocation.
    pub(crate) fn set_input(&mut self, wasi: WasiCtx, variables: GuestVariables) {
        self.variables = variables;
        self.wasi = LazyWasi::Made(Box::new(wasi));
    }

    /// Replaces the outbound side, whose counts are those of one invocation, as those of operations on
    /// stores are, and empties the scratch directory.
    pub(crate) fn end_invocation(&mut self, outbound: Outbound) {
        self.outbound = outbound;
        if let Some(capabilities) = &mut self.capabilities {
            capabilities.end_invocation();
        }
        if let Some(scratch) = self.limits.scratch() {
            scratch.clear();
        }
    }

    /// The outbound side of the invocation.
    pub(crate) fn outbound(&mut self) -> &mut Outbound {
        &mut self.outbound
    }

    /// The log of the invocation.
    pub(crate) fn log(&self) -> &InvocationLog {
        self.outbound.log()
    }

    /// What the function was granted, as the interfaces see it.
    pub(crate) fn capabilities(&mut self) -> CapabilitiesView<'_> {
        CapabilitiesView {
            table: &mut self.table,
            capabilities: self.capabilities.as_deref_mut(),
            limits: &mut self.limits,
        }
    }

    /// The bytes that a guest may pass to one host call. A value of a store has to fit, with its key.
    fn hostcall_bytes(&self) -> usize {
        let limits = &self.limits.guest;
        match &self.capabilities {
            Some(capabilities) if capabilities.has_stores() => {
                limits.hostcall_bytes.max(limits.store_value_bytes + BESIDES_VALUE)
            }
            Some(_) | None => limits.hostcall_bytes,
        }
    }

    /// The resources of the host that the guest holds.
    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// What the guest is told in variables and arguments.
    pub(crate) fn variables(&mut self) -> &mut GuestVariables {
        &mut self.variables
    }

    /// Whether the guest holds any resource of the host: a stream, a request, a body, a file. It may keep
    /// the directories that it began in: the scratch directory is empty in the next call.
    pub(crate) fn holds_resources(&mut self) -> bool {
        let scratch = self.limits.scratch();
        if scratch.is_none() && self.mounted.is_none() {
            return !self.table.is_empty();
        }
        let is_root =
            |resource: &dyn Any| resource.downcast_ref::<OpenNode>().is_some_and(OpenNode::is_root);
        scratch.is_some_and(Scratch::is_open)
            || !self.table.iter_mut().all(|resource| is_root(resource))
    }

    /// Its files, as the interfaces for them see them.
    fn files(&mut self) -> FilesView<'_> {
        let (scratch, mounted) = (self.limits.scratch(), self.mounted.as_ref());
        FilesView { table: &mut self.table, scratch, mounted }
    }
}

impl ModuleHost {
    pub(crate) fn new(
        wasi: WasiSource,
        variables: GuestVariables,
        mounted: Option<&Arc<MountedFiles>>,
        limits: StoreLimits,
    ) -> Self {
        let files = Descriptors::new(limits.scratch(), mounted, limits.guest.host_resources);
        Self { wasi: LazyWasi::Later(wasi), files, variables, limits }
    }

    /// The context of the guest.
    pub(crate) fn wasi(&mut self) -> &mut WasiP1Ctx {
        self.wasi.module_context(&self.limits.guest)
    }

    /// Replaces the streams and the variables by those of one invocation.
    pub(crate) fn set_input(&mut self, wasi: WasiP1Ctx, variables: GuestVariables) {
        self.variables = variables;
        self.wasi = LazyWasi::Made(Box::new(wasi::limited(wasi, &self.limits.guest)));
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.context(&self.limits.guest);
        WasiCtxView { ctx, table: &mut self.table }
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

/// What a guest may pass to a host call besides the value of an entry: its key, and a value that is a
/// little too large, so that the guest gets the error of its interface.
const BESIDES_VALUE: usize = 64 << 10;

/// A store for one invocation of a component.
pub(crate) fn component_store(engine: &Engine, host: Host) -> Store<Host> {
    let (limits, hostcall_bytes) = (host.limits.guest, host.hostcall_bytes());
    let mut store = new_store(engine, host);
    store.set_hostcall_fuel(hostcall_bytes);
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
    use std::time::Instant;

    use super::*;
    use crate::{
        engine::*,
        limits::{GuestLimits, Limits, NodeMemory},
        metrics::{
            PoolMetrics,
            guest_log::{FunctionKey, FunctionLog, InvocationLog},
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
        let key = FunctionKey { function: 1, revision: 1, generation: 0, overlay: 0 };
        let lines = tokio::sync::mpsc::channel(1).0;
        let log = FunctionLog::new(key, lines, &limits.guest, metrics);
        InvocationLog::new(Arc::new(log), 1, 1)
    }

    fn source(log: &Arc<InvocationLog>) -> WasiSource {
        WasiSource { log: Arc::clone(log), clock_start: Instant::now() }
    }

    fn variables() -> GuestVariables {
        GuestVariables::Settings(Arc::default())
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
        let outbound = Outbound::denied(Arc::clone(&log));
        let host = Host::new(source(&log), variables(), outbound, None, None, store_limits);
        let mut store = component_store(&engine(), host);
        assert_eq!(store.hostcall_fuel(), 13);
        assert_eq!(store.max_component_handles(), 12);
        assert_eq!(store.data_mut().table.max_capacity(), 11);
    }

    #[test]
    fn every_knob_of_a_modules_store_is_set() {
        let limits = limits();
        let log = log(&limits);
        let store_limits = StoreLimits::new(&limits, NodeMemory::unlimited(), Arc::default());
        let mut store =
            module_store(&engine(), ModuleHost::new(source(&log), variables(), None, store_limits));
        assert_eq!(store.hostcall_fuel(), 14);
        assert_eq!(store.data_mut().wasi().ctx().table.max_capacity(), 11);
        // Each invocation has a context of its own.
        let wasi = source(&log).builder(&limits.guest).build_p1();
        store.data_mut().set_input(wasi, variables());
        assert_eq!(store.data_mut().wasi().ctx().table.max_capacity(), 11);
    }
}
