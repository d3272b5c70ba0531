//! The data of a store in which a core module of a component runs.

use wasmtime::{Engine, Func, Memory, Store, component::Resource};
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};

use super::handles::Handles;
use crate::host::{HasStoreLimits, Host, StoreLimits, new_store};

/// The host of a core module of a component.
pub(crate) struct CoreHost {
    pub(crate) host: Host,
    pub(super) guest: GuestSide,
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
    pub(crate) fn new(host: Host) -> Self {
        let handles = Handles::new(host.limits.guest.component_handles);
        let guest = GuestSide { memory: None, allocator: None, handles, is_allocating: false };
        Self { host, guest }
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
pub(crate) fn core_store(engine: &Engine, host: Host) -> Store<CoreHost> {
    new_store(engine, CoreHost::new(host))
}
