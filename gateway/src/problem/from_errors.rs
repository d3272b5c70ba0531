//! Which problem each error of the pool and the store is.
//!
//! No `_` in these matches: a new variant does not compile until it has a problem.

use std::time::Duration;

use gateway_api::FunctionLimit;
use runtime_pool::{InvokeError, Limit, LoadError, Refusal};
use store::Quota;

use super::{
    Problem, chain, function_setting, operator_setting,
    table::{self, ProblemType},
};

/// Seconds after which a compilation or the database may be tried again.
const BUSY_S: u32 = 5;
/// Seconds after which the oldest of the stored idempotency keys may have expired.
const IDEMPOTENCY_S: u32 = 600;
/// Seconds after which a full queue may have room again. Arbitrary.
const QUEUE_FULL_S: u32 = 5;

const SEE_THE_FUNCTIONS_LOG: &str = "The function's log has the reason.";

impl Problem {
    /// A published function could not be loaded.
    pub(crate) fn of_published(error: &LoadError) -> Self {
        match error {
            LoadError::CompilerBusy => compiler_busy(&table::COMPILER_BUSY),
            LoadError::AsyncEngineOff => async_engine_off(&table::ASYNC_ENGINE_OFF),
            LoadError::NoSpace => no_space(),
            LoadError::Damaged => Self::artifact_damaged(),
            LoadError::FilesDamaged => {
                tracing::error!("the list of a published revision's files is damaged or missing");
                Self::files_damaged()
            }
            LoadError::Missing => {
                tracing::error!("the artifact of a published revision is missing");
                Self::artifact_damaged()
            }
            LoadError::Refused(_)
            // Only deploys have this limit.
            | LoadError::CompileRate { .. }
            | LoadError::Io { .. }
            | LoadError::Engine { .. } => {
                tracing::error!(error = chain(error), "a published function could not be loaded");
                Self::new(&table::LOAD_FAILED)
                    .hint("The gateway's log has the cause: search it for the request id.")
            }
        }
    }

    /// A published function is still being loaded after the time of one call.
    pub(crate) fn load_timeout(after: Duration) -> Self {
        Self::new(&table::LOAD_TIMEOUT)
            .detail(format!("it was not loaded within {after:?}; compiling it goes on"))
            .hint(format!(
                "Try again later, or raise the function's setting `{}`.",
                FunctionLimit::TimeoutMs.key()
            ))
            .retry_after(BUSY_S)
    }

    /// The token may deploy but not administer, and the kernel lacks a part of the sandbox.
    pub(crate) fn sandbox_missing() -> Self {
        Self::new(&table::SANDBOX_MISSING)
            .detail("this kernel lacks a part of the sandbox around the compiler")
            .hint(
                "The operator can use a kernel with seccomp and Landlock, or set \
                 `compile.require_sandbox` to `false`.",
            )
    }

    /// The quarantine logs each damaged artifact.
    pub(crate) fn files_damaged() -> Self {
        Self::new(&table::FILES_DAMAGED)
            .hint("Upload the same files again, which replaces the damaged ones.")
    }

    pub(crate) fn artifact_damaged() -> Self {
        Self::new(&table::ARTIFACT_DAMAGED)
            .hint("Deploy the same bytes again, which replaces the artifact.")
    }
}

fn no_space() -> Problem {
    tracing::error!("no space left in the data directory");
    Problem::new(&table::NO_SPACE).hint("The operator must free space in the data directory.")
}

fn compiler_busy(problem_type: &'static ProblemType) -> Problem {
    Problem::new(problem_type)
        .hint("Try again later. The operator can raise `compile.jobs` or `compile.queue`.")
        .retry_after(BUSY_S)
}

fn async_engine_off(problem_type: &'static ProblemType) -> Problem {
    Problem::new(problem_type).hint("The operator can turn on the setting `pool.async_engine`.")
}

impl From<InvokeError> for Problem {
    fn from(error: InvokeError) -> Self {
        match &error {
            InvokeError::Concurrency => Self::new(&table::CONCURRENCY_LIMIT)
                .hint(format!(
                    "Raise the function's setting `{}`, `{}` or `{}`, or try again later.",
                    FunctionLimit::Concurrency.key(),
                    FunctionLimit::Queue.key(),
                    FunctionLimit::QueueWaitMs.key(),
                ))
                .retry_after(1),
            InvokeError::Queue => Self::new(&table::QUEUE_LIMIT)
                .detail("the function already has its share of the node's queue")
                .hint("Try again later. The operator can raise the setting `pool.queue`.")
                .retry_after(1),
            InvokeError::Instances => Self::new(&table::INSTANCE_LIMIT)
                .hint("Try again later. The operator can raise the setting `pool.instances`.")
                .retry_after(1),
            InvokeError::NodeMemory => Self::new(&table::NODE_MEMORY)
                .hint("Try again later. The operator can raise the setting `pool.memory_bytes`.")
                .retry_after(1),
            InvokeError::BufferedBody(most) => Self::new(&table::REQUEST_TOO_LARGE)
                .detail(format!(
                    "the request gives no length; of such a body the gateway buffers at most {most} \
                     bytes for a CGI program"
                ))
                .hint(
                    "Send a `content-length`. The function's setting `stream_body` turns the buffer \
                     off; the operator can raise the setting `guests.buffer_bytes`.",
                )
                .closes(),
            InvokeError::Buffers => Self::new(&table::BUFFER_LIMIT)
                .hint(
                    "Try again later, or send a `content-length`. The operator can raise the setting \
                     `pool.buffer_bytes`.",
                )
                .retry_after(1)
                .closes(),
            InvokeError::NoSpace => no_space().closes(),
            InvokeError::Cpu(limit) => Self::new(&table::CPU_LIMIT)
                .detail(format!("the limit is {} of CPU time", in_ms(*limit)))
                .hint(function_setting(FunctionLimit::CpuMs)),
            InvokeError::Timeout(limit) => Self::new(&table::TIMEOUT)
                .detail(format!("the limit is {}", in_ms(*limit)))
                .hint(function_setting(FunctionLimit::TimeoutMs)),
            InvokeError::Failed { limit: Some(limit), .. } | InvokeError::ResponseLimit(limit) => {
                limit_reached(*limit)
            }
            InvokeError::Failed { limit: None, .. } => {
                Self::new(&table::FUNCTION_FAILED).hint(SEE_THE_FUNCTIONS_LOG)
            }
            InvokeError::NoResponse(_) => {
                Self::new(&table::NO_RESPONSE).hint(SEE_THE_FUNCTIONS_LOG)
            }
            InvokeError::Request(_) => Self::bad_target(),
            InvokeError::Start(_) => {
                tracing::error!(error = chain(&error), "an instance could not be created");
                Self::new(&table::START_FAILED)
                    .hint("The gateway's log has the cause: search it for the request id.")
            }
        }
    }
}

fn in_ms(limit: Duration) -> String {
    format!("{} ms", limit.as_millis())
}

/// A guest failed by a limit, or broke one with its response.
fn limit_reached(limit: Limit) -> Problem {
    match limit {
        Limit::Memory => {
            Problem::new(&table::MEMORY_LIMIT).hint(function_setting(FunctionLimit::MemoryBytes))
        }
        Limit::Stack => {
            Problem::new(&table::STACK_OVERFLOW).hint(operator_setting("guests.stack_bytes"))
        }
        Limit::HostResources | Limit::ComponentHandles => Problem::new(&table::RESOURCE_LIMIT)
            .hint(
                "The operator can raise the settings `guests.host_resources` and \
                 `guests.component_handles`.",
            ),
        Limit::HostBytes => {
            Problem::new(&table::RESOURCE_LIMIT).hint(operator_setting("guests.host_bytes"))
        }
        Limit::HostcallBytes | Limit::RandomBytes => Problem::new(&table::HOSTCALL_LIMIT).hint(
            "The operator can raise the settings `guests.hostcall_bytes`, \
             `guests.preview1_hostcall_bytes` and `guests.random_bytes`.",
        ),
        Limit::FieldBytes => {
            Problem::new(&table::HEADER_LIMIT).hint(operator_setting("guests.field_bytes"))
        }
        Limit::ResponseBytes => Problem::new(&table::RESPONSE_TOO_LARGE)
            .hint(function_setting(FunctionLimit::ResponseBytes)),
        Limit::EmptyWrites => {
            Problem::new(&table::EMPTY_WRITES).hint(operator_setting("guests.empty_writes"))
        }
        Limit::NodeMemory
        | Limit::ScratchBytes
        | Limit::Cpu
        | Limit::Timeout
        | Limit::LogBytes
        | Limit::LogRate
        | Limit::StoreSizes
        | Limit::StoreOperations
        | Limit::StoreRate
        | Limit::StoreHandles
        | Limit::BufferBytes
        | Limit::NodeBufferBytes
        | Limit::Concurrency
        | Limit::Instances
        | Limit::TableElements
        | Limit::Queue
        | Limit::OutboundRequests
        | Limit::OutboundAtOnce
        | Limit::OutboundLookups
        | Limit::OutboundTime
        | Limit::OutboundResponseHead
        | Limit::OutboundResponseBytes
        | Limit::AfterResponse => Problem::new(&table::FUNCTION_FAILED).hint(SEE_THE_FUNCTIONS_LOG),
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        Self::of_store(&error)
    }
}

impl Problem {
    /// The problem of an error of the store, which several requests may share.
    pub(crate) fn of_store(error: &store::Error) -> Self {
        match error {
            store::Error::Conflict => Self::new(&table::CONFLICT)
                .detail("another request changed it at the same time")
                .hint("Read it again, then repeat the change."),
            store::Error::TooLarge { max_bytes } => Self::new(&table::ARTIFACT_TOO_LARGE)
                .detail(format!("the limit is {max_bytes} bytes"))
                .hint(operator_setting("uploads.artifact_bytes")),
            store::Error::VersionTaken => Self::new(&table::VERSION_TAKEN)
                .detail("a revision of the function with this version runs other bytes")
                .hint("Give the new artifact a version of its own."),
            store::Error::HostTaken { host } => Self::new(&table::HOST_TAKEN)
                .detail(format!("another certificate is for {host:?}"))
                .hint("`mayfly certificate list` shows those of yours."),
            store::Error::NoSuchTree => Self::new(&table::FILES_NOT_FOUND_AT_DEPLOY)
                .detail("the settings name a tree of files that is not stored")
                .hint("Upload the files first: `POST /v1/files`, or `mayfly deploy --files`."),
            store::Error::NoSuchArtifact => Self::new(&table::ARTIFACT_NOT_FOUND_AT_APPLY)
                .detail("there is no artifact with this digest")
                .hint("Upload it first: `PUT /v1/artifacts/{digest}`."),
            store::Error::NoSuchRevision { number } => Self::new(&table::BAD_CHANNEL)
                .detail(format!("the function has no revision {number}"))
                .hint("`mayfly revisions` lists them."),
            store::Error::RangeNotMet => Self::new(&table::BAD_CHANNEL)
                .detail("range: no revision of the function has a version in it")
                .hint("`mayfly revisions` lists them. Deploy one with such a version first."),
            store::Error::BackupRunning => Self::new(&table::BACKUP_RUNNING)
                .hint("Wait for its end, or end it by closing its connection."),
            store::Error::NoSpace => no_space(),
            store::Error::Quota { quota, max } => quota_reached(*quota, *max),
            store::Error::Busy => {
                Self::new(&table::STORE_BUSY).hint("Try again later.").retry_after(BUSY_S)
            }
            store::Error::Locked { .. }
            | store::Error::Exposed { .. }
            | store::Error::NewerSchema { .. }
            | store::Error::Io { .. }
            | store::Error::Database { .. }
            | store::Error::Inconsistent { .. } => Self::internal(error),
        }
    }
}

fn quota_reached(quota: Quota, max: u64) -> Problem {
    match quota {
        Quota::Functions => Problem::new(&table::FUNCTION_QUOTA)
            .detail(format!("the limit is {max} functions"))
            .hint("Delete a function. The operator can raise the setting `quotas.functions`."),
        Quota::ArtifactBytes => Problem::new(&table::STORAGE_QUOTA)
            .detail(format!(
                "the limit is {max} bytes; artifacts and files that no function uses are removed \
                 within a day"
            ))
            .hint("Delete functions. The operator can raise the setting `quotas.artifact_bytes`."),
        Quota::Certificates => Problem::new(&table::CERTIFICATE_QUOTA)
            .detail(format!("the limit is {max} certificates"))
            .hint("Delete one. The operator can raise the setting `quotas.certificates`."),
        Quota::Files => Problem::new(&table::FILES_QUOTA)
            .detail(format!(
                "the limit is {max} different files; files that no function uses are removed within \
                 a day"
            ))
            .hint("Delete functions. The operator can raise the setting `quotas.files`."),
        Quota::Channels => Problem::new(&table::CHANNEL_QUOTA)
            .detail(format!("the limit is {max} channels of one function"))
            .hint(
                "Delete a channel. The operator can raise the setting \
                 `quotas.channels_per_function`.",
            ),
        Quota::Routes => Problem::new(&table::ROUTE_QUOTA)
            .detail(format!("the limit is {max} routes"))
            .hint("Delete a route. The operator can raise the setting `quotas.routes`."),
        Quota::Schedules => Problem::new(&table::SCHEDULE_QUOTA)
            .detail(format!("the limit is {max} schedules"))
            .hint("Delete a schedule. The operator can raise the setting `quotas.schedules`."),
        Quota::Queues => Problem::new(&table::QUEUE_QUOTA)
            .detail(format!("the limit is {max} queues"))
            .hint("Delete a queue. The operator can raise the setting `quotas.queues`."),
        Quota::Flows => Problem::new(&table::FLOW_QUOTA)
            .detail(format!("the limit is {max} flows"))
            .hint("Delete a flow. The operator can raise the setting `quotas.flows`."),
        Quota::Stores => Problem::new(&table::STORE_QUOTA)
            .detail(format!("the limit is {max} stores"))
            .hint("Delete a store. The operator can raise the setting `quotas.stores`."),
        Quota::IdempotencyKeys => Problem::new(&table::IDEMPOTENCY_QUOTA)
            .detail(format!("the limit is {max} keys within a day"))
            .hint(
                "Send the upload without `idempotency-key`. The operator can raise the setting \
                 `quotas.idempotency_keys`.",
            )
            .retry_after(IDEMPOTENCY_S),
        Quota::QueuedCalls => Problem::new(&table::CALL_QUEUE_FULL)
            .detail(format!("at most {max} calls of one function wait"))
            .hint(
                "Send it again later, or without `prefer: respond-async`. The owner can raise the \
                 function's setting `queued`.",
            )
            .retry_after(QUEUE_FULL_S),
        Quota::Messages => Problem::new(&table::QUEUE_FULL)
            .detail(format!("at most {max} messages wait in one queue"))
            .hint("Publish it again later. The operator can raise the setting `queue.messages`.")
            .retry_after(QUEUE_FULL_S),
        Quota::FlowRuns => Problem::new(&table::FLOW_FULL)
            .detail(format!("at most {max} runs of one flow wait"))
            .hint("Start it again later. The operator can raise the setting `flows.runs`.")
            .retry_after(QUEUE_FULL_S),
        Quota::QueuedBytes => Problem::new(&table::CALL_QUEUE_BYTES)
            .detail(format!("the calls and messages that wait take at most {max} bytes"))
            .hint("Send it again later. The operator can raise the setting `queue.bytes`.")
            .retry_after(QUEUE_FULL_S),
    }
}

impl From<LoadError> for Problem {
    /// An artifact that is being deployed could not be loaded.
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Refused(refusal) => refusal.into(),
            LoadError::CompilerBusy => compiler_busy(&table::COMPILER_BUSY_AT_DEPLOY),
            LoadError::AsyncEngineOff => async_engine_off(&table::ASYNC_ENGINE_OFF_AT_DEPLOY),
            LoadError::NoSpace => no_space(),
            LoadError::CompileRate { per_minute, retry_after } => Self::new(&table::COMPILE_QUOTA)
                .detail(format!("the limit is {per_minute} compilations per minute"))
                .hint(
                    "Try again later. The operator can raise the setting \
                     `quotas.compiles_per_minute`.",
                )
                .retry_after(u32::try_from(retry_after.as_secs()).unwrap_or(u32::MAX).max(1)),
            LoadError::Damaged | LoadError::Missing => Self::artifact_damaged(),
            LoadError::FilesDamaged => Self::files_damaged(),
            LoadError::Io { .. } | LoadError::Engine { .. } => Self::internal(&error),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let problem_type = match &refusal {
            Refusal::NotWasm(_) | Refusal::Invalid(_) => &table::INVALID_WASM,
            Refusal::NoEntryPoint(_) => &table::NO_ENTRY_POINT,
            Refusal::UnknownImports(_) => &table::UNKNOWN_IMPORTS,
            Refusal::TooLarge(_) => &table::ARTIFACT_LIMIT,
            Refusal::CompileLimit(_) => &table::COMPILE_LIMIT,
            Refusal::Isolation(_) => &table::ISOLATION_NOT_SUPPORTED,
            Refusal::StartUp(_) => &table::SNAPSHOT_FAILED,
            Refusal::Start(_) => &table::START_FAILED_AT_DEPLOY,
        };
        Self::new(problem_type).detail(refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_of_an_invocation_has_the_fault_of_its_error() {
        let second = Duration::from_secs(1);
        let failed =
            |limit: Option<Limit>| InvokeError::Failed { detail: "a trap".to_owned(), limit };
        let mut errors = vec![
            InvokeError::Concurrency,
            InvokeError::Queue,
            InvokeError::Instances,
            InvokeError::NodeMemory,
            InvokeError::Cpu(second),
            InvokeError::Timeout(second),
            InvokeError::BufferedBody(1),
            InvokeError::Buffers,
            InvokeError::NoSpace,
            InvokeError::NoResponse("none".to_owned()),
            InvokeError::Request("no host".to_owned()),
            InvokeError::Start("no memory".to_owned()),
            failed(None),
        ];
        errors.extend(Limit::ALL.map(Some).map(failed));
        errors.extend(Limit::ALL.map(InvokeError::ResponseLimit));
        for error in errors {
            let (fault, text) = (error.fault(), error.to_string());
            assert_eq!(Problem::from(error).fault, fault, "{text}");
        }
    }
}
