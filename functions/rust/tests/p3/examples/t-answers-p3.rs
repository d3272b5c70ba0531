//! `t-answers` for WASI 0.3: answers as its query asks, with the same words.

use tests_p3::plan::values;
use wasip3::clocks::monotonic_clock;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_bindgen::{self, StreamResult};
use wasip3::{wit_future, wit_stream};

struct Answers;

wasip3::http::service::export!(Answers);

impl Guest for Answers {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        Ok(match target.split('?').next().unwrap_or_default() {
            "/told" => whole(told(&request)),
            "/grpc.Test/Echo" => echo(request),
            _ => as_asked(&target),
        })
    }
}

fn as_asked(target: &str) -> Response {
    let one = |key: &str| values(target, key).into_iter().next().unwrap_or_default();
    let number = |key: &str| one(key).parse().unwrap_or(0_u64);
    let (bytes, wait, end) = (number("bytes") as usize, number("wait"), one("end"));
    let trailers = fields(target, "trailer");
    let (mut body, stream) = wit_stream::new();
    let (ended, trailing) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(fields(target, "header"), Some(stream), trailing);
    if let Ok(status) = one("status").parse() {
        response.set_status_code(status).unwrap();
    }
    wit_bindgen::spawn_local(async move {
        if wait > 0 {
            monotonic_clock::wait_for(wait * 1_000_000).await;
        }
        body.write_all(vec![b'x'; bytes]).await;
        while end == "never" && body.write_all(vec![b'y'; 1000]).await.is_empty() {}
        if end == "early" {
            std::process::exit(0);
        }
        drop(body);
        let trailers = (!trailers.copy_all().is_empty()).then_some(trailers);
        let _ = ended.write(Ok(trailers)).await;
        if end == "exit" {
            std::process::exit(0);
        }
    });
    response
}

fn fields(target: &str, key: &str) -> Fields {
    let fields = Fields::new();
    for pair in values(target, key) {
        let (name, value) = pair.split_once(':').unwrap();
        fields.append(name, value.as_bytes()).unwrap();
    }
    fields
}

fn told(request: &Request) -> String {
    let mut lines = format!(
        "scheme: {:?}\nauthority: {}\npath: {}\n",
        request.get_scheme().unwrap(),
        request.get_authority().unwrap_or_default(),
        request.get_path_with_query().unwrap_or_default(),
    );
    for (name, value) in request.get_headers().copy_all() {
        lines.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(&value)));
    }
    lines
}

fn whole(text: String) -> Response {
    let (mut body, stream) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(stream), trailers);
    wit_bindgen::spawn_local(async move {
        body.write_all(text.into_bytes()).await;
    });
    response
}

fn echo(request: Request) -> Response {
    let (_, result) = wit_future::new(|| Ok(()));
    let (mut messages, _) = Request::consume_body(request, result);
    let headers =
        Fields::from_list(&[("content-type".to_owned(), b"application/grpc".to_vec())]).unwrap();
    let (mut body, stream) = wit_stream::new();
    let (ended, trailing) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, Some(stream), trailing);
    wit_bindgen::spawn_local(async move {
        let mut count = 0_u32;
        loop {
            let (result, piece) = messages.read(Vec::with_capacity(64 << 10)).await;
            let StreamResult::Complete(_) = result else { break };
            count += 1;
            body.write_all(piece).await;
        }
        drop(body);
        let trailers = Fields::new();
        trailers.append("grpc-status", b"0").unwrap();
        let message = format!("read {}", count.min(1));
        trailers.append("grpc-message", message.as_bytes()).unwrap();
        let _ = ended.write(Ok(Some(trailers))).await;
    });
    response
}
