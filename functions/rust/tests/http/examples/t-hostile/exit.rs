//! Exits with success, without an answer.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

pub fn case(_request: &IncomingRequest, _answer: ResponseOutparam) {
    wasip2::cli::exit::exit(Ok(()));
}
