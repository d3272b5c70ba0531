//! Writes its body one byte at a time: `?n=` bytes, or without end.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

pub fn case(request: &IncomingRequest, answer: ResponseOutparam) {
    let left = tests_http::number(request, "n").unwrap_or(u64::MAX);
    let (body, stream) = tests_http::open(answer, "text/plain");
    for _ in 0..left {
        if tests_http::write(&stream, b"x").is_err() {
            return; // the client has gone
        }
    }
    tests_http::close(body, stream);
}
