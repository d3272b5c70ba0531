//! The template of a function, which its instances are made from.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time};

use crate::{
    InvokeError,
    executor::{
        cgi::{
            self, CgiInput,
            buffer::{BodyBuffers, is_of_unknown_length},
            environment,
        },
        http, http_async,
        request::{FunctionCall, ResponseHead},
        spec::FunctionSpec,
    },
    host::{
        Host, ModuleHost, StoreLimits,
        capabilities::{function::FunctionCapabilities, invocation::Capabilities},
        files::mounted::MountedFiles,
        instance::{AnyGuest, Instance, PreInstance},
        invocation_state::{InvocationState, MeteredGuest},
        wasi::{
            WasiSource,
            variables::{GuestVariables, ProgramVariables},
        },
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
    /// The environment of its guests, as they share it.
    environment: Arc<[(String, String)]>,
    code: Option<PreInstance>,
    /// The files that its guests can read.
    files: Option<Arc<MountedFiles>>,
    policy: Arc<Policy>,
    /// What its settings grant besides WASI.
    capabilities: Option<Arc<FunctionCapabilities>>,
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
        (code, files): (PreInstance, Option<Arc<MountedFiles>>),
        (policy, capabilities): (Policy, Option<Arc<FunctionCapabilities>>),
        log: FunctionLog,
        node: NodeParts,
    ) -> Self {
        Self {
            environment: spec.environment.as_slice().into(),
            spec,
            code: Some(code),
            files,
            policy: Arc::new(policy),
            capabilities,
            log: Arc::new(log),
            node,
            clock_start: Instant::now(),
        }
    }

    pub(crate) fn spec(&self) -> &FunctionSpec {
        &self.spec
    }

    /// What the names of its guests' files take in memory.
    pub(crate) fn names_bytes(&self) -> u64 {
        self.files.as_ref().map_or(0, |files| files.tree.memory_bytes() as u64)
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
        let wasi = WasiSource { log: Arc::clone(&log), clock_start: self.clock_start };
        let variables = GuestVariables::Settings(self.environment());
        let host = |wasi, variables, store_limits| {
            let outbound = Outbound::new(Arc::clone(&self.policy), Arc::clone(&log));
            let capabilities = self.capabilities.as_ref();
            let capabilities = capabilities.map(|function| Box::new(Capabilities::new(function)));
            Host::new(wasi, variables, outbound, self.files.clone(), capabilities, store_limits)
        };
        let guest = match self.code() {
            PreInstance::Http(pre) => {
                AnyGuest::Http(http::instantiate(pre, host(wasi, variables, store_limits)).await?)
            }
            PreInstance::HttpCore(pre) => AnyGuest::HttpCore(
                http::instantiate_core(pre, host(wasi, variables, store_limits)).await?,
            ),
            PreInstance::HttpAsync(pre) => AnyGuest::HttpAsync(
                http_async::instantiate(pre, host(wasi, variables, store_limits)).await?,
            ),
            PreInstance::Command(pre) => AnyGuest::Command(
                cgi::instantiate_component(pre, host(wasi, variables, store_limits)).await?,
            ),
            PreInstance::CommandAsync(pre) => AnyGuest::CommandAsync(
                cgi::instantiate_async_component(pre, host(wasi, variables, store_limits)).await?,
            ),
            PreInstance::Module(pre) => {
                let host = ModuleHost::new(wasi, variables, self.files.as_ref(), store_limits);
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
    pub(crate) async fn know_length(&self, call: &mut FunctionCall) -> Result<(), InvokeError> {
        let is_program = match self.code() {
            PreInstance::Http(_) | PreInstance::HttpCore(_) | PreInstance::HttpAsync(_) => false,
            PreInstance::Command(_) | PreInstance::CommandAsync(_) | PreInstance::Module(_) => true,
        };
        if !is_program || self.spec.stream_body || !is_of_unknown_length(call) {
            return Ok(());
        }
        // Boxed, so that other calls are not as large as those which need it.
        Box::pin(self.node.buffers.take_in(call, &self.spec.limits.guest)).await
    }

    /// Turns a request into the input of a command.
    pub(crate) fn cgi_input(
        self: &Arc<Self>,
        mut call: Box<FunctionCall>,
        head: oneshot::Sender<ResponseHead>,
    ) -> CgiInput {
        let bytes = self.spec.limits.log_bytes;
        let log = InvocationLog::new(Arc::clone(&self.log), call.context.invocation, bytes);
        let source = WasiSource { log, clock_start: self.clock_start };
        let body = std::mem::take(&mut call.body);
        let template = Arc::clone(self);
        let variables = GuestVariables::Later(Box::new(move || {
            let arguments = &template.spec.arguments;
            let FunctionCall { head, context, .. } = &*call;
            ProgramVariables {
                environment: environment::environment(head, context, &template.environment()),
                arguments: environment::arguments(arguments, head, &context.mount),
            }
        }));
        CgiInput { wasi: source.builder(&self.spec.limits.guest), variables, body, head }
    }

    /// The variables of an instance that is made now.
    fn environment(&self) -> Arc<[(String, String)]> {
        match &self.capabilities {
            Some(capabilities) => capabilities.environment(&self.environment),
            None => Arc::clone(&self.environment),
        }
    }

    fn code(&self) -> &PreInstance {
        self.code.as_ref().expect("only drop takes the code")
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
