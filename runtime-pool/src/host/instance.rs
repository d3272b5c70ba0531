//! One Wasmtime store with one guest in it.

use std::{sync::Arc, time::Instant};

use wasmtime::{InstancePre, Store};
use wasmtime_wasi::p2::bindings::{Command, CommandPre};
use wasmtime_wasi_http::{
    p2::bindings::{Proxy, ProxyPre},
    p3::bindings::{Service, ServicePre},
};

use crate::{
    host::{HasStoreLimits, Host, ModuleHost, invocation_state::InvocationState},
    metrics::guest_log::InvocationLog,
    outbound::{CdnLoop, Outbound, Policy},
};

/// A guest whose imports are resolved.
pub(crate) enum PreInstance {
    Http(ProxyPre<Host>),
    HttpAsync(ServicePre<Host>),
    Command(CommandPre<Host>),
    Module(InstancePre<ModuleHost>),
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
    /// Calls that it has answered.
    pub(crate) uses: u32,
    /// When it was made, or last called.
    pub(crate) since: Instant,
}

/// A guest of any kind.
pub(crate) enum AnyGuest {
    Http(Guest<Proxy, Host>),
    HttpAsync(Guest<Service, Host>),
    Command(Guest<Command, Host>),
    Module(Guest<wasmtime::Instance, ModuleHost>),
}

impl<G, T: HasStoreLimits> Guest<G, T> {
    /// Gives the guest to an invocation: its limits count from here.
    fn begin(&mut self, run: Arc<InvocationState>) {
        self.store.data_mut().control().begin(run);
        // The clock went on while it waited.
        self.store.set_epoch_deadline(1);
    }

    fn memory_bytes(&mut self) -> usize {
        self.store.data_mut().control().memory_bytes()
    }
}

impl Instance {
    pub(crate) fn new(guest: AnyGuest, log: Arc<InvocationLog>) -> Self {
        Self { guest, log, uses: 0, since: Instant::now() }
    }

    /// Gives an instance that has waited to an invocation.
    pub(crate) fn begin(&mut self, run: Arc<InvocationState>, invocation: u128, log_bytes: usize) {
        self.log.begin(invocation, log_bytes);
        match &mut self.guest {
            AnyGuest::Http(guest) => guest.begin(run),
            AnyGuest::HttpAsync(guest) => guest.begin(run),
            AnyGuest::Command(guest) => guest.begin(run),
            AnyGuest::Module(guest) => guest.begin(run),
        }
    }

    /// Says by which way the request has come that the instance is to answer.
    pub(crate) fn set_trail(&mut self, trail: CdnLoop) {
        match &mut self.guest {
            AnyGuest::Http(guest) => guest.store.data_mut().outbound().set_trail(trail),
            AnyGuest::HttpAsync(guest) => guest.store.data_mut().outbound().set_trail(trail),
            AnyGuest::Command(guest) => guest.store.data_mut().outbound().set_trail(trail),
            // It calls nobody.
            AnyGuest::Module(_) => {}
        }
    }

    /// Takes an instance back from an invocation: the next one counts its requests anew.
    pub(crate) fn end(&mut self, policy: Arc<Policy>) {
        let outbound = Outbound::new(policy, Arc::clone(&self.log));
        match &mut self.guest {
            AnyGuest::Http(guest) => guest.store.data_mut().set_outbound(outbound),
            AnyGuest::HttpAsync(guest) => guest.store.data_mut().set_outbound(outbound),
            // Commands end with their call.
            AnyGuest::Command(_) | AnyGuest::Module(_) => {}
        }
        self.log.begin(0, 0);
    }

    /// Linear memory that it has, in bytes: an upper bound of what it keeps in use.
    pub(crate) fn memory_bytes(&mut self) -> usize {
        match &mut self.guest {
            AnyGuest::Http(guest) => guest.memory_bytes(),
            AnyGuest::HttpAsync(guest) => guest.memory_bytes(),
            AnyGuest::Command(guest) => guest.memory_bytes(),
            AnyGuest::Module(guest) => guest.memory_bytes(),
        }
    }
}
