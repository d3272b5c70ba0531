//! Sets a `content-length` of `?claim=` and writes `?bytes=` bytes; with `?again=`, sets a
//! second `content-length`.

use wasip2::http::types::{Fields, OutgoingBody, OutgoingResponse};
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

pub fn case(request: &IncomingRequest, answer: ResponseOutparam) {
    let headers = Fields::new();
    for key in ["claim", "again"] {
        let Some(claim) = tests_http::decoded(request, key) else { continue };
        if headers.append("content-length", &claim).is_err() {
            return tests_http::text(answer, "refused\n");
        }
    }
    let response = OutgoingResponse::new(headers);
    let body = response.body().unwrap();
    ResponseOutparam::set(answer, Ok(response));
    let stream = body.write().unwrap();
    let bytes = tests_http::number(request, "bytes").unwrap_or(0) as usize;
    let _ = tests_http::write(&stream, &vec![b'x'; bytes]);
    let _ = stream.blocking_flush();
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
