//! The template of a function, which its instances are made from.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time};
use wasmtime_wasi::WasiCtxBuilder;

use crate::{
    InvokeError,
    executor::{
        cgi::{self, CgiInput, environment},
        http, http_async,
        request::{InvocationContext, InvocationRequest, ResponseHead},
        spec::FunctionSpec,
    },
    host::{
        self, Host, ModuleHost, StoreLimits,
        instance::{AnyGuest, Instance, PreInstance},
        invocation_state::{InvocationState, MeteredGuest},
    },
    limits::NodeMemory,
    metrics::guest_log::{FunctionLog, InvocationLog},
    outbound::{Outbound, Policy},
};

/// The longest that an instance may take to start when no invocation waits for it.
const START_MAX: Duration = Duration::from_secs(10);

/// The linked code of a function, and everything that each of its instances gets.
pub(crate) struct InstanceTemplate {
    spec: FunctionSpec,
    code: Option<PreInstance>,
    policy: Arc<Policy>,
    log: Arc<FunctionLog>,
    /// The linear memory of the node, of which instances take.
    memory: NodeMemory,
    /// The moment from which the guests' monotonic clocks count.
    clock_start: Instant,
    /// Unmaps the code.
    reaper: mpsc::Sender<PreInstance>,
}

impl InstanceTemplate {
    pub(crate) fn new(
        spec: FunctionSpec,
        code: PreInstance,
        policy: Policy,
        log: FunctionLog,
        memory: NodeMemory,
        reaper: mpsc::Sender<PreInstance>,
    ) -> Self {
        Self {
            spec,
            code: Some(code),
            policy: Arc::new(policy),
            log: Arc::new(log),
            memory,
            clock_start: Instant::now(),
            reaper,
        }
    }

    pub(crate) fn spec(&self) -> &FunctionSpec {
        &self.spec
    }

    pub(crate) fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    pub(crate) fn log(&self) -> &Arc<FunctionLog> {
        &self.log
    }

    /// Makes an instance for an invocation.
    pub(crate) async fn instantiate(
        &self,
        state: &Arc<InvocationState>,
        invocation: u128,
    ) -> Result<Instance, InvokeError> {
        let limits = &self.spec.limits;
        let store_limits = StoreLimits::new(limits, self.memory.clone(), Arc::clone(state));
        let log = InvocationLog::new(Arc::clone(&self.log), invocation, limits.log_bytes);
        let mut wasi = self.wasi(&self.spec.environment, &log);
        let host = |mut wasi: WasiCtxBuilder, store_limits| {
            let outbound = Outbound::new(Arc::clone(&self.policy), Arc::clone(&log));
            Host::new(wasi.build(), outbound, store_limits)
        };
        let guest = match self.code() {
            PreInstance::Http(pre) => {
                AnyGuest::Http(http::instantiate(pre, host(wasi, store_limits)).await?)
            }
            PreInstance::HttpAsync(pre) => {
                AnyGuest::HttpAsync(http_async::instantiate(pre, host(wasi, store_limits)).await?)
            }
            PreInstance::Command(pre) => {
                AnyGuest::Command(cgi::instantiate_component(pre, host(wasi, store_limits)).await?)
            }
            PreInstance::Module(pre) => {
                let host = ModuleHost::new(wasi.build_p1(), store_limits);
                AnyGuest::Module(cgi::instantiate_module(pre, host).await?)
            }
        };
        Ok(Instance::new(guest, log))
    }

    /// Makes an instance that no invocation waits for. Also returns the CPU time that this took.
    pub(crate) async fn instantiate_ahead(
        self: &Arc<Self>,
    ) -> (Result<Instance, InvokeError>, Duration) {
        let state = Arc::new(InvocationState::default());
        let (template, making) = (Arc::clone(self), Arc::clone(&state));
        let made = Box::pin(async move { template.instantiate(&making, 0).await });
        let most = self.spec.limits.timeout.min(START_MAX);
        let made = time::timeout(most, MeteredGuest::new(made, Arc::clone(&state))).await;
        (made.unwrap_or(Err(InvokeError::Timeout(most))), state.meter.used())
    }

    /// Turns a request into the input of a command.
    pub(crate) fn cgi_input(
        &self,
        request: InvocationRequest,
        context: &InvocationContext,
        head: oneshot::Sender<ResponseHead>,
    ) -> CgiInput {
        let (parts, body) = request.into_parts();
        let environment = environment::environment(&parts, context, &self.spec.environment);
        let bytes = self.spec.limits.log_bytes;
        let log = InvocationLog::new(Arc::clone(&self.log), context.invocation, bytes);
        let mut wasi = self.wasi(&environment, &log);
        wasi.args(&environment::arguments(&self.spec.arguments, &parts, &context.mount));
        CgiInput { wasi, body, head }
    }

    fn code(&self) -> &PreInstance {
        self.code.as_ref().expect("only drop takes the code")
    }

    fn wasi(&self, environment: &[(String, String)], log: &Arc<InvocationLog>) -> WasiCtxBuilder {
        host::wasi(environment, log, &self.spec.limits.guest, self.clock_start)
    }
}

impl Drop for InstanceTemplate {
    fn drop(&mut self) {
        if let Some(code) = self.code.take() {
            // Unmapping megabytes takes long, and this may be a thread that serves requests. If the
            // reaper is gone, then the process ends, and the code with it.
            let _ = self.reaper.send(code);
        }
    }
}
