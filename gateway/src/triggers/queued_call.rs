//! A call as it is enqueued, and as it runs.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use runtime_pool::{CdnLoop, FunctionCall, InvocationContext, RequestBody};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use store::{Invocation, StoredFields, StoredRequest};

use crate::{request::idempotency_key::IDEMPOTENCY_KEY, telemetry::request_id::id_string};

/// Tells a guest the number of the attempt. Only the gateway can set it.
const ATTEMPT: HeaderName = HeaderName::from_static("mayfly-attempt");
/// What a queued call counts as having in flight, so that it gets no instance that is reserved.
const MANY: usize = 1 << 32;

/// What the gateway must know of the caller of a queued call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CallOrigin {
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<SocketAddr>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) https: bool,
    /// The part of the path that the function does not see.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) mount: String,
    /// The route that it came through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) route: Option<String>,
    /// The mark of the API key that it came with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// The time for each attempt that the route leaves, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
}

impl CallOrigin {
    /// A time as the store keeps it.
    pub(crate) fn in_ms(timeout: Option<Duration>) -> Option<u64> {
        timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
    }

    /// As the store keeps it.
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers have JSON")
    }

    pub(crate) fn of(call: &Invocation) -> Self {
        serde_json::from_str(&call.context).unwrap_or_else(|error| {
            tracing::error!(%error, "the origin of a queued call cannot be read");
            Self::default()
        })
    }
}

/// A request as the store keeps it.
pub(crate) fn stored(head: &http::request::Parts, body: Vec<u8>) -> StoredRequest {
    StoredRequest {
        method: head.method.as_str().to_owned(),
        target: head.uri.to_string(),
        fields: fields(&head.headers),
        body,
    }
}

/// Header fields as the store keeps them.
pub(crate) fn fields(headers: &HeaderMap) -> StoredFields {
    let field = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), value.as_bytes().to_vec())
    };
    StoredFields(headers.iter().map(field).collect())
}

/// The call of one attempt. `None` if what is stored is no request.
pub(super) fn call(call: &Invocation, origin: &CallOrigin) -> Option<Box<FunctionCall>> {
    request(&call.request, (&call.id, call.attempt), origin)
}

/// A request as one attempt of the call with an id sends it. `None` if it is none.
pub(super) fn request(
    stored: &StoredRequest,
    (id, attempt): (&str, u32),
    origin: &CallOrigin,
) -> Option<Box<FunctionCall>> {
    let StoredRequest { method, target, fields, body } = stored;
    let mut request = Request::new(RequestBody::Empty);
    *request.method_mut() = Method::from_bytes(method.as_bytes()).ok()?;
    *request.uri_mut() = target.parse().ok()?;
    for (name, value) in &fields.0 {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(value).ok()?);
    }
    let headers = request.headers_mut();
    // The same in each attempt.
    headers.insert(IDEMPOTENCY_KEY, HeaderValue::try_from(id).ok()?);
    headers.insert(ATTEMPT, HeaderValue::from(attempt));
    if !body.is_empty() {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let context = InvocationContext {
        invocation: request_id(id, attempt),
        peer: origin.peer.unwrap_or(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)),
        https: origin.https,
        mount: Arc::from(origin.mount.as_str()),
        cdn_loop: CdnLoop::of(headers),
        others: MANY,
        timeout: origin.timeout_ms.map(Duration::from_millis),
    };
    if !body.is_empty() {
        let body = Full::new(Bytes::copy_from_slice(body)).map_err(|never| match never {});
        *request.body_mut() = RequestBody::Stream(body.boxed_unsync());
    }
    Some(FunctionCall::new(request, context))
}

/// The id of an attempt in logs. It does not tell the id of the call, which opens its answer.
fn request_id(id: &str, attempt: u32) -> u128 {
    let hash = Sha256::new().chain_update(id).chain_update(attempt.to_be_bytes()).finalize();
    u128::from_be_bytes(hash[..16].try_into().expect("a hash has 32 bytes"))
}

/// The same as text.
pub(crate) fn request_id_text(id: &str, attempt: u32) -> String {
    id_string(request_id(id, attempt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_as_it_was_written_and_may_be_empty() {
        let origin = CallOrigin {
            peer: Some("192.0.2.1:5".parse().unwrap()),
            https: true,
            mount: "/f/a".to_owned(),
            route: Some("users".to_owned()),
            key: Some("ci".to_owned()),
            timeout_ms: Some(500),
        };
        assert_eq!(serde_json::from_str::<CallOrigin>(&origin.to_text()).unwrap(), origin);
        assert_eq!(CallOrigin::default().to_text(), "{}");
    }

    #[test]
    fn attempts_have_ids_of_their_own_in_logs() {
        assert_ne!(request_id_text("a", 1), request_id_text("a", 2));
        assert_ne!(request_id_text("a", 1), request_id_text("b", 1));
        assert_eq!(request_id_text("a", 1).len(), 32);
    }
}
