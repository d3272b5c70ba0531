//! Calls another server: `GET /?url=http://127.0.0.1:1234/x` answers with that
//! URL's status, content type and body, streamed.
//!
//! When the call fails, or the gateway does not allow it, the answer is 502 with
//! the name of the `wasi:http` error code, for example `HttpRequestDenied`.
//!
//! Kind: `wasi:http` 0.2 component.
//! Build: `cargo build --release --target wasm32-wasip2`

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, IncomingResponse, OutgoingBody, OutgoingRequest,
    OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;

struct Fetch;

wasip2::http::proxy::export!(Fetch);

impl Guest for Fetch {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let Some(url) = url_parameter(&request.path_with_query().unwrap_or_default()) else {
            return text(answer, 400, "add the URL: /?url=http://example.com/\n");
        };
        let Some(outgoing) = outgoing_request(&url) else {
            return text(answer, 400, "not an http or https URL\n");
        };
        match send(outgoing) {
            Ok(upstream) => pass_on(upstream, answer),
            Err(code) => text(answer, 502, &format!("{}\n", name(&code))),
        }
    }
}

/// The value of `url` in the query, percent-decoded.
fn url_parameter(path_with_query: &str) -> Option<String> {
    let (_, query) = path_with_query.split_once('?')?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix("url="))?;

    let mut decoded = Vec::new();
    let mut rest = value.as_bytes();
    while let [byte, tail @ ..] = rest {
        let escape = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let escape = escape.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, escape) {
            (b'%', Some(escaped)) => {
                decoded.push(escaped);
                rest = &tail[2..];
            }
            _ => {
                decoded.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(decoded).ok()
}

fn outgoing_request(url: &str) -> Option<OutgoingRequest> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) if rest[at..].starts_with('/') => (&rest[..at], rest[at..].to_owned()),
        Some(at) => (&rest[..at], format!("/{}", &rest[at..])),
        None => (rest, "/".to_owned()),
    };
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&scheme)).ok()?;
    request.set_authority(Some(authority)).ok()?;
    request.set_path_with_query(Some(&path)).ok()?;
    Some(request)
}

fn send(request: OutgoingRequest) -> Result<IncomingResponse, ErrorCode> {
    let response = outgoing_handler::handle(request, None)?;
    response.subscribe().block();
    // Both unwraps hold: the future is ready, and its value is taken only once.
    response.get().unwrap().unwrap()
}

fn pass_on(upstream: IncomingResponse, answer: ResponseOutparam) {
    let headers = Fields::new();
    if let Some(content_type) = upstream.headers().get("content-type").into_iter().next() {
        headers.append("content-type", &content_type).unwrap();
    }
    let response = OutgoingResponse::new(headers);
    response.set_status_code(upstream.status()).unwrap();
    let body = response.body().unwrap();
    ResponseOutparam::set(answer, Ok(response));

    let upstream_body = upstream.consume().unwrap();
    let input = upstream_body.stream().unwrap();
    let output = body.write().unwrap();
    loop {
        match output.blocking_splice(&input, 1024 * 1024) {
            Ok(_) => {}
            Err(StreamError::Closed) => break,
            // Abort our own response as well: do not finish it.
            Err(StreamError::LastOperationFailed(_)) => return,
        }
    }
    let _ = output.blocking_flush();
    drop(output);
    let _ = OutgoingBody::finish(body, None);
}

fn text(answer: ResponseOutparam, status: u16, text: &str) {
    let headers =
        Fields::from_list(&[("content-type".to_owned(), b"text/plain".to_vec())]).unwrap();
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    ResponseOutparam::set(answer, Ok(response));

    let out = body.write().unwrap();
    out.blocking_write_and_flush(text.as_bytes()).unwrap();
    drop(out);
    OutgoingBody::finish(body, None).unwrap();
}

/// `InternalError(Some("..."))` becomes `InternalError`.
fn name(code: &ErrorCode) -> String {
    let debug = format!("{code:?}");
    let name = debug.strip_prefix("ErrorCode::").unwrap_or(&debug);
    name.split(['(', ' ']).next().unwrap_or_default().to_owned()
}
