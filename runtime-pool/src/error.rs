//! What can go wrong, and whose fault it was.

use std::{fmt, io, sync::Arc};

use serde::{Deserialize, Serialize};

/// Who must act on a failure. Decides the status, the log level and the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller sent something that cannot be served.
    Caller,
    /// The function misbehaved: it trapped, hung or ran out of memory.
    Function,
    /// We failed, or are full.
    Platform,
}

/// A limit that an invocation can hit, by the setting that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// `memory_bytes`.
    Memory,
    /// `pool.memory_bytes`.
    NodeMemory,
    /// `cpu_ms`.
    Cpu,
    /// `timeout_ms`.
    Timeout,
    /// `response_bytes`.
    ResponseBytes,
    /// `log_bytes`.
    LogBytes,
    /// `guests.log_bytes_per_second`.
    LogRate,
    /// `concurrency` and `queue`.
    Concurrency,
    /// `pool.instances`.
    Instances,
    /// `pool.queue`.
    Queue,
    /// `outbound.per_invocation`.
    OutboundRequests,
    /// `outbound.at_once`: the request waited.
    OutboundAtOnce,
    /// `outbound.connect_ms`, `outbound.tls_ms`, `outbound.first_byte_ms` or
    /// `outbound.between_bytes_ms`, or less where the guest has asked for less.
    OutboundTime,
    /// `outbound.header_bytes` or `outbound.headers`.
    OutboundResponseHead,
    /// `outbound.response_bytes`.
    OutboundResponseBytes,
    /// `guests.stack_bytes`.
    Stack,
    /// `guests.table_elements`.
    TableElements,
    /// `guests.host_resources`.
    HostResources,
    /// `guests.component_handles`.
    ComponentHandles,
    /// `guests.hostcall_bytes`, `guests.preview1_hostcall_bytes`.
    HostcallBytes,
    /// `guests.field_bytes`.
    FieldBytes,
    /// `guests.random_bytes`.
    RandomBytes,
    /// `guests.empty_writes`.
    EmptyWrites,
    /// `guests.after_response_ms`.
    AfterResponse,
}

impl Limit {
    /// Every limit, for registering metrics.
    pub const ALL: [Self; 24] = [
        Self::Memory,
        Self::NodeMemory,
        Self::Cpu,
        Self::Timeout,
        Self::ResponseBytes,
        Self::LogBytes,
        Self::LogRate,
        Self::Concurrency,
        Self::Instances,
        Self::Queue,
        Self::OutboundRequests,
        Self::OutboundAtOnce,
        Self::OutboundTime,
        Self::OutboundResponseHead,
        Self::OutboundResponseBytes,
        Self::Stack,
        Self::TableElements,
        Self::HostResources,
        Self::ComponentHandles,
        Self::HostcallBytes,
        Self::FieldBytes,
        Self::RandomBytes,
        Self::EmptyWrites,
        Self::AfterResponse,
    ];

    /// The name used as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::NodeMemory => "node_memory",
            Self::Cpu => "cpu",
            Self::Timeout => "timeout",
            Self::ResponseBytes => "response_bytes",
            Self::LogBytes => "log_bytes",
            Self::LogRate => "log_bytes_per_second",
            Self::Concurrency => "concurrency",
            Self::Instances => "instances",
            Self::Queue => "queue",
            Self::OutboundRequests => "outbound_requests",
            Self::OutboundAtOnce => "outbound_at_once",
            Self::OutboundTime => "outbound_time",
            Self::OutboundResponseHead => "outbound_response_head",
            Self::OutboundResponseBytes => "outbound_response_bytes",
            Self::Stack => "stack_bytes",
            Self::TableElements => "table_elements",
            Self::HostResources => "host_resources",
            Self::ComponentHandles => "component_handles",
            Self::HostcallBytes => "hostcall_bytes",
            Self::FieldBytes => "field_bytes",
            Self::RandomBytes => "random_bytes",
            Self::EmptyWrites => "empty_writes",
            Self::AfterResponse => "after_response",
        }
    }

    /// The name of what an invocation comes to that failed by it.
    fn outcome(self) -> &'static str {
        match self {
            Self::Memory => "memory-limit",
            Self::NodeMemory => "node-memory",
            Self::Cpu => "cpu-limit",
            Self::Timeout => "timeout",
            Self::ResponseBytes => "response-too-large",
            Self::EmptyWrites => "empty-writes",
            Self::Stack => "stack-overflow",
            Self::HostResources | Self::ComponentHandles => "resource-limit",
            Self::HostcallBytes | Self::RandomBytes => "hostcall-limit",
            Self::FieldBytes => "header-limit",
            Self::Concurrency => "concurrency-limit",
            Self::Instances => "instance-limit",
            Self::Queue => "queue-limit",
            // These end no invocation by themselves.
            Self::TableElements
            | Self::LogBytes
            | Self::LogRate
            | Self::AfterResponse
            | Self::OutboundRequests
            | Self::OutboundAtOnce
            | Self::OutboundTime
            | Self::OutboundResponseHead
            | Self::OutboundResponseBytes => "function-failed",
        }
    }

    /// Whether it is counted when the guest is refused more, and not by what comes of that.
    pub(crate) fn is_refused_growth(self) -> bool {
        matches!(self, Self::Memory | Self::NodeMemory | Self::TableElements)
    }
}

/// Why there is no pool.
#[derive(Debug, thiserror::Error)]
#[error("starting the runtime: {what}")]
pub struct StartError {
    pub(crate) what: &'static str,
    #[source]
    pub(crate) cause: wasmtime::Error,
}

impl StartError {
    pub(crate) fn new(
        what: &'static str,
        cause: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self { what, cause: cause.into() }
    }
}

/// Why a binary cannot be a function. The text is for the owner who uploaded it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no wasm binary: says what they look like instead.
    #[error("the upload is {0}, not a wasm binary")]
    NotWasm(String),
    /// A wasm binary that is malformed, or uses a feature that is switched off.
    #[error("the wasm binary is not valid here: {0}")]
    Invalid(String),
    /// A valid binary that exports nothing we know how to call.
    #[error("{0}")]
    NoEntryPoint(String),
    /// Imports that nobody provides, one by one.
    #[error("nobody provides {}", .0.join(", "))]
    UnknownImports(Vec<String>),
    /// It breaks one of the static limits: which, and by how much.
    #[error("{0}")]
    TooLarge(String),
    /// The compiler hit its limit of time or memory.
    #[error("compiling it takes more than the platform allows: {0}")]
    CompileLimit(String),
    /// It cannot be isolated in the way that its settings ask for.
    #[error("{0}")]
    Isolation(String),
    /// The start-up function that a snapshot was to be taken after failed.
    #[error("its start-up function {0}")]
    StartUp(String),
    /// It compiles, but an instance cannot be made of it.
    #[error("an instance cannot be made of it: {0}")]
    Start(String),
}

/// Why a function could not be made resident.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// The binary itself is at fault.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many compilations wait already.
    #[error("too many compilations are waiting")]
    CompilerBusy,
    /// Deploys have begun as many compilations within a minute as they may.
    #[error("deploys may begin {per_minute} compilations within a minute")]
    CompileRate {
        /// How many.
        per_minute: usize,
        /// When the next may begin.
        retry_after: std::time::Duration,
    },
    /// There is no space left for native code.
    #[error("no space left for native code")]
    NoSpace,
    /// The artifact's bytes are not those that its digest names.
    #[error("the artifact was damaged on disk")]
    Damaged,
    /// The artifact is not where it should be.
    #[error("the artifact is not there")]
    Missing,
    /// The compiler could not be run, or its result not be kept.
    #[error("{what}")]
    Io {
        /// What we tried.
        what: &'static str,
        /// What the operating system said.
        #[source]
        cause: Arc<io::Error>,
    },
    /// Native code that we made ourselves does not load.
    #[error("{what}")]
    Engine {
        /// What we tried.
        what: &'static str,
        /// What the engine said.
        detail: String,
    },
    /// The guest needs an engine that the operator has switched off.
    #[error("WASI 0.3 components are switched off on this node")]
    AsyncEngineOff,
}

impl LoadError {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io { what, cause: Arc::new(cause) },
        }
    }

    /// Who must act.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Refused(_) | Self::AsyncEngineOff | Self::CompileRate { .. } => Fault::Caller,
            Self::CompilerBusy
            | Self::NoSpace
            | Self::Damaged
            | Self::Missing
            | Self::Io { .. }
            | Self::Engine { .. } => Fault::Platform,
        }
    }
}

/// Why an invocation produced no response.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// Every slot of the function is taken, and its queue is full, or the wait was or would be too
    /// long.
    #[error("the function runs as many invocations as it may")]
    Concurrency,
    /// So many invocations wait on the node that the function may have no more of them.
    #[error("as many invocations wait for a slot as may")]
    Queue,
    /// The node has no instance left to give.
    #[error("the node runs as many instances as it may")]
    Instances,
    /// The node has no linear memory left to give, and the guest could not go on without.
    #[error("the node's instances have as much memory as they may")]
    NodeMemory,
    /// The invocation used up its CPU time.
    #[error("the invocation used up its CPU time of {0:?} (cpu_ms)")]
    Cpu(std::time::Duration),
    /// The wall-clock limit passed before the head of a response.
    #[error("the function did not respond within {0:?} (timeout_ms)")]
    Timeout(std::time::Duration),
    /// The guest trapped or exited before it answered. The text is for its owner alone.
    #[error("the function failed: {detail}")]
    Failed {
        /// The trap and its wasm backtrace, or the exit code.
        detail: String,
        /// The limit that explains it.
        limit: Option<Limit>,
    },
    /// The guest's response broke a limit before anything of it was sent.
    #[error("the function's response hit its limit: {}", .0.as_str())]
    ResponseLimit(Limit),
    /// The guest returned without a response, or with one that is none.
    #[error("the function gave no valid response: {0}")]
    NoResponse(String),
    /// The request cannot be given to a guest.
    #[error("the request cannot be given to a function: {0}")]
    Request(String),
    /// An instance could not be made for a reason of ours.
    #[error("an instance could not be made: {0}")]
    Start(String),
}

impl InvokeError {
    /// Who must act.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Request(_) => Fault::Caller,
            Self::Cpu(_)
            | Self::Timeout(_)
            | Self::Failed { .. }
            | Self::ResponseLimit(_)
            | Self::NoResponse(_) => Fault::Function,
            Self::Concurrency
            | Self::Queue
            | Self::Instances
            | Self::NodeMemory
            | Self::Start(_) => Fault::Platform,
        }
    }

    /// The limit that was hit, if it was one.
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::Concurrency => Some(Limit::Concurrency),
            Self::Queue => Some(Limit::Queue),
            Self::Instances => Some(Limit::Instances),
            Self::NodeMemory => Some(Limit::NodeMemory),
            Self::Cpu(_) => Some(Limit::Cpu),
            Self::Timeout(_) => Some(Limit::Timeout),
            Self::Failed { limit, .. } => *limit,
            Self::ResponseLimit(limit) => Some(*limit),
            Self::NoResponse(_) | Self::Request(_) | Self::Start(_) => None,
        }
    }

    /// The outcome's name in metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Concurrency => "concurrency-limit",
            Self::Queue => "queue-limit",
            Self::Instances => "instance-limit",
            Self::NodeMemory => "node-memory",
            Self::Cpu(_) => "cpu-limit",
            Self::Timeout(_) => "timeout",
            Self::Failed { limit: Some(limit), .. } | Self::ResponseLimit(limit) => limit.outcome(),
            Self::Failed { limit: None, .. } => "function-failed",
            Self::NoResponse(_) => "no-response",
            Self::Request(_) => "bad-request",
            Self::Start(_) => "start-failed",
        }
    }
}

/// The error an epoch callback raises when a guest holds too many header fields.
#[derive(Debug)]
pub(crate) struct HeadersExceeded;

impl fmt::Display for HeadersExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many header fields are held at once")
    }
}

impl std::error::Error for HeadersExceeded {}

/// The error an epoch callback raises when the CPU time is used up.
#[derive(Debug)]
pub(crate) struct CpuExceeded;

impl fmt::Display for CpuExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CPU time used up")
    }
}

impl std::error::Error for CpuExceeded {}
