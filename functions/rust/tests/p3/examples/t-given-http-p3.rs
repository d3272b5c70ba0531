//! Answers with the file that the request's path names, of those that the function was given.

use std::fs;

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

struct Given;

wasip3::http::service::export!(Given);

impl Guest for Given {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        let content = fs::read(&path).unwrap_or_else(|error| format!("{error}\n").into_bytes());
        let (mut body, body_stream) = wit_stream::new();
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(Fields::new(), Some(body_stream), trailers);
        wit_bindgen::spawn_local(async move {
            body.write_all(content).await;
        });
        Ok(response)
    }
}
