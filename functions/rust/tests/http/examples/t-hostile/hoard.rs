//! Allocates memory and writes to it until there is none left; then it fails.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

pub fn case(_request: &IncomingRequest, _answer: ResponseOutparam) {
    let mut hoard = Vec::new();
    loop {
        hoard.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&hoard);
    }
}
