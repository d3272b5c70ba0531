//! Does what tests ask of it by each interface for stores, configuration and logs: WASI 0.2.

use operations::answer;
use protocol::{Asked, response};
use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam},
    io::streams::StreamError,
};

struct Every;

wasip2::http::proxy::export!(Every);

impl Guest for Every {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (status, body) = response(answer(&Asked::read(&target, body(&request))));
        let head = OutgoingResponse::new(Fields::new());
        head.set_status_code(status).unwrap();
        let outgoing = head.body().unwrap();
        ResponseOutparam::set(out, Ok(head));
        let stream = outgoing.write().unwrap();
        for chunk in body.chunks(4096) {
            stream.blocking_write_and_flush(chunk).unwrap();
        }
        drop(stream);
        OutgoingBody::finish(outgoing, None).unwrap();
    }
}

fn body(request: &IncomingRequest) -> Vec<u8> {
    let incoming = request.consume().unwrap();
    let stream = incoming.stream().unwrap();
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(chunk) => body.extend(chunk),
            Err(StreamError::Closed) => return body,
            Err(error) => panic!("{error:?}"),
        }
    }
}
