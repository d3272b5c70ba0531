//! Counts the requests that this instance has seen, and answers with the count:
//! it rises when one instance serves several requests. Its start-up, for a
//! snapshot, sets the count to 100.

use std::sync::atomic::{AtomicU64, Ordering};

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

static SEEN: AtomicU64 = AtomicU64::new(0);

#[unsafe(export_name = "wizer-initialize")]
pub extern "C" fn prepare() {
    SEEN.store(100, Ordering::Relaxed);
}

struct Counter;

wasip3::http::service::export!(Counter);

impl Guest for Counter {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let count = SEEN.fetch_add(1, Ordering::Relaxed) + 1;

        let headers =
            Fields::from_list(&[("content-type".to_owned(), b"text/plain".to_vec())]).unwrap();
        let (mut body, body_stream) = wit_stream::new();
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(headers, Some(body_stream), trailers);
        wit_bindgen::spawn_local(async move {
            body.write_all(format!("{count}\n").into_bytes()).await;
        });
        Ok(response)
    }
}
