//! An application of axum: routes, parameters of paths and queries, and JSON.

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query},
    http::{Request, StatusCode},
    routing::{get, post},
};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use tower::ServiceExt as _;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

tests_http::serve!(handle);

#[derive(Deserialize)]
struct Times {
    times: usize,
}

#[derive(Deserialize, Serialize)]
struct Sum {
    numbers: Vec<i64>,
    #[serde(default)]
    sum: i64,
}

fn application() -> Router {
    Router::new()
        .route("/", get(async || "hello from axum\n"))
        .route(
            "/hello/{name}",
            get(async |Path(name): Path<String>, Query(Times { times }): Query<Times>| {
                format!("hello, {name}\n").repeat(times)
            }),
        )
        .route(
            "/sum",
            post(async |Json(mut sum): Json<Sum>| {
                sum.sum = sum.numbers.iter().sum();
                (StatusCode::CREATED, Json(sum))
            }),
        )
}

fn handle(request: IncomingRequest, answer: ResponseOutparam) {
    let response = futures::executor::block_on(async {
        let response = application().oneshot(converted(request)).await.expect("it never fails");
        let (head, body) = response.into_parts();
        (head, body.collect().await.expect("it is in memory").to_bytes())
    });
    let (head, body) = response;
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect();
    let outgoing = OutgoingResponse::new(Fields::from_list(&headers).unwrap());
    outgoing.set_status_code(head.status.as_u16()).unwrap();
    let outgoing_body = outgoing.body().unwrap();
    ResponseOutparam::set(answer, Ok(outgoing));
    let stream = outgoing_body.write().unwrap();
    let _ = tests_http::write(&stream, &body);
    let _ = stream.blocking_flush();
    drop(stream);
    let _ = OutgoingBody::finish(outgoing_body, None);
}

/// The request in the types that axum knows, with its whole body.
fn converted(request: IncomingRequest) -> Request<Body> {
    let method = match request.method() {
        Method::Post => "POST",
        _ => "GET",
    };
    let target = request.path_with_query().unwrap_or_default();
    let mut converted = Request::builder().method(method).uri(target);
    for (name, value) in request.headers().entries() {
        converted = converted.header(name, value);
    }
    let body = request.consume().unwrap();
    let stream = body.stream().unwrap();
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(chunk) => bytes.extend(chunk),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(_)) => break,
        }
    }
    converted.body(Body::from(bytes)).unwrap()
}
