//! Passes 100 MiB to the host in one call. The guest has not written to them, so they take memory
//! only if the host reads them.

use wasip2::http::types::Fields;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

const BYTES: usize = 100 << 20;

pub fn case(_request: &IncomingRequest, answer: ResponseOutparam) {
    let list: Vec<u8> = Vec::with_capacity(BYTES);
    // SAFETY: the memory has room for them, and newly grown memory is zero.
    let list = unsafe { std::slice::from_raw_parts(list.as_ptr(), BYTES) };
    let _ = Fields::new().append("x", list);
    tests_http::text(answer, "taken\n");
}
