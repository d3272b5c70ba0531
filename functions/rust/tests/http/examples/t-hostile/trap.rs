//! Sends `?bytes=` of its body, and then traps.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

pub fn case(request: &IncomingRequest, answer: ResponseOutparam) {
    let bytes = tests_http::number(request, "bytes").unwrap_or(0) as usize;
    let (_body, stream) = tests_http::open(answer, "text/plain");
    let _ = tests_http::write(&stream, &vec![b'x'; bytes]);
    let _ = stream.blocking_flush();
    core::arch::wasm32::unreachable();
}
