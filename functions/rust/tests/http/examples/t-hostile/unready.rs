//! Handles its response wrongly, in the way that `?way=` names by a number:
//!
//! - 1: writes 1 MB before it gives the response;
//! - 2: drops the body without finishing it;
//! - 3: drops the body before its stream;
//! - 4: writes more than there is room for;
//! - 5: drops the outparam.

use wasip2::http::types::{Fields, OutgoingBody, OutgoingResponse};
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

pub fn case(request: &IncomingRequest, answer: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().unwrap();
    let stream = body.write().unwrap();
    match tests_http::number(request, "way") {
        Some(1) => tests_http::write(&stream, &vec![b'x'; 1_000_000]).unwrap(),
        Some(3) => return drop(body),
        Some(4) => while stream.write(&[b'x'; 1000]).is_ok() {},
        Some(5) => return drop(answer),
        _ => {}
    }
    ResponseOutparam::set(answer, Ok(response));
    drop(stream);
    if tests_http::number(request, "way") == Some(2) {
        return drop(body);
    }
    OutgoingBody::finish(body, None).unwrap();
}
