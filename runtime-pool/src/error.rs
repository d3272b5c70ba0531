//! The errors of the pool, and whose fault each of them is.

use std::{fmt, io, sync::Arc};

use serde::{Deserialize, Serialize};

/// The party that must act on a failure. Decides the status, the log level and the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller sent something that cannot be served.
    Caller,
    /// The function misbehaved: it trapped, hung or ran out of memory.
    Function,
    /// The platform failed, or is at one of its limits.
    Platform,
}

/// A limit that an invocation can hit. Each is named by its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// `memory_bytes`.
    Memory,
    /// `pool.memory_bytes`.
    NodeMemory,
    /// `scratch_bytes`.
    ScratchBytes,
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
    /// `outbound.at_once`. A request that hits it waits.
    OutboundAtOnce,
    /// `outbound.lookups`, `outbound.lookups_per_function`. The request waited.
    OutboundLookups,
    /// `outbound.connect_ms`, `outbound.tls_ms`, `outbound.first_byte_ms` or
    /// `outbound.between_bytes_ms`; or the guest's own timeout, where that is shorter.
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
    /// `guests.host_bytes`.
    HostBytes,
    /// `guests.component_handles`.
    ComponentHandles,
    /// `guests.hostcall_bytes`, `guests.preview1_hostcall_bytes`.
    HostcallBytes,
    /// `guests.field_bytes`.
    FieldBytes,
    /// `guests.random_bytes`.
    RandomBytes,
    /// `guests.buffer_bytes`.
    BufferBytes,
    /// `pool.buffer_bytes`.
    NodeBufferBytes,
    /// `guests.empty_writes`.
    EmptyWrites,
    /// `guests.after_response_ms`.
    AfterResponse,
    /// `guests.store_key_bytes`, `guests.store_value_bytes`, `guests.store_answer_bytes`.
    StoreSizes,
    /// `guests.store_operations`.
    StoreOperations,
    /// `guests.store_operations_per_second`.
    StoreRate,
    /// `guests.store_handles`.
    StoreHandles,
}

impl Limit {
    /// Every limit, for registering metrics.
    pub const ALL: [Self; 33] = [
        Self::Memory,
        Self::NodeMemory,
        Self::ScratchBytes,
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
        Self::OutboundLookups,
        Self::OutboundTime,
        Self::OutboundResponseHead,
        Self::OutboundResponseBytes,
        Self::Stack,
        Self::TableElements,
        Self::HostResources,
        Self::HostBytes,
        Self::ComponentHandles,
        Self::HostcallBytes,
        Self::FieldBytes,
        Self::RandomBytes,
        Self::BufferBytes,
        Self::NodeBufferBytes,
        Self::EmptyWrites,
        Self::AfterResponse,
        Self::StoreSizes,
        Self::StoreOperations,
        Self::StoreRate,
        Self::StoreHandles,
    ];

    /// The name used as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::NodeMemory => "node_memory",
            Self::ScratchBytes => "scratch_bytes",
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
            Self::OutboundLookups => "outbound_lookups",
            Self::OutboundTime => "outbound_time",
            Self::OutboundResponseHead => "outbound_response_head",
            Self::OutboundResponseBytes => "outbound_response_bytes",
            Self::Stack => "stack_bytes",
            Self::TableElements => "table_elements",
            Self::HostResources => "host_resources",
            Self::HostBytes => "host_bytes",
            Self::ComponentHandles => "component_handles",
            Self::HostcallBytes => "hostcall_bytes",
            Self::FieldBytes => "field_bytes",
            Self::RandomBytes => "random_bytes",
            Self::BufferBytes => "buffer_bytes",
            Self::NodeBufferBytes => "node_buffer_bytes",
            Self::EmptyWrites => "empty_writes",
            Self::AfterResponse => "after_response",
            Self::StoreSizes => "store_sizes",
            Self::StoreOperations => "store_operations",
            Self::StoreRate => "store_operations_per_second",
            Self::StoreHandles => "store_handles",
        }
    }

    /// The outcome, as metrics name it, of an invocation that failed by this limit.
    fn outcome(self) -> &'static str {
        match self {
            Self::Memory => "memory-limit",
            Self::NodeMemory => "node-memory",
            Self::Cpu => "cpu-limit",
            Self::Timeout => "timeout",
            Self::ResponseBytes => "response-too-large",
            Self::EmptyWrites => "empty-writes",
            Self::Stack => "stack-overflow",
            Self::HostResources | Self::HostBytes | Self::ComponentHandles => "resource-limit",
            Self::HostcallBytes | Self::RandomBytes => "hostcall-limit",
            Self::FieldBytes => "header-limit",
            Self::Concurrency => "concurrency-limit",
            Self::Instances => "instance-limit",
            Self::Queue => "queue-limit",
            // These do not end an invocation by themselves.
            Self::ScratchBytes
            | Self::TableElements
            | Self::LogBytes
            | Self::LogRate
            | Self::BufferBytes
            | Self::NodeBufferBytes
            | Self::AfterResponse
            | Self::OutboundRequests
            | Self::OutboundAtOnce
            | Self::OutboundLookups
            | Self::OutboundTime
            | Self::OutboundResponseHead
            | Self::OutboundResponseBytes
            | Self::StoreSizes
            | Self::StoreOperations
            | Self::StoreRate
            | Self::StoreHandles => "function-failed",
        }
    }

    /// Whether a hit is counted when the guest is refused growth, and not when its invocation ends.
    pub(crate) fn is_refused_growth(self) -> bool {
        matches!(self, Self::Memory | Self::NodeMemory | Self::ScratchBytes | Self::TableElements)
    }
}

/// Why the pool did not start.
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
    /// The bytes are not a wasm binary. Names what they look like.
    #[error("the upload is {0}, not a wasm binary")]
    NotWasm(String),
    /// A wasm binary that is malformed, or uses a feature that is disabled.
    #[error("the wasm binary is not valid, or uses a feature that is not supported: {0}")]
    Invalid(String),
    /// A valid binary without an export that the platform can call.
    #[error("{0}")]
    NoEntryPoint(String),
    /// Every import that the platform does not provide.
    #[error("the platform does not provide {}", .0.join(", "))]
    UnknownImports(Vec<String>),
    /// It exceeds one of the static limits. Names the limit and both numbers.
    #[error("{0}")]
    TooLarge(String),
    /// The compiler hit a limit of time or memory. Names what it needs more of.
    #[error("compiling it needs {0}")]
    CompileLimit(String),
    /// Its settings ask for an isolation that its kind of guest cannot have.
    #[error("{0}")]
    Isolation(String),
    /// Its start-up function, which runs before a snapshot is taken, failed.
    #[error("its start-up function {0}")]
    StartUp(String),
    /// It compiles, but cannot be instantiated.
    #[error("an instance cannot be made of it: {0}")]
    Start(String),
}

/// Why a function could not be made resident.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// The binary itself is at fault.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The queue of the compiler is full.
    #[error("too many compilations are waiting")]
    CompilerBusy,
    /// Deploys have begun the allowed number of compilations within the last minute.
    #[error("deploys may begin at most {per_minute} compilations within a minute")]
    CompileRate {
        /// That number.
        per_minute: usize,
        /// When the next may begin.
        retry_after: std::time::Duration,
    },
    /// There is no space left for native code.
    #[error("no space left for native code")]
    NoSpace,
    /// The artifact's bytes do not match its digest.
    #[error("the artifact was damaged on disk")]
    Damaged,
    /// The list of the files that the function is given is damaged or missing.
    #[error("the list of the function's files was damaged on disk, or is missing")]
    FilesDamaged,
    /// The artifact's file is missing.
    #[error("the artifact's file is missing")]
    Missing,
    /// The compiler could not run, or its result could not be stored.
    #[error("{what}")]
    Io {
        /// The action that failed.
        what: &'static str,
        /// The operating system's error.
        #[source]
        cause: Arc<io::Error>,
    },
    /// Native code of our own does not load.
    #[error("{what}")]
    Engine {
        /// The action that failed.
        what: &'static str,
        /// The engine's error.
        detail: String,
    },
    /// The guest needs the engine for WASI 0.3, which the operator has disabled.
    #[error("WASI 0.3 components are disabled on this node (pool.async_engine)")]
    AsyncEngineOff,
}

impl LoadError {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io { what, cause: Arc::new(cause) },
        }
    }

    /// The party that must act.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Refused(_) | Self::AsyncEngineOff | Self::CompileRate { .. } => Fault::Caller,
            Self::CompilerBusy
            | Self::NoSpace
            | Self::Damaged
            | Self::FilesDamaged
            | Self::Missing
            | Self::Io { .. }
            | Self::Engine { .. } => Fault::Platform,
        }
    }
}

/// Why an invocation produced no response.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// Every concurrency slot of the function is taken, and its queue is full or the wait in it is
    /// too long.
    #[error("the function's concurrency limit is reached (concurrency, queue, queue_wait_ms)")]
    Concurrency,
    /// Too many invocations wait on the node for another one of this function to join them.
    #[error("too many invocations wait on this node (pool.queue)")]
    Queue,
    /// All instances of the node are in use.
    #[error("the node's instance limit is reached (pool.instances)")]
    Instances,
    /// The node has no linear memory left, and the guest failed without it.
    #[error("the memory of the node's instances is used up (pool.memory_bytes)")]
    NodeMemory,
    /// The request's body has no length, and is longer than what is buffered of such a body.
    #[error("the request's body gives no length and has more than {0} bytes (guests.buffer_bytes)")]
    BufferedBody(u64),
    /// The node buffers as many bytes of request bodies as it may.
    #[error("the node buffers too many request bodies (pool.buffer_bytes)")]
    Buffers,
    /// There is no space left to buffer the request's body.
    #[error("no space left to buffer the request's body")]
    NoSpace,
    /// The invocation used up its CPU time.
    #[error("the invocation used up its CPU time of {0:?} (cpu_ms)")]
    Cpu(std::time::Duration),
    /// The wall-clock limit passed before the head of the response.
    #[error("the function did not respond within {0:?} (timeout_ms)")]
    Timeout(std::time::Duration),
    /// The guest trapped or exited before it responded. Only the function's owner sees the text.
    #[error("the function failed: {detail}")]
    Failed {
        /// The trap and its wasm backtrace, or the exit code.
        detail: String,
        /// The limit that caused it, if one did.
        limit: Option<Limit>,
    },
    /// The guest's response exceeded a limit before any of it was sent.
    #[error("the function's response exceeded a limit: {}", .0.as_str())]
    ResponseLimit(Limit),
    /// The guest returned without a response, or with an invalid one.
    #[error("the function returned no valid response: {0}")]
    NoResponse(String),
    /// The request cannot be passed to a guest.
    #[error("the request cannot be passed to a function: {0}")]
    Request(String),
    /// An instance could not be made, and the platform is the cause.
    #[error("an instance could not be made: {0}")]
    Start(String),
}

impl InvokeError {
    /// The party that must act.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Request(_) | Self::BufferedBody(_) => Fault::Caller,
            Self::Cpu(_)
            | Self::Timeout(_)
            | Self::Failed { .. }
            | Self::ResponseLimit(_)
            | Self::NoResponse(_) => Fault::Function,
            Self::Concurrency
            | Self::Queue
            | Self::Instances
            | Self::NodeMemory
            | Self::Buffers
            | Self::NoSpace
            | Self::Start(_) => Fault::Platform,
        }
    }

    /// The limit that was hit, if a limit is the cause.
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::Concurrency => Some(Limit::Concurrency),
            Self::Queue => Some(Limit::Queue),
            Self::Instances => Some(Limit::Instances),
            Self::NodeMemory => Some(Limit::NodeMemory),
            Self::BufferedBody(_) => Some(Limit::BufferBytes),
            Self::Buffers => Some(Limit::NodeBufferBytes),
            Self::Cpu(_) => Some(Limit::Cpu),
            Self::Timeout(_) => Some(Limit::Timeout),
            Self::Failed { limit, .. } => *limit,
            Self::ResponseLimit(limit) => Some(*limit),
            Self::NoResponse(_) | Self::Request(_) | Self::NoSpace | Self::Start(_) => None,
        }
    }

    /// The outcome's name in metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Concurrency => "concurrency-limit",
            Self::Queue => "queue-limit",
            Self::Instances => "instance-limit",
            Self::NodeMemory => "node-memory",
            Self::BufferedBody(_) => "request-too-large",
            Self::Buffers => "buffer-limit",
            Self::NoSpace => "no-space",
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

/// The error that ends a component which exits with an error: WASI passes no number with it.
#[derive(Debug)]
pub(crate) struct ExitedWithError;

impl fmt::Display for ExitedWithError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it exited with an error, and without a number (wasi:cli/exit)")
    }
}

impl std::error::Error for ExitedWithError {}

/// The error an epoch callback raises when the CPU time is used up.
#[derive(Debug)]
pub(crate) struct CpuExceeded;

impl fmt::Display for CpuExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the CPU time is used up")
    }
}

impl std::error::Error for CpuExceeded {}
