//! Sends the request's body back while it arrives, whatever its size: the bytes
//! are spliced from one host stream to the other and never enter this guest.
//!
//! The response also has `x-echo-method`, `x-echo-path`, and a copy of every
//! request header whose name starts with `x-test-`.
//!
//! Kind: `wasi:http` 0.2 component.
//! Build: `cargo build --release --target wasm32-wasip2`

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

struct Echo;

wasip2::http::proxy::export!(Echo);

impl Guest for Echo {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let response = OutgoingResponse::new(headers(&request));
        let response_body = response.body().unwrap();
        ResponseOutparam::set(answer, Ok(response));

        let request_body = request.consume().unwrap();
        let input = request_body.stream().unwrap();
        let output = response_body.write().unwrap();
        loop {
            // Sleeps until there is something to read and room to write it.
            match output.blocking_splice(&input, 1024 * 1024) {
                Ok(_) => {}
                Err(StreamError::Closed) => break,
                // The body is incomplete. Returning without `finish` aborts the
                // response, so that the caller can tell.
                Err(StreamError::LastOperationFailed(_)) => return,
            }
        }
        let _ = output.blocking_flush();
        drop(output);
        let _ = OutgoingBody::finish(response_body, None);
    }
}

fn headers(request: &IncomingRequest) -> Fields {
    let seen = request.headers().entries();
    let content_type = seen.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let content_type = match content_type {
        Some((_, value)) => value.clone(),
        None => b"application/octet-stream".to_vec(),
    };
    let path = request.path_with_query().unwrap_or_default();

    let mut headers = vec![
        ("content-type".to_owned(), content_type),
        ("x-echo-method".to_owned(), method(request.method()).into_bytes()),
        ("x-echo-path".to_owned(), path.into_bytes()),
    ];
    headers.extend(
        seen.into_iter().filter(|(name, _)| name.to_ascii_lowercase().starts_with("x-test-")),
    );
    Fields::from_list(&headers).unwrap()
}

fn method(method: Method) -> String {
    match method {
        Method::Get => "GET".to_owned(),
        Method::Head => "HEAD".to_owned(),
        Method::Post => "POST".to_owned(),
        Method::Put => "PUT".to_owned(),
        Method::Delete => "DELETE".to_owned(),
        Method::Connect => "CONNECT".to_owned(),
        Method::Options => "OPTIONS".to_owned(),
        Method::Trace => "TRACE".to_owned(),
        Method::Patch => "PATCH".to_owned(),
        Method::Other(name) => name,
    }
}
