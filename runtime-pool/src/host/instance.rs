//! One Wasmtime store with one guest in it.

use std::{sync::Arc, time::Instant};

use wasmtime::{Engine, Func, InstancePre, Store};
use wasmtime_wasi::{
    p2::bindings::{Command, CommandPre},
    p3::bindings::{Command as AsyncCommand, CommandPre as AsyncCommandPre},
};
use wasmtime_wasi_http::{
    p2::bindings::{Proxy, ProxyPre},
    p3::bindings::{Service, ServicePre},
};

use crate::{
    host::{
        HasStoreLimits, Host, ModuleHost,
        core_module::{CoreHost, CorePre},
        invocation_state::InvocationState,
    },
    metrics::guest_log::InvocationLog,
    outbound::{Outbound, Policy, RequestOrigin},
};

/// A guest whose imports are resolved.
pub(crate) enum PreInstance {
    Http(ProxyPre<Host>),
    HttpCore(CorePre),
    HttpAsync(ServicePre<Host>),
    Command(CommandPre<Host>),
    CommandAsync(AsyncCommandPre<Host>),
    Module(InstancePre<ModuleHost>),
}

impl PreInstance {
    /// The engine that it runs in.
    pub(crate) fn engine(&self) -> &Engine {
        match self {
            Self::Http(pre) => pre.engine(),
            Self::HttpCore(pre) => pre.engine(),
            Self::HttpAsync(pre) => pre.engine(),
            Self::Command(pre) => pre.engine(),
            Self::CommandAsync(pre) => pre.engine(),
            Self::Module(pre) => pre.module().engine(),
        }
    }
}

/// A guest that can be called.
pub(crate) struct Guest<G, T: 'static> {
    pub(crate) store: Store<T>,
    pub(crate) exports: G,
}

/// A guest of any kind, and what goes with it.
pub(crate) struct Instance {
    pub(crate) guest: AnyGuest,
    log: Arc<InvocationLog>,
    /// Calls that it has served.
    pub(crate) uses: u32,
    /// When it was made, or its last call ended.
    pub(crate) last_used: Instant,
}

/// A guest of any kind.
pub(crate) enum AnyGuest {
    Http(Guest<Proxy, Host>),
    HttpCore(Guest<Func, CoreHost>),
    HttpAsync(Guest<Service, Host>),
    Command(Guest<Command, Host>),
    CommandAsync(Guest<AsyncCommand, Host>),
    Module(Guest<wasmtime::Instance, ModuleHost>),
}

impl<G, T: HasStoreLimits> Guest<G, T> {
    /// Assigns the guest to an invocation, whose limits apply from here on.
    fn begin_invocation(&mut self, state: Arc<InvocationState>) {
        self.store.data_mut().store_limits().begin_invocation(state);
        // The epoch has advanced while the instance was idle.
        self.store.set_epoch_deadline(1);
    }

    fn memory_bytes(&mut self) -> usize {
        self.store.data_mut().store_limits().memory_bytes()
    }
}

impl Instance {
    pub(crate) fn new(guest: AnyGuest, log: Arc<InvocationLog>) -> Self {
        Self { guest, log, uses: 0, last_used: Instant::now() }
    }

    /// Assigns a warm instance to an invocation.
    pub(crate) fn begin_invocation(
        &mut self,
        state: Arc<InvocationState>,
        invocation: u128,
        log_bytes: usize,
    ) {
        self.log.begin_invocation(invocation, log_bytes);
        match &mut self.guest {
            AnyGuest::Http(guest) => guest.begin_invocation(state),
            AnyGuest::HttpCore(guest) => guest.begin_invocation(state),
            AnyGuest::HttpAsync(guest) => guest.begin_invocation(state),
            AnyGuest::Command(guest) => guest.begin_invocation(state),
            AnyGuest::CommandAsync(guest) => guest.begin_invocation(state),
            AnyGuest::Module(guest) => guest.begin_invocation(state),
        }
    }

    /// Sets where the request comes from. Requests of the guest tell it to those whom they reach.
    pub(crate) fn set_origin(&mut self, origin: RequestOrigin) {
        match &mut self.guest {
            AnyGuest::Http(guest) => guest.store.data_mut().outbound().set_origin(origin),
            AnyGuest::HttpCore(guest) => guest.store.data_mut().host.outbound().set_origin(origin),
            AnyGuest::HttpAsync(guest) => guest.store.data_mut().outbound().set_origin(origin),
            AnyGuest::Command(guest) => guest.store.data_mut().outbound().set_origin(origin),
            AnyGuest::CommandAsync(guest) => guest.store.data_mut().outbound().set_origin(origin),
            // Modules make no requests.
            AnyGuest::Module(_) => {}
        }
    }

    /// Takes the instance back from an invocation. Counts of outbound requests begin at zero again.
    pub(crate) fn end_invocation(&mut self, policy: Arc<Policy>) {
        let outbound = Outbound::new(policy, Arc::clone(&self.log));
        match &mut self.guest {
            AnyGuest::Http(guest) => guest.store.data_mut().end_invocation(outbound),
            AnyGuest::HttpCore(guest) => guest.store.data_mut().host.end_invocation(outbound),
            AnyGuest::HttpAsync(guest) => guest.store.data_mut().end_invocation(outbound),
            // Instances of commands end with their call.
            AnyGuest::Command(_) | AnyGuest::CommandAsync(_) | AnyGuest::Module(_) => {}
        }
        self.log.begin_invocation(0, 0);
    }

    /// Whether the guest holds any resource of the host. Instances of commands end with their call.
    pub(crate) fn holds_resources(&mut self) -> bool {
        match &mut self.guest {
            AnyGuest::Http(guest) => guest.store.data_mut().holds_resources(),
            AnyGuest::HttpCore(guest) => guest.store.data_mut().host.holds_resources(),
            AnyGuest::HttpAsync(guest) => guest.store.data_mut().holds_resources(),
            AnyGuest::Command(_) | AnyGuest::CommandAsync(_) | AnyGuest::Module(_) => true,
        }
    }

    /// The size of its linear memory in bytes, an upper bound of what it keeps resident.
    pub(crate) fn memory_bytes(&mut self) -> usize {
        match &mut self.guest {
            AnyGuest::Http(guest) => guest.memory_bytes(),
            AnyGuest::HttpCore(guest) => guest.memory_bytes(),
            AnyGuest::HttpAsync(guest) => guest.memory_bytes(),
            AnyGuest::Command(guest) => guest.memory_bytes(),
            AnyGuest::CommandAsync(guest) => guest.memory_bytes(),
            AnyGuest::Module(guest) => guest.memory_bytes(),
        }
    }
}
