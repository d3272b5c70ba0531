//! Calls whose clients do not wait for the answer: they are enqueued and answered by 202 (RFC 7240),
//! and what became of them is asked for at an address that only the client knows.

use std::sync::Arc;

use bytes::Bytes;
use gateway_api::InvocationStatusView;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts,
};
use http_body_util::BodyExt as _;
use runtime_pool::FunctionCall;
use sha2::{Digest as _, Sha256};
use store::{
    Cause, Dedup, EnqueueOutcome, Lane, NewInvocation, RespondAsync, StoredRequest, Tenant,
};

use crate::{
    edge::{
        owned_routes::RouteCaller,
        response_body::EdgeBody,
        routes::{self, At},
    },
    functions::{catalog::CatalogEntry, routes::route::Route},
    problem::{OUTCOME, Problem, REQUEST_ID, table},
    request::{
        idempotency_key::{IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_BYTES},
        limited_body::{BodyFault, BodyFaults, declared_length},
        server_options::PLATFORM_OUTCOME,
    },
    telemetry::{
        clock::{now_ms, rfc3339},
        request_id::id_header,
    },
    triggers::{
        call_queue::{CallQueue, random_id},
        queued_call::{CallOrigin, stored},
        views::{self, STATUS_PREFIX},
    },
};

pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const RESPOND_ASYNC: &str = "respond-async";
/// The beginning of all paths that the gateway keeps for itself.
const RESERVED: &str = "/.mayfly/";

/// Whether a call is to be enqueued.
pub(super) fn is_wanted(target: &CatalogEntry, headers: &HeaderMap) -> bool {
    match target.respond_async {
        RespondAsync::Never => false,
        RespondAsync::Always => true,
        RespondAsync::Prefer => headers.contains_key(PREFER) && prefers(headers),
    }
}

/// Whether a client does not want to wait.
pub(super) fn prefers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut named = values.flat_map(|value| value.split(','));
    named.any(|preference| {
        let name = preference.split(';').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case(RESPOND_ASYNC)
    })
}

/// Whether the gateway itself answers at a path.
pub(super) fn is_reserved(path: &str) -> bool {
    // The second byte first: it differs in almost all requests.
    path.as_bytes().get(1) == Some(&b'.') && path.starts_with(RESERVED)
}

/// A call that is to be enqueued, as its function will see it.
pub(super) struct AsyncCall<'a> {
    pub(super) target: Arc<CatalogEntry>,
    pub(super) call: Box<FunctionCall>,
    /// Where faults of its body are noted, if it has one.
    pub(super) faults: Option<BodyFaults>,
    /// The route that has led to it.
    pub(super) route: Option<&'a Route>,
}

/// Enqueues calls, and says what became of them.
pub(super) struct AsyncCalls {
    queue: CallQueue,
    /// The tenant whose functions are called here.
    tenant: Tenant,
}

impl AsyncCalls {
    pub(super) fn new(queue: CallQueue, tenant: Tenant) -> Self {
        Self { queue, tenant }
    }

    /// Enqueues a call, and answers before it runs.
    pub(super) async fn enqueue(
        &self,
        asked: AsyncCall<'_>,
    ) -> Result<Response<EdgeBody>, Problem> {
        let AsyncCall { target, mut call, faults, route } = asked;
        let invocation = call.context.invocation;
        let preferred = prefers(&call.head.headers);
        let head_only = call.head.method == Method::HEAD;
        let key = client_key(&mut call.head.headers)?;
        let auth = route.and_then(|route| route.auth.as_ref());
        let origin = CallOrigin {
            peer: Some(call.context.peer),
            https: call.context.https,
            mount: call.context.mount.to_string(),
            route: route.map(|route| route.name.to_str().unwrap_or_default().to_owned()),
            key: auth.and_then(|auth| auth.mark(&call.head.headers)),
            timeout_ms: CallOrigin::in_ms(call.context.timeout),
        };
        let body = self.read_body(&mut call, faults).await?;
        for name in [PREFER, header::EXPECT, header::CONTENT_LENGTH] {
            call.head.headers.remove(name);
        }
        let request = stored(&call.head, body);
        let caller = call.head.extensions.get::<RouteCaller>();
        let dedup = key.map(|key| dedup(&key, &request, &origin, caller));
        let new = new_call(&target, request, &origin, dedup)?;
        let enqueued = self.queue.enqueue(new, target.background.calls).await;
        let enqueued = enqueued.map_err(|error| Problem::of_store(&error))?;
        if enqueued.outcome == EnqueueOutcome::Mismatch {
            return Err(key_reused());
        }
        Ok(accepted(AcceptedCall { id: &enqueued.id, preferred, head_only, invocation }))
    }

    /// Reads all of a body, which is in memory until the call is stored.
    async fn read_body(
        &self,
        call: &mut FunctionCall,
        faults: Option<BodyFaults>,
    ) -> Result<Vec<u8>, Problem> {
        let max = self.queue.settings().body_bytes;
        if declared_length(&call.head.headers).is_some_and(|declared| declared > max) {
            return Err(Problem::queued_body_too_large(max));
        }
        let (mut body, mut bytes) = (std::mem::take(&mut call.body), Vec::new());
        while let Some(frame) = body.frame().await {
            let fault = || faults.as_ref().and_then(BodyFaults::first);
            let frame = frame.map_err(|_| fault().unwrap_or(BodyFault::Broken))?;
            let Ok(data) = frame.into_data() else { continue };
            if (bytes.len() + data.len()) as u64 > max {
                return Err(Problem::queued_body_too_large(max).closes());
            }
            bytes.extend_from_slice(&data);
        }
        match faults.and_then(|faults| faults.first()) {
            Some(fault) => Err(fault.into()),
            None => Ok(bytes),
        }
    }

    /// Answers at a path that the gateway keeps for itself.
    pub(super) async fn reserved(
        &self,
        head: &Parts,
        invocation: u128,
    ) -> Result<Response<EdgeBody>, Problem> {
        let Some(id) = head.uri.path().strip_prefix(STATUS_PREFIX) else {
            return Err(Problem::new(&table::NO_ROUTE)
                .detail(format!("paths below `{RESERVED}` are the gateway's own")));
        };
        let failed = |error: store::Error| Problem::of_store(&error);
        let found = self.queue.get(&self.tenant, id).await.map_err(failed)?;
        let call = found.ok_or_else(Problem::invocation_not_found)?;
        let mut response = match head.method {
            Method::GET | Method::HEAD => {
                let status = views::status(&call);
                json_response(StatusCode::OK, &status, head.method == Method::HEAD)
            }
            Method::DELETE => {
                if !self.queue.cancel(&self.tenant, id).await.map_err(failed)? {
                    return Err(Problem::invocation_begun(call.state.as_str()));
                }
                respond(StatusCode::NO_CONTENT, Bytes::new())
            }
            _ => {
                return Err(Problem::new(&table::METHOD_NOT_ALLOWED)
                    .detail("this address takes GET, HEAD and DELETE")
                    .field(header::ALLOW, HeaderValue::from_static("GET, HEAD, DELETE")));
            }
        };
        response.headers_mut().insert(REQUEST_ID, id_header(invocation));
        Ok(response)
    }
}

/// Takes the key by which a client names its call: the function gets ours.
pub(super) fn client_key(headers: &mut HeaderMap) -> Result<Option<HeaderValue>, Problem> {
    let several = headers.get_all(IDEMPOTENCY_KEY).iter().nth(1).is_some();
    let Some(key) = headers.remove(IDEMPOTENCY_KEY) else { return Ok(None) };
    let visible = key.as_bytes().iter().all(|byte| matches!(byte, b' '..=b'~'));
    if several || key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES || !visible {
        return Err(Problem::new(&table::BAD_IDEMPOTENCY_KEY)
            .detail(format!(
                "it must be one of 1 to {IDEMPOTENCY_KEY_BYTES} visible ASCII characters"
            ))
            .hint("Correct the header `idempotency-key`, or leave it out."));
    }
    Ok(Some(key))
}

/// Names a call for those who know the key and have the same credentials: the answer to one client is
/// not for another one that guesses its key.
pub(super) fn dedup(
    key: &HeaderValue,
    request: &StoredRequest,
    origin: &CallOrigin,
    caller: Option<&RouteCaller>,
) -> Dedup {
    let mut name = Parted::default();
    name.add(key.as_bytes());
    name.add(origin.route.as_deref().unwrap_or_default().as_bytes());
    name.add(origin.key.as_deref().unwrap_or_default().as_bytes());
    if let Some(RouteCaller { method, name: caller }) = caller {
        name.add(method.as_bytes());
        name.add(caller.as_bytes());
    }
    let mut sent = Parted::default();
    sent.add(request.method.as_bytes());
    sent.add(request.target.as_bytes());
    sent.add(&request.body);
    for (field, value) in &request.fields.0 {
        match field.as_str() {
            "authorization" | "cookie" => name.add(value),
            "content-type" => sent.add(value),
            _ => {}
        }
    }
    Dedup { key: name.0.finalize().into(), fingerprint: sent.0.finalize().into() }
}

/// A hash of parts, which tells where each of them ends.
#[derive(Default)]
struct Parted(Sha256);

impl Parted {
    fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
    }
}

fn new_call(
    target: &CatalogEntry,
    request: StoredRequest,
    origin: &CallOrigin,
    dedup: Option<Dedup>,
) -> Result<NewInvocation, Problem> {
    let at = routes::find("", &target.mount, false).map_or(At::Default, |route| route.at);
    let (channel, revision) = match at {
        At::Default => (None, None),
        At::Channel(channel) => (Some(channel.to_owned()), None),
        At::Revision(revision) => (None, Some(revision)),
    };
    let now = now_ms();
    Ok(NewInvocation {
        id: random_id().map_err(|error| Problem::internal(&error))?,
        tenant: store::Tenant::try_from(&*target.ungranted.tenant)
            .map_err(|error| Problem::internal(&error))?,
        lane: Lane::Function(target.key.function),
        function: target.ungranted.name.to_string(),
        function_id: target.key.function,
        channel,
        revision,
        cause: Cause::Http,
        source: origin.route.clone(),
        context: origin.to_text(),
        request,
        created_ms: now,
        due_ms: now,
        expires_ms: now.saturating_add(target.background.age_ms),
        dedup,
    })
}

/// A call, or a run of a flow, that was enqueued.
#[derive(Clone, Copy)]
pub(super) struct AcceptedCall<'a> {
    pub(super) id: &'a str,
    /// Whether the client has asked for that.
    pub(super) preferred: bool,
    pub(super) head_only: bool,
    pub(super) invocation: u128,
}

/// Says where what becomes of it is asked for.
pub(super) fn accepted(accepted: AcceptedCall<'_>) -> Response<EdgeBody> {
    let AcceptedCall { id, preferred, head_only, invocation } = accepted;
    let location = format!("{STATUS_PREFIX}{id}");
    let body = InvocationStatusView {
        id: id.to_owned(),
        state: store::CallState::Due.as_str().to_owned(),
        attempts: 0,
        location: location.clone(),
        created_at: rfc3339(now_ms()),
        finished_at: None,
        error: None,
        answer: None,
    };
    let mut response = json_response(StatusCode::ACCEPTED, &body, head_only);
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::try_from(location) {
        headers.insert(header::LOCATION, location);
    }
    headers.insert(header::VARY, HeaderValue::from_static("prefer"));
    if preferred {
        headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static(RESPOND_ASYNC));
    }
    headers.insert(REQUEST_ID, id_header(invocation));
    response
}

/// The problem of a call whose client gives the name of another one.
pub(super) fn key_reused() -> Problem {
    Problem::new(&table::IDEMPOTENCY_KEY_REUSED)
        .detail("an earlier call with this `idempotency-key` sent something else")
        .hint("Give each call its own key.")
}

fn json_response(
    status: StatusCode,
    body: &InvocationStatusView,
    head_only: bool,
) -> Response<EdgeBody> {
    let mut body = serde_json::to_vec(body).unwrap_or_default();
    body.push(b'\n');
    let length = body.len();
    let mut response = respond(status, if head_only { Bytes::new() } else { body.into() });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if head_only {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

fn respond(status: StatusCode, body: Bytes) -> Response<EdgeBody> {
    let mut response = Response::new(EdgeBody::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(OUTCOME, PLATFORM_OUTCOME);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_is_found_among_others_whatever_its_case() {
        for (values, expected) in [
            (&["respond-async"][..], true),
            (&["wait=10, Respond-Async"], true),
            (&["return=minimal", "respond-async; x=1"], true),
            (&["respond-asynchronously"], false),
            (&["return=\"respond-async\""], false),
            (&[""], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PREFER, HeaderValue::from_static(value));
            }
            assert_eq!(prefers(&headers), expected, "{values:?}");
        }
    }

    #[test]
    fn only_paths_of_the_gateway_are_reserved() {
        assert!(is_reserved("/.mayfly/invocations/a") && is_reserved("/.mayfly/"));
        for path in ["/", "", "/.well-known/x", "/f/.mayfly/", "/.mayflyx", "*"] {
            assert!(!is_reserved(path), "{path}");
        }
    }
}
