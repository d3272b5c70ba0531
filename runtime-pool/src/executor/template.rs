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
        cgi::{
            self, CgiInput,
            buffer::{BodyBuffers, is_of_unknown_length},
            environment,
        },
        http, http_async,
        request::{Call, ResponseHead},
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
    node: NodeParts,
    /// The moment from which the guests' monotonic clocks count.
    clock_start: Instant,
}

/// What the functions of a node share.
pub(crate) struct NodeParts {
    /// The linear memory of the node, of which instances take.
    pub(crate) memory: NodeMemory,
    /// Request bodies that are buffered.
    pub(crate) buffers: Arc<BodyBuffers>,
    /// Unmaps code.
    pub(crate) reaper: mpsc::Sender<PreInstance>,
}

impl InstanceTemplate {
    pub(crate) fn new(
        spec: FunctionSpec,
        code: PreInstance,
        policy: Policy,
        log: FunctionLog,
        node: NodeParts,
    ) -> Self {
        Self {
            spec,
            code: Some(code),
            policy: Arc::new(policy),
            log: Arc::new(log),
            node,
            clock_start: Instant::now(),
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
        let store_limits = StoreLimits::new(limits, self.node.memory.clone(), Arc::clone(state));
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
            PreInstance::CommandAsync(pre) => AnyGuest::CommandAsync(
                cgi::instantiate_async_component(pre, host(wasi, store_limits)).await?,
            ),
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

    /// Buffers the body of a request if the guest is a program and the body's length is not known,
    /// unless the function's settings ask for it as it arrives.
    pub(crate) async fn know_length(&self, call: &mut Call) -> Result<(), InvokeError> {
        let is_program = match self.code() {
            PreInstance::Http(_) | PreInstance::HttpAsync(_) => false,
            PreInstance::Command(_) | PreInstance::CommandAsync(_) | PreInstance::Module(_) => true,
        };
        if !is_program || self.spec.stream_body || !is_of_unknown_length(call) {
            return Ok(());
        }
        // Boxed, so that other calls are not as large as those which need it.
        Box::pin(self.node.buffers.take_in(call, &self.spec.limits.guest)).await
    }

    /// Turns a request into the input of a command.
    pub(crate) fn cgi_input(&self, call: Call, head: oneshot::Sender<ResponseHead>) -> CgiInput {
        let Call { head: request, body, context } = call;
        let environment = environment::environment(&request, &context, &self.spec.environment);
        let bytes = self.spec.limits.log_bytes;
        let log = InvocationLog::new(Arc::clone(&self.log), context.invocation, bytes);
        let mut wasi = self.wasi(&environment, &log);
        wasi.args(&environment::arguments(&self.spec.arguments, &request, &context.mount));
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
            let _ = self.node.reaper.send(code);
        }
    }
}
