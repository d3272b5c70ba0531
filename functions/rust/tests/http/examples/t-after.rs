//! Answers `answered`, ends the body properly, then loops endlessly.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

tests_http::serve!(handle);

fn handle(_request: IncomingRequest, answer: ResponseOutparam) {
    tests_http::text(answer, "answered\n");
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}
