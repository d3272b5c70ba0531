//! What happens inside a call: wasm in, native code out, one fresh instance per request.
//!
//! Read the modules in this order: `pool` (which functions are resident), `function` (one
//! resident function), `invocation` (one call, from its first poll to the last byte),
//! `executor` (the ways to run a guest), `compile` and `native` (how native code is made
//! and when it is trusted), `snapshot` (start-up paid once, at the deploy), `engine` and `limits` (how Wasmtime is held in check).
//!
//! This crate knows nothing of routing, of SQL, of the environment or of tenants.

mod artifact;
mod body;
mod call;
mod clock;
mod compile;
mod cpu;
mod engine;
mod error;
mod executor;
mod function;
mod guest_log;
mod host;
mod inspect;
mod instance;
mod invocation;
mod key;
mod limits;
mod link;
mod long;
mod mend;
mod metrics;
mod native;
mod outbound;
mod pool;
mod queue_wait;
mod run;
mod sandbox;
mod slots;
mod snapshot;
mod start;
mod stream;
mod sync;
mod turns;
#[cfg(test)]
mod unwinding;
mod waiting;
mod wakes;
mod worker;

pub use crate::{
    artifact::{ArtifactDigest, ArtifactLimits, Kind},
    body::{BodyError, RequestBody, ResponseBody},
    call::{Caller, Response},
    compile::CompileConfig,
    engine::{EngineConfig, reset_strategy},
    error::{Fault, InvokeError, Limit, LoadError, Refusal, StartError},
    function::{Function, Source, State},
    guest_log::{LogLine, LogStream},
    inspect::{Inspection, inspect},
    key::FunctionKey,
    limits::{GuestLimits, Isolation, Limits},
    metrics::PoolMetrics,
    outbound::{AddressRange, Credential, Grant, Listeners, NotACredential, OutboundConfig, Trail},
    pool::{Pool, PoolConfig},
    sandbox::Sandbox,
    snapshot::Snapshot,
    start::{Phase, Phases, Start, Tier},
    turns::Turns,
    waiting::WaitingConfig,
    worker::compile_worker,
};
