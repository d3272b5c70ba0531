//! What a plane answers about itself: `OPTIONS *`, and the check of a load balancer.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

use crate::problem::OUTCOME;

const ALLOWED: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
/// The response is no function's.
pub(crate) const PLATFORM_OUTCOME: HeaderValue = HeaderValue::from_static("platform");

/// Whether a request is about the server, unless something else is at that path. `OPTIONS /` is what
/// haproxy sends to see whether a server is up.
pub(crate) fn is_asked(method: &Method, path: &str) -> bool {
    *method == Method::OPTIONS && matches!(path, "*" | "/")
}

/// The response (RFC 9110, section 9.3.7).
pub(crate) fn answer<B: From<Bytes>>() -> Response<B> {
    let mut response = Response::new(B::from(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, ALLOWED);
    response.headers_mut().insert(OUTCOME, PLATFORM_OUTCOME);
    response
}
