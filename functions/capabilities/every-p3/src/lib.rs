//! Does what tests ask of it by each interface for stores, configuration and logs: WASI 0.3.

use operations::answer;
use protocol::{Asked, response};
use wasip3::{
    exports::http::handler::Guest,
    http::types::{ErrorCode, Fields, Request, Response},
    wit_bindgen::{self, StreamResult},
    wit_future, wit_stream,
};

struct Every;

wasip3::http::service::export!(Every);

impl Guest for Every {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let (_, request_result) = wit_future::new(|| Ok(()));
        let (mut input, _) = Request::consume_body(request, request_result);
        let mut body = Vec::new();
        loop {
            let (result, chunk) = input.read(Vec::with_capacity(64 << 10)).await;
            let StreamResult::Complete(_) = result else { break };
            body.extend(chunk);
        }
        let (status, answer) = response(answer(&Asked::read(&target, body)));
        let (mut output, body) = wit_stream::new();
        let (trailers_sender, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(Fields::new(), Some(body), trailers);
        response.set_status_code(status).unwrap();
        wit_bindgen::spawn_local(async move {
            output.write_all(answer).await;
            drop(output);
            drop(trailers_sender);
        });
        Ok(response)
    }
}
