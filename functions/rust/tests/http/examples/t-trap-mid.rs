//! Sends the head and a first part of the body, flushes them, and traps.
//! The client thus receives both.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

tests_http::serve!(handle);

fn handle(_request: IncomingRequest, answer: ResponseOutparam) {
    let (_body, stream) = tests_http::open(answer, "text/plain");
    stream.blocking_write_and_flush(b"the first part\n").unwrap();
    core::arch::wasm32::unreachable();
}
