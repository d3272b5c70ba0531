//! Hands 100 MiB over to the host with one call. Nobody has written to them, so that nobody has
//! them in memory but who reads them.

use wasip2::http::types::Fields;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

const BYTES: usize = 100 << 20;

pub fn case(_request: &IncomingRequest, answer: ResponseOutparam) {
    let list: Vec<u8> = Vec::with_capacity(BYTES);
    // SAFETY: there is room for as many, and memory that has just been taken is zero.
    let list = unsafe { std::slice::from_raw_parts(list.as_ptr(), BYTES) };
    let _ = Fields::new().append("x", list);
    tests_http::text(answer, "taken\n");
}
