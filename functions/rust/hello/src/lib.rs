//! The smallest useful function in Rust: answers 200 with a line of text.
//!
//! Kind: `wasi:http` 0.2 component.
//! Build: `cargo build --release --target wasm32-wasip2`

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(_request: IncomingRequest, answer: ResponseOutparam) {
        let headers =
            Fields::from_list(&[("content-type".to_owned(), b"text/plain".to_vec())]).unwrap();
        let response = OutgoingResponse::new(headers);
        let body = response.body().unwrap();

        // The head leaves here; whatever is written afterwards streams.
        ResponseOutparam::set(answer, Ok(response));

        let out = body.write().unwrap();
        out.blocking_write_and_flush(b"hello from rust\n").unwrap();
        drop(out); // a body can only be finished once its stream is gone
        OutgoingBody::finish(body, None).unwrap();
    }
}
