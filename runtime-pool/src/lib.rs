//! Runs functions: wasm in, native code out, one fresh instance per request.
//!
//! The rooms, each of which uses only rooms that come after it: `invocation` (one call, from its
//! admission to the last byte), `pool` (which functions are resident), `warm` (instances made
//! beforehand), `admission` (slots and queues), `executor` (the ways to run a guest), `code` (how
//! native code is made, and when it is trusted), `host` (what a guest can reach), `outbound` (its
//! requests to other servers), `engine` (how Wasmtime is configured), `metrics` (what is counted and
//! logged), `limits`, `error` and `sync`. Begin with `pool`.
//!
//! This crate knows nothing of routing, of SQL or of the environment. A tenant is a part of a key.

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
        compiler::{CompileConfig, Uploader},
        describe::{Description, ImportedName, describe},
        inspect::{Inspection, inspect},
        sandbox::Sandbox,
        snapshot::SnapshotOutcome,
        worker::compile_worker,
    },
    engine::{EngineConfig, reset_strategy},
    error::{Fault, InvokeError, Limit, LoadError, Refusal, StartError},
    executor::{
        cgi::buffer::BufferConfig,
        request::{BodyError, FunctionCall, InvocationContext, RequestBody},
        spec::{FilesSpec, FunctionSpec},
    },
    host::{
        capabilities::{
            bucket::METADATA_BYTES,
            grants::{AllowedAccess, ConfigValue, Grants, StoreGrant},
            guest_store::{GuestStore, StoreId},
            interfaces::names::{NeededGrant, needed_grant},
            key_value::{
                Entry, Expect, KeyPage, KeyValue, Keys, ListedKey, Put, Removed, StoreAnswer,
                StoreUsage, Written,
            },
            refused::Refused,
            stores::KeyValueStore,
        },
        files::mounted::{
            blobs::BlobPath,
            list::{FileList, ListedEntry, NotAList},
        },
    },
    invocation::response_body::{Response, ResponseBody},
    limits::{ArtifactLimits, GuestLimits, Isolation, Limits, milliseconds},
    metrics::{
        PoolMetrics,
        guest_log::{FunctionKey, LogLine, LogStream},
        printable::{is_printable, printable},
        series::remove_series,
        start::{Phase, Phases, Start, Tier},
    },
    outbound::{
        AddressRange, CdnLoop, Credential, FunctionAnswer, FunctionBody, FunctionCalls,
        FunctionRequest, Grant, Listeners, NameSource, NotACredential, NotAGrant, NotANameSource,
        OutboundConfig, Secret, SecretHost, VettedAnswer, VettedClient, VettedError, VettedRequest,
    },
    pool::{
        Pool,
        config::PoolConfig,
        function::{Function, State},
    },
    warm::WarmConfig,
};
