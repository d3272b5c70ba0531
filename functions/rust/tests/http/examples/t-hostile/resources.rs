//! Opens `?n=` resources of the host and closes none: fields, or with `?pollables=1`
//! pollables, or with `?copies=1` copies of fields that hold about 50 KB each.

use std::mem::forget;

use wasip2::clocks::monotonic_clock;
use wasip2::http::types::Fields;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

pub fn case(request: &IncomingRequest, answer: ResponseOutparam) {
    let number = |key| tests_http::number(request, key);
    let full = Fields::new();
    for n in 0..400 {
        let _ = full.append(&format!("x-{n}"), &[b'v'; 60]);
    }
    for _ in 0..number("n").unwrap_or(u64::MAX) {
        if number("pollables").is_some() {
            forget(monotonic_clock::subscribe_duration(1_000_000_000));
        } else if number("copies").is_some() {
            let copy = full.clone();
            let _ = copy.append("x", b"v");
            forget(copy);
        } else {
            forget(Fields::new());
        }
    }
    tests_http::text(answer, "all open\n");
}
