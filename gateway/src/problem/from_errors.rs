//! Which problem each error of the layers below is.
//!
//! No `_` in these matches: a new variant does not compile until somebody has chosen its status.

use http::StatusCode;
use runtime_pool::{InvokeError, Limit, LoadError, Refusal};
use store::Quota;

use super::{Phase, Problem, chain};
use crate::{
    control::{preconditions::entity_tag, upload::UploadHeadError},
    functions::{deploy::error::DeployError, secrets},
    invoker,
};

impl From<invoker::Error> for Problem {
    fn from(error: invoker::Error) -> Self {
        match error {
            invoker::Error::Load(error) => Self::load(&error),
            invoker::Error::Invoke(error) => error.into(),
        }
    }
}

impl Problem {
    /// A function that was published does not load any more.
    fn load(error: &LoadError) -> Self {
        match error {
            LoadError::CompilerBusy => Self::compiler_busy(Phase::Load),
            LoadError::AsyncEngineOff => {
                Self::async_engine_off(StatusCode::SERVICE_UNAVAILABLE, Phase::Load)
            }
            LoadError::NoSpace => Self::no_space(),
            LoadError::Damaged => Self::artifact_damaged(),
            LoadError::Missing => {
                tracing::error!("the artifact of a published revision is not there");
                Self::artifact_damaged()
            }
            LoadError::Refused(_)
            // Only deploys are held to it.
            | LoadError::CompileRate { .. }
            | LoadError::Io { .. }
            | LoadError::Engine { .. } => {
                tracing::error!(error = chain(error), "a published function does not load");
                let title = "The function could not be loaded";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, Phase::Load, "load-failed", title)
            }
        }
    }

    fn no_space() -> Self {
        tracing::error!("no space left in the data directory");
        let title = "There is no space left";
        Self::new(StatusCode::INSUFFICIENT_STORAGE, Phase::Store, "no-space", title)
    }

    /// Whoever put the artifact aside has logged it.
    pub(crate) fn artifact_damaged() -> Self {
        let title = "The function's artifact is damaged or missing";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Phase::Load, "artifact-damaged", title)
            .hint("deploy the same bytes again, which mends it")
    }

    fn compiler_busy(phase: Phase) -> Self {
        let title = "Too many compilations are waiting";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, phase, "compiler-busy", title)
            .hint("the operator's settings compile.jobs and compile.queue")
            .retry_after(5)
    }

    fn async_engine_off(status: StatusCode, phase: Phase) -> Self {
        let title = "This node does not run WASI 0.3 components";
        Self::new(status, phase, "async-engine-off", title)
            .hint("the operator's setting pool.async_engine")
    }
}

impl From<InvokeError> for Problem {
    fn from(error: InvokeError) -> Self {
        let guest = |status, slug: &'static str, title| {
            Self::new(status, Phase::Guest, slug, title).fault(error.fault())
        };
        match &error {
            InvokeError::Concurrency => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                Phase::Admit,
                "concurrency-limit",
                "The function has as many invocations as it may",
            )
            .fault(error.fault())
            .hint("the function's settings concurrency, queue and queue_wait_ms")
            .retry_after(1),
            InvokeError::Queue => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                Phase::Admit,
                "queue-limit",
                "As many invocations wait on the node as may",
            )
            .detail("a function may have as many of them as it leaves to others")
            .hint("the operator's setting pool.queue")
            .retry_after(1),
            InvokeError::Instances => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                Phase::Admit,
                "instance-limit",
                "The node has as many instances as it may",
            )
            .hint("the operator's setting pool.instances")
            .retry_after(1),
            InvokeError::NodeMemory => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                Phase::Admit,
                "node-memory",
                "The node's instances have as much memory as they may",
            )
            .hint("the operator's setting pool.memory_bytes")
            .retry_after(1),
            InvokeError::Cpu(limit) => {
                guest(StatusCode::GATEWAY_TIMEOUT, "cpu-limit", "The function used up its CPU time")
                    .detail(format!("an invocation may use {} ms", limit.as_millis()))
                    .hint("the function's setting cpu_ms")
            }
            InvokeError::Timeout(limit) => {
                guest(StatusCode::GATEWAY_TIMEOUT, "timeout", "The function took too long")
                    .detail(format!("an invocation may take {} ms", limit.as_millis()))
                    .hint("the function's setting timeout_ms")
            }
            InvokeError::Failed { limit: Some(limit), .. } | InvokeError::ResponseLimit(limit) => {
                let (slug, title, hint) = broken_limit(*limit);
                guest(StatusCode::BAD_GATEWAY, slug, title).hint(hint)
            }
            InvokeError::Failed { limit: None, .. } => {
                guest(StatusCode::BAD_GATEWAY, "function-failed", "The function failed")
                    .hint("its owner finds the reason in the function's log")
            }
            InvokeError::NoResponse(_) => {
                guest(StatusCode::BAD_GATEWAY, "no-response", "The function gave no valid response")
                    .hint("its owner finds the reason in the function's log")
            }
            InvokeError::Request(_) => Self::bad_target(),
            InvokeError::Start(_) => {
                tracing::error!(error = chain(&error), "an instance could not be made");
                let title = "The function could not be started";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, Phase::Guest, "start-failed", title)
            }
        }
    }
}

/// The problem of a guest that failed by a limit, and the setting that would allow more.
fn broken_limit(limit: Limit) -> (&'static str, &'static str, &'static str) {
    match limit {
        Limit::Memory => (
            "memory-limit",
            "The function failed after it was refused memory",
            "the function's setting memory_bytes",
        ),
        Limit::Stack => (
            "stack-overflow",
            "The function needs more stack than it may have",
            "the operator's setting guests.stack_bytes",
        ),
        Limit::HostResources | Limit::ComponentHandles => (
            "resource-limit",
            "The function holds more open at once than it may",
            "the operator's settings guests.host_resources and guests.component_handles",
        ),
        Limit::HostcallBytes | Limit::RandomBytes => (
            "hostcall-limit",
            "The function asked for more with one call than it may",
            "the operator's settings guests.hostcall_bytes, guests.preview1_hostcall_bytes and \
             guests.random_bytes",
        ),
        Limit::FieldBytes => (
            "header-limit",
            "The function made more header fields than it may",
            "the operator's setting guests.field_bytes",
        ),
        Limit::ResponseBytes => (
            "response-too-large",
            "The function's response is too large",
            "the function's setting response_bytes",
        ),
        Limit::EmptyWrites => (
            "empty-writes",
            "The function wrote nothing again and again",
            "the operator's setting guests.empty_writes",
        ),
        Limit::NodeMemory
        | Limit::Cpu
        | Limit::Timeout
        | Limit::LogBytes
        | Limit::LogRate
        | Limit::Concurrency
        | Limit::Instances
        | Limit::TableElements
        | Limit::Queue
        | Limit::OutboundRequests
        | Limit::OutboundAtOnce
        | Limit::OutboundTime
        | Limit::OutboundResponseHead
        | Limit::OutboundResponseBytes
        | Limit::AfterResponse => (
            "function-failed",
            "The function failed",
            "its owner finds the reason in the function's log",
        ),
    }
}

impl Problem {
    fn quota(quota: Quota, max: u64) -> Self {
        let new = |status, slug: &'static str, title| Self::new(status, Phase::Store, slug, title);
        match quota {
            Quota::Functions => new(
                StatusCode::CONFLICT,
                "function-quota",
                "The node has as many functions as it may",
            )
            .detail(format!("at most {max} are allowed"))
            .hint("delete one, or raise the operator's setting quotas.functions"),
            Quota::ArtifactBytes => new(
                StatusCode::CONFLICT,
                "storage-quota",
                "The node keeps as many bytes of artifacts as it may",
            )
            .detail(format!(
                "at most {max} bytes are allowed; artifacts that no function needs go within a day"
            ))
            .hint("delete functions, or raise the operator's setting quotas.artifact_bytes"),
            Quota::IdempotencyKeys => new(
                StatusCode::TOO_MANY_REQUESTS,
                "idempotency-quota",
                "The node remembers as many answered uploads as it may",
            )
            .detail(format!("at most {max} within a day"))
            .hint(
                "send it without idempotency-key, or raise the operator's setting \
                 quotas.idempotency_keys",
            )
            .retry_after(600),
        }
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        let new = |status, slug: &'static str, title| Self::new(status, Phase::Store, slug, title);
        match &error {
            store::Error::Conflict => {
                new(StatusCode::CONFLICT, "conflict", "Somebody else changed this at the same time")
                    .hint("read it again, then repeat the change")
            }
            store::Error::TooLarge { max_bytes } => new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "artifact-too-large",
                "The artifact is too large",
            )
            .detail(format!("at most {max_bytes} bytes are allowed"))
            .hint("the operator's setting uploads.artifact_bytes"),
            store::Error::NoSpace => Self::no_space(),
            store::Error::Quota { quota, max } => Self::quota(*quota, *max),
            store::Error::Busy => {
                new(StatusCode::SERVICE_UNAVAILABLE, "store-busy", "The database is busy")
                    .retry_after(5)
            }
            store::Error::Locked { .. }
            | store::Error::NewerSchema { .. }
            | store::Error::Io { .. }
            | store::Error::Database { .. }
            | store::Error::Inconsistent { .. } => Self::internal(&error),
        }
    }
}

impl From<secrets::Error> for Problem {
    fn from(error: secrets::Error) -> Self {
        match error {
            secrets::Error::Refused(detail) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                Phase::Request,
                "bad-secret",
                "The secret is not valid",
            )
            .detail(detail),
            secrets::Error::Store(error) => error.into(),
        }
    }
}

impl From<UploadHeadError> for Problem {
    fn from(error: UploadHeadError) -> Self {
        let upload =
            |status, slug: &'static str, title| Self::new(status, Phase::Upload, slug, title);
        match error {
            UploadHeadError::ContentType => upload(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "The upload is not sent as wasm",
            )
            .hint("send the bytes as they are, with `content-type: application/wasm`"),
            UploadHeadError::ContentEncoding => upload(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-content-encoding",
                "Compressed uploads are not supported",
            )
            .hint("send the bytes as they are, without content-encoding"),
            UploadHeadError::Digest => upload(
                StatusCode::BAD_REQUEST,
                "bad-digest",
                "The digest that was sent cannot be read",
            )
            .hint("send `repr-digest: sha-256=:<base64>:` (RFC 9530)"),
            UploadHeadError::IdempotencyKey => upload(
                StatusCode::BAD_REQUEST,
                "bad-idempotency-key",
                "The idempotency key cannot be used",
            )
            .detail("idempotency-key must have 1 to 255 visible ASCII characters"),
            UploadHeadError::Settings(_) => Self::bad_settings(error.to_string()),
        }
    }
}

impl From<DeployError> for Problem {
    fn from(error: DeployError) -> Self {
        let upload =
            |status, slug: &'static str, title| Self::new(status, Phase::Upload, slug, title);
        match error {
            DeployError::Store(error) => error.into(),
            DeployError::Load(error) => error.into(),
            DeployError::Receive(error) => Self::bad_body(&*error),
            DeployError::Interrupted(error) => Self::internal(&error),
            DeployError::DigestMismatch { announced, received } => upload(
                StatusCode::UNPROCESSABLE_ENTITY,
                "digest-mismatch",
                "The bytes are not those whose digest was sent",
            )
            .detail(format!("repr-digest says {announced}, the bytes have {received}")),
            DeployError::Precondition { current } => Self::new(
                StatusCode::PRECONDITION_FAILED,
                Phase::Request,
                "precondition-failed",
                "The function is not in the state that the change is meant for",
            )
            .detail(match current.map(entity_tag) {
                Some(tag) => format!("its etag is {tag}"),
                None => "there is no such function".to_owned(),
            })
            .hint("read it again: its etag is what if-match must name"),
            DeployError::IdempotencyKeyReused => upload(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The idempotency key was that of another upload",
            )
            .hint("give each upload a key of its own, and only a repetition the same"),
            DeployError::Settings(detail) => Self::bad_settings(detail),
        }
    }
}

impl Problem {
    fn bad_settings(detail: String) -> Self {
        let title = "The settings are not valid";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, Phase::Request, "bad-settings", title)
            .detail(detail)
    }
}

impl From<LoadError> for Problem {
    /// An artifact that is being deployed does not become a function.
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Refused(refusal) => refusal.into(),
            LoadError::CompilerBusy => Self::compiler_busy(Phase::Compile),
            LoadError::AsyncEngineOff => {
                Self::async_engine_off(StatusCode::UNPROCESSABLE_ENTITY, Phase::Compile)
            }
            LoadError::NoSpace => Self::no_space(),
            LoadError::CompileRate { per_minute, retry_after } => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                Phase::Compile,
                "compile-quota",
                "Deploys have begun as many compilations as they may",
            )
            .detail(format!("at most {per_minute} within a minute"))
            .hint("the operator's setting quotas.compiles_per_minute")
            .retry_after(u32::try_from(retry_after.as_secs()).unwrap_or(u32::MAX).max(1)),
            LoadError::Damaged | LoadError::Missing => Self::artifact_damaged(),
            LoadError::Io { .. } | LoadError::Engine { .. } => Self::internal(&error),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (slug, title) = match &refusal {
            Refusal::NotWasm(_) => ("invalid-wasm", "The upload is not a wasm binary"),
            Refusal::Invalid(_) => ("invalid-wasm", "The wasm binary is not valid here"),
            Refusal::NoEntryPoint(_) => ("no-entry-point", "There is nothing in it to call"),
            Refusal::UnknownImports(_) => ("unknown-imports", "It imports what nobody provides"),
            Refusal::TooLarge(_) => ("artifact-limit", "The artifact breaks a limit"),
            Refusal::CompileLimit(_) => ("compile-limit", "Compiling it breaks a limit"),
            Refusal::Isolation(_) => ("isolation", "It cannot be isolated as its settings ask"),
            Refusal::StartUp(_) => ("snapshot-failed", "No snapshot can be taken of it"),
            Refusal::Start(_) => ("start-failed", "No instance can be made of it"),
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, Phase::Compile, slug, title)
            .detail(refusal.to_string())
    }
}
