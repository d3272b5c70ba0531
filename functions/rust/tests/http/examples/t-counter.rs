//! Counts the requests that this instance has seen, and answers with the count.
//! A gateway that makes a new instance for each request always gets `1`.

use std::sync::atomic::{AtomicU64, Ordering};

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

static SEEN: AtomicU64 = AtomicU64::new(0);

tests_http::serve!(handle);

fn handle(_request: IncomingRequest, answer: ResponseOutparam) {
    let count = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
    tests_http::text(answer, &format!("{count}\n"));
}
