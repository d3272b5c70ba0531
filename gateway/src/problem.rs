//! Errors as the caller sees them: RFC 9457 problem details.
//!
//! This is the only module that knows which status and which type an error has: here for what the
//! gateway itself refuses, in `from_errors` for what the layers below report. What went wrong
//! inside is logged here, once, and never sent; a trap's details go to its owner's log.

mod from_errors;

use std::{error::Error as StdError, time::Duration};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use runtime_pool::Fault;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::{
    edge::rejections::{INVOCATION_BITS, id_text},
    functions::name::NotAName,
    request::limited_body::{BodyFault, EdgeBody},
    server::Refused,
};

/// Names the request or invocation in logs and answers.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("mayfly-request-id");
/// Says who speaks: `function`, or, in a problem, whose fault it was.
pub(crate) const OUTCOME: HeaderName = HeaderName::from_static("mayfly-outcome");

/// By how many seconds at most callers are told to come again later than others.
const RETRY_SPREAD_S: u128 = 3;

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
    /// Whether nothing more is read from this client's connection.
    #[serde(skip)]
    closes: bool,
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
            closes: false,
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

    fn closes(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Adds the invocation's name.
    pub(crate) fn for_invocation(mut self, invocation: u128) -> Self {
        // Those that were refused together should not come again together.
        let apart = (invocation ^ (invocation >> INVOCATION_BITS)) % RETRY_SPREAD_S;
        self.retry_after_s = self.retry_after_s.map(|seconds| seconds + apart as u32);
        let text = id_text(invocation);
        self.for_request(String::from_utf8_lossy(&text).into_owned())
    }

    /// Adds the request's name.
    pub(crate) fn for_request(mut self, id: String) -> Self {
        self.request_id = Some(id);
        self
    }

    // What is wrong with a request.

    /// What the strict layer does not let through.
    pub(crate) fn refused(refused: Refused) -> Self {
        let new = |status, slug, title| Self::new(status, Phase::Request, slug, title).closes();
        match refused {
            Refused::Malformed(detail) => {
                let title = "The request can be read in more than one way, or in none";
                new(StatusCode::BAD_REQUEST, "malformed-request", title).detail(detail)
            }
            Refused::Version => {
                let title = "This version of HTTP is not spoken here";
                new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "version-not-supported", title)
                    .fault(Fault::Caller)
                    .hint("HTTP/1.0, HTTP/1.1 and HTTP/2 are")
            }
            Refused::Method => {
                let title = "This method is not supported for anything";
                new(StatusCode::NOT_IMPLEMENTED, "method-not-supported", title)
                    .fault(Fault::Caller)
                    .detail("neither CONNECT nor TRACE is")
            }
            Refused::Fields(max) => {
                let title = "The request has too many header fields";
                new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too-many-headers", title)
                    .detail(format!("at most {max} are allowed"))
                    .hint("the operator's setting server.headers")
            }
            Refused::HeadBytes(max) => {
                let title = "The request's head is too long";
                new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", title)
                    .detail(format!("at most {max} bytes are allowed"))
                    .hint("the operator's setting server.header_bytes")
            }
            Refused::TargetBytes(max) => {
                let title = "The request's target is too long";
                new(StatusCode::URI_TOO_LONG, "target-too-long", title)
                    .detail(format!("at most {max} bytes are allowed"))
                    .hint("the operator's setting server.uri_bytes")
            }
        }
    }

    pub(crate) fn bad_host(detail: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Phase::Request, "bad-host", "The host is not clear")
            .detail(detail)
            .hint("a request must name exactly one host, and the same one everywhere")
            .closes()
    }

    pub(crate) fn expectation_failed() -> Self {
        let title = "Nobody here meets this expectation";
        Self::new(StatusCode::EXPECTATION_FAILED, Phase::Request, "expectation-failed", title)
            .detail("only 100-continue is known")
    }

    pub(crate) fn bad_target() -> Self {
        let title = "The request's target is not valid";
        Self::new(StatusCode::BAD_REQUEST, Phase::Request, "bad-target", title)
    }

    pub(crate) fn unclear_target(detail: &str) -> Self {
        Self::bad_target().detail(detail)
    }

    /// What is wrong with the body that a client sent.
    pub(crate) fn troubled(trouble: BodyFault) -> Self {
        match trouble {
            BodyFault::TooLarge(max) => Self::request_too_large(max).closes(),
            BodyFault::TooSlow(bytes_per_s) => {
                let title = "The request's body came too slowly";
                Self::new(StatusCode::REQUEST_TIMEOUT, Phase::Request, "request-too-slow", title)
                    .detail(format!("at least {bytes_per_s} bytes a second are expected"))
                    .hint("the operator's settings server.body_rate_bytes and server.body_grace_ms")
                    .closes()
            }
            BodyFault::Broken => {
                let title = "The body could not be read";
                Self::new(StatusCode::BAD_REQUEST, Phase::Request, "bad-body", title)
                    .detail("it does not end as the request's head says")
                    .closes()
            }
        }
    }

    pub(crate) fn loop_detected(max: usize) -> Self {
        let title = "The request has come in a circle";
        Self::new(StatusCode::LOOP_DETECTED, Phase::Request, "loop-detected", title)
            .fault(Fault::Function)
            .detail(format!("it has come through {max} gateways; that many are allowed"))
            .hint("functions that call each other; or the operator's setting server.hops")
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
            .hint("the function's setting request_bytes")
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

    pub(crate) fn too_far_behind() -> Self {
        let title = "The gateway's processors are busy";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Phase::Admit, "too-far-behind", title)
            .detail("requests would wait too long until a thread looks at them")
            .hint("the operator's setting server.max_lag_ms")
            .retry_after(1)
    }

    pub(crate) fn memory_pressure() -> Self {
        let title = "The gateway's memory is as good as used up";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Phase::Admit, "memory-pressure", title)
            .hint("the operator's setting server.memory_bytes, or the control group's limit")
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

    pub(crate) fn too_many_attempts(wait: Duration) -> Self {
        let title = "Too many tokens from this address were not valid";
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::new(status, Phase::Authenticate, "too-many-attempts", title)
            .detail("tokens that were valid from here lately go on to work; others must wait")
            .hint("the operator's setting server.auth_failures_per_minute")
            .retry_after(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1))
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

    pub(crate) fn secret_not_found(name: &str) -> Self {
        let title = "There is no such secret";
        Self::new(StatusCode::NOT_FOUND, Phase::Route, "secret-not-found", title)
            .detail(format!("no secret is called {name:?}"))
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
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
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
