//! Traps before it answers when the path ends in `/trap`; else answers `ok`.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

tests_http::serve!(handle);

fn handle(request: IncomingRequest, answer: ResponseOutparam) {
    if tests_http::path(&request).ends_with("/trap") {
        core::arch::wasm32::unreachable();
    }
    tests_http::text(answer, "ok\n");
}
