//! Returns without having set a response.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

tests_http::serve!(handle);

fn handle(_request: IncomingRequest, _answer: ResponseOutparam) {}
