//! Sets the header `?name=` to `?value=`, percent-decoded, and then to `?again=` if the
//! query has it; with `?trailer=1`, as a trailer. A refusal is the answer's body.

use wasip2::http::types::{Fields, OutgoingBody, OutgoingResponse};
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

pub fn case(request: &IncomingRequest, answer: ResponseOutparam) {
    let (fields, refused) = fields(request);
    if let Some(why) = refused {
        return tests_http::text(answer, &format!("refused: {why}\n"));
    }
    let in_trailer = tests_http::number(request, "trailer").is_some();
    let (headers, trailers) =
        if in_trailer { (Fields::new(), Some(fields)) } else { (fields, None) };
    let response = OutgoingResponse::new(headers);
    let body = response.body().unwrap();
    ResponseOutparam::set(answer, Ok(response));
    let stream = body.write().unwrap();
    let _ = tests_http::write(&stream, b"hello");
    let _ = stream.blocking_flush();
    drop(stream);
    let _ = OutgoingBody::finish(body, trailers);
}

fn fields(request: &IncomingRequest) -> (Fields, Option<String>) {
    let fields = Fields::new();
    let name = String::from_utf8(tests_http::decoded(request, "name").unwrap_or_default());
    let name = name.unwrap_or_default();
    for key in ["value", "again"] {
        let Some(value) = tests_http::decoded(request, key) else { continue };
        if let Err(error) = fields.append(&name, &value) {
            return (fields, Some(format!("{error:?}")));
        }
    }
    (fields, None)
}
