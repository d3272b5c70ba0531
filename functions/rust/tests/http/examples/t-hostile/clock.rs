//! Reads both clocks `?n=` times and answers with the most that they moved, then
//! sleeps `?ms=` and answers with what they moved by then; all in nanoseconds.

use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

pub fn case(request: &IncomingRequest, answer: ResponseOutparam) {
    let n = tests_http::number(request, "n").unwrap_or(0);
    let ms = tests_http::number(request, "ms").unwrap_or(0);
    let (monotonic, wall) = (monotonic_clock::now(), wall());
    let mut moved = (0, 0);
    for _ in 0..n {
        moved.0 = moved.0.max(monotonic_clock::now() - monotonic);
        moved.1 = moved.1.max(self::wall().abs_diff(wall));
    }
    monotonic_clock::subscribe_duration(ms * 1_000_000).block();
    let slept = (monotonic_clock::now() - monotonic, self::wall().abs_diff(wall));
    let resolution = monotonic_clock::resolution();
    tests_http::text(
        answer,
        &format!("{} {} {} {} {resolution}", moved.0, moved.1, slept.0, slept.1),
    );
}

fn wall() -> u64 {
    let now = wall_clock::now();
    now.seconds * 1_000_000_000 + u64::from(now.nanoseconds)
}
