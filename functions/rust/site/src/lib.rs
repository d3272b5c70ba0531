//! A static site: answers with the files that the function is given at a deploy.
//!
//! `mayfly deploy site.wasm --name site --files ./public` makes `./public/about.html` the answer to
//! `GET /about.html`. The answer to a directory is its `index.html`.
//!
//! Kind: `wasi:http` 0.2 component.
//! Build: `cargo build --release --target wasm32-wasip2`

use std::fs::{self, File};
use std::io::{self, Read};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Site;

wasip2::http::proxy::export!(Site);

impl Guest for Site {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let method = request.method();
        if !matches!(method, Method::Get | Method::Head) {
            return send(answer, 405, "text/plain", io::empty(), false);
        }
        let path = request.path_with_query().unwrap_or_default();
        let path = decoded(path.split('?').next().unwrap_or_default());
        let with_body = matches!(method, Method::Get);
        match path.and_then(|path| open(&path)) {
            Some((file, kind)) => send(answer, 200, kind, file, with_body),
            None => send(answer, 404, "text/plain", &b"not found\n"[..], with_body),
        }
    }
}

/// The file of a path, and its media type.
fn open(path: &str) -> Option<(File, &'static str)> {
    let mut path = path.to_owned();
    if fs::metadata(&path).ok()?.is_dir() {
        path = format!("{}/index.html", path.trim_end_matches('/'));
    }
    let kind = match path.rsplit_once('.').map(|(_, suffix)| suffix) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    };
    Some((File::open(path).ok()?, kind))
}

/// The path without percent-encoding.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn send(
    answer: ResponseOutparam,
    status: u16,
    kind: &str,
    mut content: impl Read,
    with_body: bool,
) {
    let headers =
        Fields::from_list(&[("content-type".to_owned(), kind.as_bytes().to_vec())]).unwrap();
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    ResponseOutparam::set(answer, Ok(response));
    let out = body.write().unwrap();
    let mut buffer = [0; 4096];
    while with_body {
        match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) if out.blocking_write_and_flush(&buffer[..read]).is_ok() => {}
            // The client has gone, or the file cannot be read. Returning without `finish` aborts the
            // response, so that the caller can tell.
            _ => return,
        }
    }
    drop(out);
    let _ = OutgoingBody::finish(body, None);
}
