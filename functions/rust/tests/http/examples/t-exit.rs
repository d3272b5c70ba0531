//! Exits before it answers. The stable `wasi:cli/exit` of 0.2 knows no codes,
//! only success and failure; this is a failure. `t-exit-cgi` exits with 7.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

tests_http::serve!(handle);

fn handle(_request: IncomingRequest, _answer: ResponseOutparam) {
    wasip2::cli::exit::exit(Err(()));
}
