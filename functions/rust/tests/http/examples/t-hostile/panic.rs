//! Writes the values of its environment to standard error and panics with them.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

pub fn case(_request: &IncomingRequest, _answer: ResponseOutparam) {
    panic!("{:?}", wasip2::cli::environment::get_environment());
}
