//! Trailers, and gRPC, which needs them.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::BodyExt as _;
use tokio::net::TcpStream;

use super::with_each_kind;
use crate::{client::Http2, hostile_clients::said, test_gateway::TestGateway};

async fn over_http1(gateway: &TestGateway, path: &str, headers: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n");
    said(gateway.data(), request.as_bytes()).await
}

/// The body and the trailers of a response over HTTP/2.
async fn over_http2(
    gateway: &TestGateway,
    request: http::request::Builder,
    body: impl Into<Bytes>,
) -> (HeaderMap, Bytes, Option<HeaderMap>) {
    let connection = Http2::open(gateway.data()).await;
    let (head, body) = connection.open_request(request, body).await.into_parts();
    assert_eq!(head.status, 200);
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    (head.headers, body.to_bytes(), trailers)
}

#[tokio::test]
async fn trailers_reach_those_who_can_read_them() {
    let gateway = with_each_kind(&[]).await;
    // With a length, too: chunks are the only place for trailers in HTTP/1.1.
    for (name, more) in [
        ("t-answers", ""),
        ("t-answers-p3", ""),
        ("t-answers", "&header=content-length:5"),
        ("t-answers", "&header=trailer:x-one,%20x-two"),
        ("t-answers", "&header=trailer:x-one,%20x-two&wait=50"),
        ("t-answers-p3", "&header=trailer:x-one,%20x-two&wait=50"),
    ] {
        let path = format!("/f/{name}/?bytes=5&trailer=x-one:1&trailer=x-two:2{more}");
        let with = over_http1(&gateway, &path, "te: gzip;q=0.5, Trailers\r\n").await;
        let (head, body) = with.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {with}");
        assert!(head.contains("\r\ntrailer: x-one, x-two\r\n"), "{path}: {with}");
        assert!(body.ends_with("0\r\nx-one: 1\r\nx-two: 2\r\n\r\n"), "{path}: {with}");

        let without = over_http1(&gateway, &path, "").await;
        assert!(without.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {without}");
        assert!(
            !without.contains("trailer:") && !without.contains("x-one: 1"),
            "{path}: {without}"
        );
        assert!(without.contains("xxxxx"), "{path}: {without}");

        let url = format!("http://{}{path}", gateway.data());
        let (_, body, trailers) = over_http2(&gateway, Request::get(url), "").await;
        assert_eq!(body, "xxxxx", "{path}");
        let trailers = trailers.unwrap_or_else(|| panic!("{path}: no trailers"));
        assert_eq!(
            (&trailers["x-one"], &trailers["x-two"]),
            (&"1".parse().unwrap(), &"2".parse().unwrap())
        );
    }
}

/// Case P11. The guest sends back the trailers that it reads.
#[tokio::test]
async fn no_client_can_say_in_trailers_what_only_the_gateway_says() {
    let gateway = TestGateway::start().await;
    gateway.deploy("echo-p3").await;
    let socket = TcpStream::connect(gateway.data()).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("http://{}/f/echo-p3/", gateway.data())).body(()).unwrap();
    let (response, mut body) = sender.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"body"), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-mine", HeaderValue::from_static("mine"));
    for name in ["mayfly-auth-sub", "mayfly_auth_sub", "x-forwarded-for", "x_forwarded-for"] {
        trailers.insert(name, HeaderValue::from_static("forged"));
    }
    body.send_trailers(trailers).unwrap();
    let mut answer = response.await.unwrap().into_body();
    assert_eq!(answer.data().await.unwrap().unwrap(), "body");
    while let Some(more) = answer.data().await {
        assert_eq!(more.unwrap(), "");
    }
    let seen = answer.trailers().await.unwrap().unwrap();
    assert_eq!((&seen["x-mine"], seen.len()), (&HeaderValue::from_static("mine"), 1), "{seen:?}");
}

/// One message in gRPC's framing.
fn message(bytes: usize) -> Vec<u8> {
    let length = u32::try_from(bytes).unwrap().to_be_bytes();
    [&[0], &length[..], &vec![b'm'; bytes]].concat()
}

#[tokio::test]
async fn grpc_reaches_functions() {
    let gateway = with_each_kind(&[]).await;
    for name in ["t-answers", "t-answers-p3"] {
        for sizes in [vec![], vec![2], vec![0, 5, 100_000, 1]] {
            let messages: Vec<u8> = sizes.iter().flat_map(|bytes| message(*bytes)).collect();
            let request = Request::post(format!("http://{name}.localhost/grpc.Test/Echo"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("grpc-timeout", "5S");
            let (head, body, trailers) = over_http2(&gateway, request, messages.clone()).await;
            assert_eq!(head["content-type"], "application/grpc", "{name}");
            assert!(body == messages, "{name}: {} of {}", body.len(), messages.len());
            let trailers = trailers.unwrap_or_else(|| panic!("{name}: no trailers"));
            assert_eq!(trailers["grpc-status"], "0", "{name}");
            let read = format!("read {}", usize::from(!sizes.is_empty()));
            assert_eq!(trailers["grpc-message"], read.as_str(), "{name}");
        }
        // A failure without a message has its status in the head.
        let failed = format!(
            "http://{name}.localhost/grpc.Test/Fail?header=content-type:application/grpc\
             &header=grpc-status:5&header=grpc-message:none"
        );
        let request = Request::post(failed).header("content-type", "application/grpc");
        let (head, body, trailers) = over_http2(&gateway, request, message(3)).await;
        assert_eq!((&head["grpc-status"], body.len(), trailers), (&"5".parse().unwrap(), 0, None));
    }
}
