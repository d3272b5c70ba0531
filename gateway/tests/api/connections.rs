//! Clients that are slow, silent or too many, and requests with long heads.

use std::time::Duration;

use http::{Method, Request};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time,
};

use crate::{
    client::{DEADLINE, Http1, Http2, eventually},
    test_gateway::TestGateway,
};

/// Reads from a connection until the gateway closes it.
async fn until_closed(socket: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A reset counts as a close.
    let _ = time::timeout(DEADLINE, socket.read_to_end(&mut said))
        .await
        .expect("the connection stays open");
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn a_connection_without_requests_is_closed() {
    let gateway = TestGateway::with(&["server.idle_timeout_ms=300"]).await;
    gateway.deploy("c-hello").await;
    let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
    socket.write_all(b"GET /f/c-hello/ HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let answer = until_closed(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("hello from c\n"), "{answer}");

    let connection = Http2::open(gateway.data()).await;
    let url = format!("http://{}/f/c-hello/", gateway.data());
    assert_eq!(connection.post(&url, "").await.status(), 200);
    connection.closed().await;
}

#[tokio::test]
async fn a_slow_response_does_not_count_as_idle() {
    let timeouts = ["server.idle_timeout_ms=300", "server.header_timeout_ms=300"];
    let gateway = TestGateway::with(&timeouts).await;
    gateway.deploy("sse").await;
    let mut stream = gateway.call(Method::GET, "/f/sse/?n=3&ms=1000").open().await;
    assert_eq!(stream.rest().await, b"data: 1\n\ndata: 2\n\ndata: 3\n\n");
}

#[tokio::test]
async fn connections_of_one_address_are_limited() {
    let gateway = TestGateway::with(&["server.connections_per_address=2"]).await;
    gateway.deploy("c-hello").await;
    gateway.deploy("sse").await;
    let mut first = Http1::open(gateway.data()).await;
    assert_eq!(first.get("/f/c-hello/").await.status(), 200);
    let mut second = Http1::open(gateway.data()).await;
    assert_eq!(second.get("/f/c-hello/").await.status(), 200);
    // The oldest one without a request makes room.
    let mut third = Http1::open(gateway.data()).await;
    assert_eq!(third.get("/f/c-hello/").await.status(), 200);
    eventually("the first is closed", async || first.is_closed().then_some(())).await;
    assert_eq!(second.get("/f/c-hello/").await.status(), 200);

    let stream = || gateway.call(Method::GET, "/f/sse/?n=2&ms=250000");
    let streams = [stream().open().await, stream().open().await];
    let mut refused = TcpStream::connect(gateway.data()).await.unwrap();
    assert_eq!(until_closed(&mut refused).await, "");

    drop(streams);
    eventually("another connection is accepted", async || {
        let answer = gateway.call(Method::GET, "/f/c-hello/").try_send().await;
        answer.is_ok_and(|answer| answer.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_request_head_has_limits() {
    let gateway = TestGateway::with(&["server.headers=20", "server.header_bytes=16KiB"]).await;
    gateway.deploy("c-hello").await;
    let many: String = (0..21).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("x-long: {}\r\n", "x".repeat(20 << 10));
    for fields in [many, long] {
        let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
        let request = format!("GET /f/c-hello/ HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let answer = until_closed(&mut socket).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}

/// Case G23.
#[tokio::test]
async fn a_broken_response_to_http_1_0_ends_with_a_reset() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-hostile").await;
    gateway.deploy("t-big").await;
    let answer = async |path: &str| {
        let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
        let get = format!("GET {path} HTTP/1.0\r\nhost: a\r\n\r\n");
        socket.write_all(get.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        let end = tokio::time::timeout(DEADLINE, socket.read_to_end(&mut said)).await.unwrap();
        assert!(said.starts_with(b"HTTP/1.0 200 OK\r\n"), "{end:?}");
        end.map_err(|error| error.kind())
    };
    assert!(answer("/f/t-big/?bytes=300000").await.is_ok_and(|bytes| bytes > 300_000));
    let broken = answer("/f/t-hostile/trap?bytes=200000").await;
    assert_eq!(broken, Err(std::io::ErrorKind::ConnectionReset));
}

/// Case H12.
#[tokio::test]
async fn a_head_has_the_same_limit_over_http2_and_ends_no_other_stream() {
    let gateway = TestGateway::start().await;
    gateway.deploy("sse").await;
    gateway.deploy("c-hello").await;
    let client = Http2::open(gateway.data()).await;
    let url = |path: &str| format!("http://{}{path}", gateway.data());
    let long = |bytes| Request::get(url("/f/c-hello/")).header("x-long", "x".repeat(bytes));
    let kept = client.open_stream(&url("/f/sse/?n=2&ms=250000")).await;
    assert_eq!(kept.status(), 200);
    for (bytes, status) in [(40 << 10, 200), (70 << 10, 431), (150 << 10, 431)] {
        let answer = client.send(long(bytes), "").await;
        assert_eq!(answer.status(), status, "{bytes}");
        if status == 431 {
            assert_eq!(answer.problem(), (431, "head-too-large"));
            assert!(answer.text().contains("server.http2_header_bytes"), "{}", answer.text());
        }
    }
    assert!(!client.is_closed());
}

#[tokio::test]
async fn a_request_target_has_a_limit() {
    let gateway = TestGateway::with(&["server.uri_bytes=100"]).await;
    gateway.deploy("c-hello").await;
    let target = |length: usize| format!("{:x<length$}", "/f/c-hello/");
    assert_eq!(gateway.get(&target(100)).await.status(), 200);
    let refused = gateway.get(&target(101)).await;
    assert_eq!(refused.problem().0, 414);
    assert!(refused.detail().contains("100"), "{refused:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_fill_the_gateways_memory() {
    const MOST: usize = 64 << 20;
    let gateway = TestGateway::start().await;
    for guest in ["echo", "echo-p3", "echo-cgi", "c-echo-cgi"] {
        // A program has the whole of a body without a length otherwise.
        let settings =
            if guest.ends_with("cgi") { json!({"stream_body": true}) } else { json!({}) };
        gateway.deploy_with(guest, &settings).await;
        let before = gateway.most_resident_bytes();
        let (pieces, call) = gateway.call(Method::POST, &format!("/f/{guest}/")).pieces();
        let opened = tokio::spawn(call.open());
        pieces.send(vec![1; 64 << 10].into()).await.unwrap();
        let mut stream = opened.await.unwrap();
        // The client does not read, so at some point the gateway stops reading, too. On a busy
        // machine a pause may look like that point. Then the client sends less, and the test is
        // only weaker.
        let mut sent = 64 << 10;
        let pause = Duration::from_millis(500);
        while time::timeout(pause, pieces.send(vec![1; 64 << 10].into())).await.is_ok() {
            sent += 64 << 10;
            assert!(sent < MOST, "{guest}: the gateway takes everything");
        }
        let grown = gateway.most_resident_bytes().saturating_sub(before);
        assert!(grown < 24 << 20, "{guest}: {grown} bytes of memory for {sent} of body");
        drop(pieces);
        assert_eq!(stream.rest().await.len(), sent, "{guest}: the response is incomplete");
    }
}

#[tokio::test]
async fn a_busy_control_plane_refuses_and_the_data_plane_goes_on() {
    let gateway = TestGateway::with(&["server.connections_per_address=0"]).await;
    gateway.deploy("c-hello").await;
    let mut uploads = Vec::new();
    for n in 0..256 {
        let (pieces, put) = gateway.control(Method::PUT, &format!("/v1/functions/f-{n}")).pieces();
        let upload = tokio::spawn(put.try_send());
        pieces.send(vec![0; 10].into()).await.unwrap();
        uploads.push((pieces, upload));
    }
    eventually("all uploads are in progress", async || {
        (gateway.files("tmp").len() == 256).then_some(())
    })
    .await;

    let refused = gateway.api("/v1/functions").await;
    assert_eq!(refused.problem(), (503, "control-overloaded"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
    for probe in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(gateway.api(probe).await.status(), 200, "{probe}");
    }

    for (pieces, upload) in uploads {
        drop(pieces);
        assert_eq!(upload.await.unwrap().unwrap().problem(), (422, "invalid-wasm"));
    }
    assert_eq!(gateway.api("/v1/functions").await.status(), 200);
    gateway.no_uploads_left().await;
}

/// Case G29.
#[tokio::test]
async fn a_client_that_stops_sending_gets_its_answer_within_a_time() {
    let gateway = TestGateway::with(&["server.half_close_ms=5000"]).await;
    gateway.deploy("t-sleep").await;
    gateway.deploy_with("echo", &json!({"timeout_ms": 300_000})).await;
    for request in [
        "GET /f/t-sleep/?ms=300 HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /f/echo/ HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody",
        "GET /f/t-sleep/?ms=1 HTTP/1.1\r\nhost: a\r\n\r\nGET /f/t-sleep/?ms=300 HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(gateway.data()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.unwrap();
        let expected = request.matches("HTTP/1.1").count();
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), expected, "{request}: {answers}");
    }
}

/// Case G29.
#[tokio::test]
async fn the_guest_of_a_client_that_has_stopped_sending_ends_after_that_time() {
    let gateway = TestGateway::with(&["server.half_close_ms=200"]).await;
    gateway.deploy_with("t-sleep", &json!({"timeout_ms": 300_000})).await;
    let mut stream = TcpStream::connect(gateway.data()).await.unwrap();
    let request = "GET /f/t-sleep/?ms=250000 HTTP/1.1\r\nhost: a\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    gateway.metric_becomes("mayfly_live_instances", 1.0).await;
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0);
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
}
