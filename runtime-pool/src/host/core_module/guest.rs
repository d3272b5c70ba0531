//! The data of a store in which a core module of a component runs.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use wasmtime::{Engine, Func, Memory, Store, component::Resource};
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};

use super::handles::Handles;
use crate::host::{HasStoreLimits, Host, StoreLimits, new_store};

/// How many instances of core modules live, as the engine counts those of components.
pub(crate) struct InstanceCount {
    live: AtomicU32,
    most: u32,
}

/// One of them.
pub(crate) struct CountedInstance(Arc<InstanceCount>);

impl InstanceCount {
    pub(crate) fn new(most: u32) -> Arc<Self> {
        Arc::new(Self { live: AtomicU32::new(0), most })
    }

    /// Counts one more. None if there are as many as may be.
    pub(super) fn take(self: &Arc<Self>) -> Option<CountedInstance> {
        let one_more = |live: u32| (live < self.most).then_some(live + 1);
        let taken = self.live.fetch_update(Relaxed, Relaxed, one_more);
        taken.is_ok().then(|| CountedInstance(Arc::clone(self)))
    }
}

impl Drop for CountedInstance {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Relaxed);
    }
}

/// The host of a core module of a component.
pub(crate) struct CoreHost {
    pub(crate) host: Host,
    pub(super) guest: GuestSide,
    _counted: CountedInstance,
}

/// What the host knows of the guest.
pub(super) struct GuestSide {
    /// None while the module's own start function runs.
    pub(super) memory: Option<Memory>,
    pub(super) allocator: Option<Func>,
    pub(super) handles: Handles,
    /// Whether the guest is in its allocator, where it may not call the host.
    pub(super) is_allocating: bool,
}

impl CoreHost {
    fn new(host: Host, counted: CountedInstance) -> Self {
        let handles = Handles::new(host.limits.guest.component_handles);
        let guest = GuestSide { memory: None, allocator: None, handles, is_allocating: false };
        Self { host, guest, _counted: counted }
    }

    /// Gives the guest a request and the place for its answer. Returns their handles.
    pub(crate) fn give_request(
        &mut self,
        request: &Resource<HostIncomingRequest>,
        answer: &Resource<HostResponseOutparam>,
    ) -> wasmtime::Result<(u32, u32)> {
        let handles = &mut self.guest.handles;
        Ok((handles.give(request)?, handles.give(answer)?))
    }
}

impl HasStoreLimits for CoreHost {
    fn store_limits(&mut self) -> &mut StoreLimits {
        self.host.store_limits()
    }
}

/// A store for one invocation of a core module of a component.
pub(crate) fn core_store(engine: &Engine, host: Host, counted: CountedInstance) -> Store<CoreHost> {
    new_store(engine, CoreHost::new(host, counted))
}
