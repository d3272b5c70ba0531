//! Sends `?n=` requests that have no path, each of which is refused.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, OutgoingRequest, ResponseOutparam,
};

pub fn case(request: &IncomingRequest, answer: ResponseOutparam) {
    for _ in 0..tests_http::number(request, "n").unwrap_or(1) {
        let request = OutgoingRequest::new(Fields::new());
        request.set_authority(Some("example.com")).unwrap();
        let refused = outgoing_handler::handle(request, None);
        assert!(matches!(refused, Err(ErrorCode::HttpRequestUriInvalid)));
    }
    tests_http::text(answer, "refused\n");
}
