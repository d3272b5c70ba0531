//! Errors as callers see them: RFC 9457 problem details.
//!
//! `table` holds each type of problem: slug, status, title, phase and fault. [`Problem::new`] is
//! the one way to make one. `from_errors` decides which problem an error of the pool or the store
//! is; each room of the gateway decides for its own errors (`edge/problems.rs`,
//! `control/problems.rs`, `request/validate.rs`). Internal causes are logged once, where the
//! problem is made, and never sent; the details of a trap go to the function's log.

mod from_errors;
mod hints;
pub(crate) mod table;

use std::error::Error as StdError;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use gateway_api::{FaultWord, MistakeView};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use runtime_pool::Fault;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use self::table::{ProblemType, RequestPhase};
use crate::telemetry::request_id::id_string;

pub(crate) use self::hints::{function_setting, operator_setting};

/// The header with the id of a request or invocation, which logs name, too.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("mayfly-request-id");
/// The header that says who answers: `function`, or, with a problem, whose fault it is.
pub(crate) const OUTCOME: HeaderName = HeaderName::from_static("mayfly-outcome");

/// The header that says in which step of a flow a request ended.
pub(crate) const FLOW_STEP: HeaderName = HeaderName::from_static("mayfly-flow-step");

/// `retry-after` is spread over so many seconds, so that callers who were rejected together do not
/// return together.
const RETRY_SPREAD_S: u128 = 3;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Why a request was rejected or failed (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The type, `urn:mayfly:problem:…`. Stable: programs should match on it.
    #[serde(rename = "type", serialize_with = "urn")]
    #[schema(
        value_type = String,
        pattern = "^urn:mayfly:problem:[a-z0-9-]+$",
        example = "urn:mayfly:problem:function-not-found"
    )]
    slug: &'static str,
    /// A description of the problem, in the same words for every problem of this type.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599, example = 404)]
    status: u16,
    /// The details of this occurrence.
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// A way to solve it, often the setting to change.
    #[serde(skip_serializing_if = "str::is_empty")]
    #[schema(value_type = String)]
    hint: Box<str>,
    /// The id of the request, which logs name, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    request_id: Option<Box<str>>,
    /// Where on its way the request ended.
    phase: RequestPhase,
    /// Who must act: `caller`, `function` or `platform`.
    #[serde(serialize_with = "fault_text")]
    #[schema(value_type = FaultWord, example = "caller")]
    fault: Fault,
    /// Seconds after which the same request may succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u32>,
    /// What is wrong with a manifest, and where.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<MistakeView>>)]
    mistakes: Option<Box<Mistakes>>,
    /// Whether the connection ends with this response.
    #[serde(skip)]
    closes: bool,
    /// More header fields of the response.
    #[serde(skip)]
    fields: Option<Box<HeaderMap>>,
}

/// What is wrong with a manifest. Boxed, so that the other problems stay small.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
struct Mistakes(Vec<MistakeView>);

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
    /// A problem of this type, without details.
    pub(crate) fn new(problem_type: &'static ProblemType) -> Self {
        Self {
            slug: problem_type.slug,
            title: problem_type.title,
            status: problem_type.status,
            detail: String::new(),
            hint: "".into(),
            request_id: None,
            phase: problem_type.phase,
            fault: problem_type.fault,
            retry_after_s: None,
            mistakes: None,
            closes: false,
            fields: None,
        }
    }

    /// Says what happened this time.
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Says what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        let hint: String = hint.into();
        self.hint = hint.into();
        self
    }

    /// Says when the same request may succeed.
    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Says what is wrong with a manifest, and where.
    pub(crate) fn mistakes(mut self, mistakes: Vec<MistakeView>) -> Self {
        self.mistakes = Some(Box::new(Mistakes(mistakes)));
        self
    }

    /// Says what happened this time, for a place in a manifest.
    pub(crate) fn at(self, path: String) -> Self {
        let detail = if self.detail.is_empty() { self.title } else { &self.detail };
        let mistake = MistakeView { path, detail: detail.to_owned() };
        self.mistakes(vec![mistake])
    }

    /// Makes this the last response on its connection.
    pub(crate) fn closes(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Adds a header field to the response.
    pub(crate) fn field(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields.get_or_insert_default().insert(name, value);
        self
    }

    /// Adds a way in which a caller may say who it is. There may be several.
    pub(crate) fn challenge(mut self, challenge: HeaderValue) -> Self {
        self.fields.get_or_insert_default().append(header::WWW_AUTHENTICATE, challenge);
        self
    }

    /// Adds the id of the invocation.
    pub(crate) fn for_invocation(mut self, invocation: u128) -> Self {
        let apart = invocation % RETRY_SPREAD_S;
        self.retry_after_s = self.retry_after_s.map(|seconds| seconds + apart as u32);
        self.for_request(id_string(invocation))
    }

    /// Adds the id of the request.
    pub(crate) fn for_request(mut self, id: String) -> Self {
        self.request_id = Some(id.into());
        self
    }

    // Problems that several rooms report.

    pub(crate) fn bad_target() -> Self {
        Self::new(&table::BAD_TARGET).hint("Correct the address of the request.")
    }

    pub(crate) fn function_not_found(name: &str) -> Self {
        Self::new(&table::FUNCTION_NOT_FOUND)
            .detail(format!("no function is called {name:?}"))
            .hint(format!("Correct the name, or deploy it: `mayfly deploy FILE --name {name}`."))
    }

    pub(crate) fn revision_not_found(name: &str, revision: u32) -> Self {
        Self::new(&table::REVISION_NOT_FOUND)
            .detail(format!("the function {name:?} has no revision {revision}"))
    }

    pub(crate) fn channel_not_found(name: &str, channel: &str) -> Self {
        Self::new(&table::CHANNEL_NOT_FOUND)
            .detail(format!("the function {name:?} has no channel {channel:?}"))
    }

    pub(crate) fn invocation_not_found() -> Self {
        Self::new(&table::INVOCATION_NOT_FOUND)
            .hint("Correct the id. Answers are kept for as long as `queue.results_ms` says.")
    }

    /// A change of a call for which it is too late.
    pub(crate) fn invocation_begun(state: &str) -> Self {
        Self::new(&table::INVOCATION_BEGUN)
            .detail(format!("the call is in the state `{state}`"))
            .hint("Only a call in the state `due` can be cancelled.")
    }

    pub(crate) fn flow_not_found(name: &str) -> Self {
        Self::new(&table::FLOW_NOT_FOUND).detail(format!("there is no flow {name:?}"))
    }

    /// Says in which step of a flow it was.
    pub(crate) fn of_step(self, path: &str) -> Self {
        match HeaderValue::try_from(path) {
            Ok(path) => self.field(FLOW_STEP, path),
            Err(_) => self,
        }
    }

    /// Logs `error` with its causes and keeps them from the caller.
    pub(crate) fn internal(error: &dyn StdError) -> Self {
        tracing::error!(error = chain(error), "internal error");
        Self::broken()
    }

    /// An internal error that has already been logged, such as a panic.
    pub(crate) fn broken() -> Self {
        Self::new(&table::INTERNAL)
            .hint("The gateway's log has the cause: search it for the request id.")
    }

    fn headers(&self, headers: &mut HeaderMap) {
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
        for name in self.fields.iter().flat_map(|fields| fields.keys()) {
            headers.remove(name);
        }
        for (name, value) in self.fields.iter().flat_map(|fields| fields.iter()) {
            headers.append(name, value.clone());
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

    /// Whether it is of this type.
    pub(crate) fn is(&self, problem_type: &ProblemType) -> bool {
        self.slug == problem_type.slug
    }

    /// The status as a number.
    pub(crate) fn status_code(&self) -> u16 {
        self.status
    }

    /// The type and the title.
    pub(crate) fn summary(&self) -> String {
        format!("{}: {}", self.slug, self.title)
    }

    /// The last part of the type.
    pub(crate) fn slug(&self) -> &'static str {
        self.slug
    }

    /// The response to the request that this problem ended.
    pub(crate) fn to_http<B: From<Bytes>>(&self) -> http::Response<B> {
        let mut response = http::Response::new(B::from(self.body()));
        *response.status_mut() = self.status();
        self.headers(response.headers_mut());
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.to_http();
        // The outermost layer adds the request's id.
        response.extensions_mut().insert(self);
        response
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
