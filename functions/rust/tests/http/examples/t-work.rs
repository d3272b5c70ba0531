//! Computes `?turns=` numbers of a pseudo-random generator, then answers with the last one.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

tests_http::serve!(handle);

fn handle(request: IncomingRequest, answer: ResponseOutparam) {
    let mut number = 88_172_645_463_325_252_u64;
    for _ in 0..tests_http::number(&request, "turns").unwrap_or(0) {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
    }
    tests_http::text(answer, &format!("{number}\n"));
}
