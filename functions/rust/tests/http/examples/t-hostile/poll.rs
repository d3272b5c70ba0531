//! Polls a pollable that is ready, without end.

use wasip2::clocks::monotonic_clock;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

pub fn case(_request: &IncomingRequest, _answer: ResponseOutparam) {
    let ready = monotonic_clock::subscribe_duration(0);
    loop {
        wasip2::io::poll::poll(&[&ready]);
    }
}
