//! Errors as the caller sees them: RFC 9457 problem details.
//!
//! This is the only file that knows which status and which type an error has. What went wrong
//! inside is logged here, once, and never sent; a trap's details go to its owner's log.

use std::error::Error as StdError;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use runtime_pool::{Fault, InvokeError, LoadError, Refusal};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::{body::EdgeBody, deploy, function_name::NotAName, invoker, refusals::id_text};

/// Names the request or invocation in logs and answers.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("mayfly-request-id");
/// Says who speaks: `function`, or, in a problem, whose fault it was.
pub(crate) const OUTCOME: HeaderName = HeaderName::from_static("mayfly-outcome");

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// What a caller is told when something was refused or has failed (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Stable, documented, and what clients match on: `urn:mayfly:problem:…`.
    #[serde(rename = "type", serialize_with = "urn")]
    #[schema(value_type = String, example = "urn:mayfly:problem:function-not-found")]
    slug: &'static str,
    /// The same for every problem of this type.
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 404)]
    status: u16,
    /// What happened this time.
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// What to do about it, often the setting that would allow it.
    #[serde(skip_serializing_if = "String::is_empty")]
    hint: String,
    /// Names the request in logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// Where on its way the request ended.
    phase: Phase,
    /// Who must act: `caller`, `function` or `platform`.
    #[serde(serialize_with = "fault_text")]
    #[schema(value_type = String, example = "caller")]
    fault: Fault,
    /// Seconds after which it may work.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u32>,
}

/// Where on its way a request ended.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Reading the request.
    Request,
    /// Finding the function.
    Route,
    /// Waiting for a slot or an instance.
    Admit,
    /// Making the function resident.
    Load,
    /// Running the guest.
    Guest,
    /// Checking who asks.
    Authenticate,
    /// Taking an upload.
    Upload,
    /// Reading, compiling and trying an artifact.
    Compile,
    /// Reading or writing what is stored.
    Store,
}

fn fault_name(fault: Fault) -> &'static str {
    match fault {
        Fault::Caller => "caller",
        Fault::Function => "function",
        Fault::Platform => "platform",
    }
}

fn fault_text<S: Serializer>(fault: &Fault, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(fault_name(*fault))
}

fn urn<S: Serializer>(slug: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("urn:mayfly:problem:{slug}"))
}

impl Problem {
    fn new(status: StatusCode, phase: Phase, slug: &'static str, title: &'static str) -> Self {
        let fault = if status.is_client_error() { Fault::Caller } else { Fault::Platform };
        Self {
            slug,
            title,
            status: status.as_u16(),
            detail: String::new(),
            hint: String::new(),
            request_id: None,
            phase,
            fault,
            retry_after_s: None,
        }
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    fn fault(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Adds the invocation's name.
    pub(crate) fn for_invocation(self, invocation: u128) -> Self {
        let text = id_text(invocation);
        self.for_request(String::from_utf8_lossy(&text).into_owned())
    }

    /// Adds the request's name.
    pub(crate) fn for_request(mut self, id: String) -> Self {
        self.request_id = Some(id);
        self
    }

    // What is wrong with a request.

    pub(crate) fn bad_host() -> Self {
        Self::new(StatusCode::BAD_REQUEST, Phase::Request, "bad-host", "The host is not clear")
            .detail("a request must name exactly one host, and the same one everywhere")
    }

    pub(crate) fn bad_target() -> Self {
        let title = "The request's target is not valid";
        Self::new(StatusCode::BAD_REQUEST, Phase::Request, "bad-target", title)
    }

    pub(crate) fn target_too_long(max: usize) -> Self {
        let title = "The request's target is too long";
        Self::new(StatusCode::URI_TOO_LONG, Phase::Request, "target-too-long", title)
            .detail(format!("at most {max} bytes are allowed"))
            .hint("the operator's setting server.uri_bytes")
    }

    pub(crate) fn bad_query(detail: String) -> Self {
        let title = "The query cannot be read";
        Self::new(StatusCode::BAD_REQUEST, Phase::Request, "bad-query", title).detail(detail)
    }

    pub(crate) fn bad_json(error: &serde_json::Error) -> Self {
        let title = "The body is not the JSON that is expected here";
        Self::new(StatusCode::BAD_REQUEST, Phase::Request, "bad-json", title)
            .detail(error.to_string())
    }

    pub(crate) fn bad_body(error: impl StdError) -> Self {
        let title = "The body could not be read";
        Self::new(StatusCode::BAD_REQUEST, Phase::Request, "bad-body", title).detail(chain(&error))
    }

    pub(crate) fn bad_name(error: NotAName) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Phase::Request, "bad-name", "Not a function's name")
            .detail(error.to_string())
    }

    pub(crate) fn request_too_large(max: u64) -> Self {
        let title = "The request's body is too large";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Phase::Request, "request-too-large", title)
            .detail(format!("at most {max} bytes are allowed"))
            .hint("the operator's setting limits.request_bytes")
    }

    pub(crate) fn document_too_large(max: usize) -> Self {
        let title = "The body is too large";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Phase::Request, "document-too-large", title)
            .detail(format!("at most {max} bytes are allowed"))
    }

    pub(crate) fn method_not_allowed() -> Self {
        let title = "This resource does not know the method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, Phase::Route, "method-not-allowed", title)
    }

    pub(crate) fn no_resource() -> Self {
        Self::new(StatusCode::NOT_FOUND, Phase::Route, "no-resource", "There is no such resource")
            .hint("GET /openapi.json lists what there is")
    }

    // Finding a function.

    pub(crate) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, Phase::Route, "no-route", "The address names no function")
            .hint("call /f/{name}/ on any host, or the host {name}.localhost")
    }

    pub(crate) fn function_not_found(name: &str) -> Self {
        let title = "There is no such function";
        Self::new(StatusCode::NOT_FOUND, Phase::Route, "function-not-found", title)
            .detail(format!("no function is called {name:?}"))
            .hint(format!("deploy one: mayfly deploy FILE --name {name}"))
    }

    pub(crate) fn revision_not_found(name: &str, revision: u32) -> Self {
        let title = "There is no such revision";
        Self::new(StatusCode::NOT_FOUND, Phase::Route, "revision-not-found", title)
            .detail(format!("the function {name:?} has no revision {revision}"))
    }

    // Being full.

    pub(crate) fn overloaded() -> Self {
        let title = "The gateway has as many requests as it may";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Phase::Admit, "overloaded", title)
            .hint("the operator's setting server.in_flight")
            .retry_after(1)
    }

    pub(crate) fn control_plane_overloaded() -> Self {
        let title = "The control plane has as many requests as it may";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Phase::Admit, "control-overloaded", title)
            .retry_after(1)
    }

    // Who asks.

    pub(crate) fn unauthorized(detail: &str) -> Self {
        let title = "A valid token is needed";
        Self::new(StatusCode::UNAUTHORIZED, Phase::Authenticate, "unauthorized", title)
            .detail(detail)
            .hint(
                "send `Authorization: Bearer <token>`; the first one is in admin.token in the \
                   gateway's data directory",
            )
    }

    pub(crate) fn forbidden(scope: &str) -> Self {
        let title = "The token does not allow this";
        Self::new(StatusCode::FORBIDDEN, Phase::Authenticate, "forbidden", title)
            .detail(format!("the scope {scope:?} is needed"))
            .hint("an administrator can create one: mayfly token create")
    }

    pub(crate) fn token_in_query() -> Self {
        let title = "A token must not be part of an address";
        Self::new(StatusCode::BAD_REQUEST, Phase::Authenticate, "token-in-query", title)
            .hint("addresses end up in logs: send it in the authorization header, and revoke it")
    }

    pub(crate) fn token_not_found(id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, Phase::Route, "token-not-found", "There is no such token")
            .detail(format!("no token has the id {id:?}"))
    }

    pub(crate) fn unknown_scope(scope: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Phase::Request, "unknown-scope", "Not a scope")
            .detail(format!("{scope:?} is none of admin, deploy, read"))
    }

    // Inside.

    /// Logs `error` with its causes and hides it.
    pub(crate) fn internal(error: &dyn StdError) -> Self {
        tracing::error!(error = chain(error), "internal error");
        Self::broken()
    }

    /// Something that was logged already, such as a panic.
    pub(crate) fn broken() -> Self {
        let title = "Something broke on our side";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Phase::Request, "internal", title)
            .hint("the gateway's log says more; look for the request id")
    }

    fn headers(&self, headers: &mut http::HeaderMap) {
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        headers.insert(OUTCOME, HeaderValue::from_static(fault_name(self.fault)));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn body(&self) -> Bytes {
        let mut body = serde_json::to_vec(self).unwrap_or_default();
        body.push(b'\n');
        body.into()
    }

    /// The last part of its type.
    pub(crate) fn slug(&self) -> &'static str {
        self.slug
    }

    /// The answer on the data plane.
    pub(crate) fn into_edge_response(self) -> http::Response<EdgeBody> {
        let mut response = http::Response::new(EdgeBody::from(self.body()));
        *response.status_mut() = self.status();
        self.headers(response.headers_mut());
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(axum::body::Body::from(self.body()));
        *response.status_mut() = self.status();
        self.headers(response.headers_mut());
        // The request's name is added on the way out.
        response.extensions_mut().insert(self);
        response
    }
}

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
            LoadError::Refused(_)
            | LoadError::Damaged
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
            .hint("the function's settings concurrency and queue")
            .retry_after(1),
            InvokeError::Instances => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                Phase::Admit,
                "instance-limit",
                "The node has as many instances as it may",
            )
            .hint("the operator's setting pool.instances")
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
            InvokeError::Failed { out_of_memory: true, .. } => guest(
                StatusCode::BAD_GATEWAY,
                "memory-limit",
                "The function failed after it was refused memory",
            )
            .hint("the function's setting memory_bytes"),
            InvokeError::Failed { .. } => {
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

impl From<deploy::Error> for Problem {
    fn from(error: deploy::Error) -> Self {
        let upload =
            |status, slug: &'static str, title| Self::new(status, Phase::Upload, slug, title);
        match error {
            deploy::Error::Store(error) => error.into(),
            deploy::Error::Load(error) => error.into(),
            deploy::Error::Body(error) => Self::bad_body(error),
            deploy::Error::Interrupted(error) => Self::internal(&error),
            deploy::Error::ContentType => upload(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "The upload is not sent as wasm",
            )
            .hint("send the bytes as they are, with `content-type: application/wasm`"),
            deploy::Error::ContentEncoding => upload(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-content-encoding",
                "Compressed uploads are not supported",
            )
            .hint("send the bytes as they are, without content-encoding"),
            deploy::Error::BadDigest => upload(
                StatusCode::BAD_REQUEST,
                "bad-digest",
                "The digest that was sent cannot be read",
            )
            .hint("send `repr-digest: sha-256=:<base64>:` (RFC 9530)"),
            deploy::Error::DigestMismatch { sent, found } => upload(
                StatusCode::UNPROCESSABLE_ENTITY,
                "digest-mismatch",
                "The bytes are not those whose digest was sent",
            )
            .detail(format!("repr-digest says {sent}, the bytes have {found}")),
            deploy::Error::Settings(detail) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                Phase::Request,
                "bad-settings",
                "The settings are not valid",
            )
            .detail(detail),
        }
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
            LoadError::Damaged | LoadError::Io { .. } | LoadError::Engine { .. } => {
                Self::internal(&error)
            }
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
            Refusal::Start(_) => ("start-failed", "No instance can be made of it"),
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, Phase::Compile, slug, title)
            .detail(refusal.to_string())
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn StdError) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
