//! Sleeps for `?ms=` milliseconds by the host's clock, then answers `slept`.

use wasip2::clocks::monotonic_clock;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

tests_http::serve!(handle);

fn handle(request: IncomingRequest, answer: ResponseOutparam) {
    let ms = tests_http::number(&request, "ms").unwrap_or(0);
    monotonic_clock::subscribe_duration(ms * 1_000_000).block();
    tests_http::text(answer, "slept\n");
}
