//! Hands 64 MiB over to the host with one call.

use wasip2::http::types::Fields;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

pub fn case(_request: &IncomingRequest, answer: ResponseOutparam) {
    let _ = Fields::new().append("x", &vec![b'v'; 64 << 20]);
    tests_http::text(answer, "taken\n");
}
