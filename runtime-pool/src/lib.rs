//! What happens inside a call: wasm in, native code out, one fresh instance per request.
//!
//! Read the modules in this order: `pool` (which functions are resident), `function` (one
//! resident function), `invocation` (one call, from its first poll to the last byte),
//! `executor` (the ways to run a guest), `compile` and `native` (how native code is made
//! and when it is trusted), `snapshot` (start-up paid once, at the deploy), `engine` and `limits` (how Wasmtime is held in check).
//!
//! This crate knows nothing of routing, of SQL, of the environment or of tenants.

mod admission;
mod code;
mod engine;
mod error;
mod executor;
mod host;
mod invocation;
mod limits;
mod metrics;
mod outbound;
mod pool;
mod sync;
mod warm;

pub use crate::{
    admission::run_queue::RunQueue,
    code::{
        artifact::{ArtifactDigest, Kind},
        compiler::CompileConfig,
        inspect::{Inspection, inspect},
        sandbox::Sandbox,
        snapshot::SnapshotOutcome,
        worker::compile_worker,
    },
    engine::{EngineConfig, reset_strategy},
    error::{Fault, InvokeError, Limit, LoadError, Refusal, StartError},
    executor::{
        request::{BodyError, InvocationContext, RequestBody},
        spec::FunctionSpec,
    },
    invocation::response_body::{Response, ResponseBody},
    limits::{ArtifactLimits, GuestLimits, Isolation, Limits, milliseconds},
    metrics::{
        PoolMetrics,
        guest_log::{FunctionKey, LogLine, LogStream},
        start::{Phase, Phases, Start, Tier},
    },
    outbound::{
        AddressRange, CdnLoop, Credential, Grant, Listeners, NotACredential, OutboundConfig,
    },
    pool::{
        Pool,
        config::PoolConfig,
        function::{Function, State},
    },
    warm::WarmConfig,
};

#[cfg(test)]
mod unwinding;
