//! Code that the `wasi:http` 0.2 test guests share. Each guest is one file under
//! `examples/` and does one thing, usually a wrong one.

pub mod plan;

use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::{OutputStream, StreamError};

/// Turns a function into the component's handler: `tests_http::serve!(f)`.
#[macro_export]
macro_rules! serve {
    ($handle:path) => {
        struct Component;
        wasip2::http::proxy::export!(Component);
        impl wasip2::exports::http::incoming_handler::Guest for Component {
            fn handle(
                request: wasip2::http::types::IncomingRequest,
                answer: wasip2::http::types::ResponseOutparam,
            ) {
                $handle(request, answer)
            }
        }
    };
}

/// The path without its query.
pub fn path(request: &IncomingRequest) -> String {
    let path = request.path_with_query().unwrap_or_default();
    path.split('?').next().unwrap_or_default().to_owned()
}

/// The number after `key=` in the query.
pub fn number(request: &IncomingRequest, key: &str) -> Option<u64> {
    value(request, key)?.parse().ok()
}

/// The values after each `key=` in the query, percent-decoded.
pub fn all(request: &IncomingRequest, key: &str) -> Vec<Vec<u8>> {
    let target = request.path_with_query().unwrap_or_default();
    plan::values(&target, key).into_iter().map(String::into_bytes).collect()
}

/// The value after `key=` in the query, percent-decoded.
pub fn decoded(request: &IncomingRequest, key: &str) -> Option<Vec<u8>> {
    let value = value(request, key)?;
    let mut decoded = Vec::new();
    let mut rest = value.as_bytes();
    while let [byte, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(escaped) if *byte == b'%' => {
                decoded.push(escaped);
                rest = &tail[2..];
            }
            _ => {
                decoded.push(*byte);
                rest = tail;
            }
        }
    }
    Some(decoded)
}

fn value(request: &IncomingRequest, key: &str) -> Option<String> {
    let path = request.path_with_query()?;
    let (_, query) = path.split_once('?')?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    value.map(str::to_owned)
}

/// Sends the head of a 200 response, without a content-length.
pub fn open(answer: ResponseOutparam, content_type: &str) -> (OutgoingBody, OutputStream) {
    let content_type = content_type.as_bytes().to_vec();
    let headers = Fields::from_list(&[("content-type".to_owned(), content_type)]).unwrap();
    let response = OutgoingResponse::new(headers);
    let body = response.body().unwrap();
    ResponseOutparam::set(answer, Ok(response));
    let stream = body.write().unwrap();
    (body, stream)
}

/// Writes all of `bytes`, waiting for room whenever there is none.
pub fn write(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let room = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX);
        if room == 0 {
            stream.subscribe().block();
            continue;
        }
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        stream.write(now)?;
        bytes = later;
    }
    Ok(())
}

/// Ends the body. Ignores failures: the client may have disconnected.
pub fn close(body: OutgoingBody, stream: OutputStream) {
    let _ = stream.blocking_flush();
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// A whole answer: 200, text/plain.
pub fn text(answer: ResponseOutparam, text: &str) {
    let (body, stream) = open(answer, "text/plain");
    let _ = write(&stream, text.as_bytes());
    close(body, stream);
}
