//! Asks for `?bytes=` random bytes with one call.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

pub fn case(request: &IncomingRequest, answer: ResponseOutparam) {
    let bytes = tests_http::number(request, "bytes").unwrap_or(4 << 30);
    let bytes = wasip2::random::random::get_random_bytes(bytes);
    tests_http::text(answer, &format!("{}\n", bytes.len()));
}
