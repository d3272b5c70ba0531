//! Writes `?n=` lines to standard output and as many to standard error, then
//! answers `logged`.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

tests_http::serve!(handle);

fn handle(request: IncomingRequest, answer: ResponseOutparam) {
    for i in 0..tests_http::number(&request, "n").unwrap_or(1) {
        println!("stdout line {i}");
        eprintln!("stderr line {i}");
    }
    tests_http::text(answer, "logged\n");
}
