//! The echo function for WASI 0.3: sends the request's body back while it
//! arrives.
//!
//! The response also has `x-echo-method`, `x-echo-path`, and a copy of every
//! request header whose name starts with `x-test-`.
//!
//! Kind: `wasi:http` 0.3 component.
//! Build: `cargo build --release --target wasm32-wasip2`

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use wasip3::wit_bindgen::{self, StreamResult};
use wasip3::{wit_future, wit_stream};

struct Echo;

wasip3::http::service::export!(Echo);

impl Guest for Echo {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let headers = headers(&request);
        let (_, request_result) = wit_future::new(|| Ok(()));
        let (mut input, request_trailers) = Request::consume_body(request, request_result);

        let (mut output, body) = wit_stream::new();
        let (trailers_sender, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(headers, Some(body), trailers);

        wit_bindgen::spawn_local(async move {
            let mut buffer = Vec::with_capacity(64 * 1024);
            loop {
                let (result, chunk) = input.read(buffer).await;
                let StreamResult::Complete(_) = result else { break };
                buffer = output.write_all(chunk).await;
                if !buffer.is_empty() {
                    return; // the reader of the response has gone
                }
            }
            drop(output);
            // The request's trailers follow its body. An error in place of them
            // means that the body is incomplete; it is passed on as well.
            let _ = trailers_sender.write(request_trailers.await).await;
        });
        Ok(response)
    }
}

fn headers(request: &Request) -> Fields {
    let seen = request.get_headers().copy_all();
    let content_type = seen.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let content_type = match content_type {
        Some((_, value)) => value.clone(),
        None => b"application/octet-stream".to_vec(),
    };
    let path = request.get_path_with_query().unwrap_or_default();

    let mut headers = vec![
        ("content-type".to_owned(), content_type),
        ("x-echo-method".to_owned(), method(request.get_method()).into_bytes()),
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
