//! The hello function for WASI 0.3: the handler is an async function that
//! returns its response.
//!
//! Kind: `wasi:http` 0.3 component.
//! Build: `cargo build --release --target wasm32-wasip2`

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

struct Hello;

wasip3::http::service::export!(Hello);

impl Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let headers =
            Fields::from_list(&[("content-type".to_owned(), b"text/plain".to_vec())]).unwrap();
        let (mut body, body_stream) = wit_stream::new();
        // Trailers: dropping the sender at once sends the default, none.
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(headers, Some(body_stream), trailers);

        // The body is written after this function has returned the head.
        wit_bindgen::spawn_local(async move {
            body.write_all(b"hello from rust\n".to_vec()).await;
        });
        Ok(response)
    }
}
