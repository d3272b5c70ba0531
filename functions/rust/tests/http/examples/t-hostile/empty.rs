//! Writes `?n=` bytes, so that the head leaves, and then empty chunks without end.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

pub fn case(request: &IncomingRequest, answer: ResponseOutparam) {
    let first = tests_http::number(request, "n").unwrap_or(0) as usize;
    let (_body, stream) = tests_http::open(answer, "text/plain");
    let _ = tests_http::write(&stream, &vec![b'x'; first]);
    loop {
        match stream.check_write() {
            Ok(0) => stream.subscribe().block(),
            Ok(_) if stream.write(b"").is_ok() => {}
            _ => return, // the client has gone
        }
    }
}
