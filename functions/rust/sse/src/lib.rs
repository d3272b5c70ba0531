//! Server-sent events: `GET /?n=5&ms=100` sends five events, the first at once
//! and each of the others 100 milliseconds later. These numbers are the defaults.
//!
//! Kind: `wasi:http` 0.2 component.
//! Build: `cargo build --release --target wasm32-wasip2`

use wasip2::clocks::monotonic_clock;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Events;

wasip2::http::proxy::export!(Events);

impl Guest for Events {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let count = number(&path, "n=").unwrap_or(5);
        let pause_ms = number(&path, "ms=").unwrap_or(100);

        let headers = Fields::from_list(&[
            ("content-type".to_owned(), b"text/event-stream".to_vec()),
            ("cache-control".to_owned(), b"no-cache".to_vec()),
        ])
        .unwrap();
        let response = OutgoingResponse::new(headers);
        let body = response.body().unwrap();
        ResponseOutparam::set(answer, Ok(response));

        let out = body.write().unwrap();
        for event in 1..=count {
            if event > 1 {
                monotonic_clock::subscribe_duration(pause_ms * 1_000_000).block();
            }
            // Flush, so that the event leaves before the next pause.
            let event = format!("data: {event}\n\n");
            if out.blocking_write_and_flush(event.as_bytes()).is_err() {
                return; // the client has gone
            }
        }
        drop(out);
        let _ = OutgoingBody::finish(body, None);
    }
}

fn number(path_with_query: &str, key: &str) -> Option<u64> {
    let (_, query) = path_with_query.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(key))?.parse().ok()
}
