//! The same behaviour in every language and of every kind.

use std::time::Instant;

use http::Method;
use serde_json::json;

use crate::{client::Http2, guests::guest, test_gateway::TestGateway};

/// A JavaScript engine takes 15 seconds of CPU time to compile, and compile workers run at a low
/// priority.
const LONG_COMPILATIONS: &[&str] = &["compile.wall_s=1000"];

#[tokio::test]
async fn every_kind_answers_and_is_reported() {
    let gateway = TestGateway::start().await;
    for (name, kind, says) in [
        ("hello", "wasi-http-0.2", "hello from rust\n"),
        ("c-hello", "wasi-http-0.2", "hello from c\n"),
        ("hello-p3", "wasi-http-0.3", "hello from rust\n"),
        ("hello-command", "wasi-command", "hello from rust\n"),
        ("t-command-p3", "wasi-command-0.3", "hello from rust\n"),
        ("hello-cgi", "wasi-preview1", "hello from rust\n"),
        ("c-hello-cgi", "wasi-preview1", "hello from c\n"),
        ("go-hello", "wasi-preview1", "hello from go\n"),
    ] {
        assert_eq!(gateway.deploy(name).await["kind"], kind, "{name}");
        let answer = gateway.get(&format!("/f/{name}/")).await;
        assert_eq!(answer.plain(), (200, says), "{name}");
        assert!(answer.header("content-type").unwrap().starts_with("text/plain"), "{name}");
    }
}

#[tokio::test]
async fn without_the_async_engine_wasi_0_3_is_refused_and_other_kinds_work() {
    let gateway = TestGateway::with(&["pool.async_engine=false"]).await;
    let refused = gateway.put("hello-p3", guest("hello-p3")).send().await;
    assert_eq!(refused.problem(), (422, "async-engine-off"));
    gateway.deploy("hello").await;
    assert_eq!(gateway.get("/f/hello/").await.status(), 200);
}

/// Pseudo-random bytes that do not compress, the same each time.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()[7]
    };
    std::iter::repeat_with(next).take(len).collect()
}

async fn keeps_the_echo_contract(gateway: &TestGateway, name: &str) {
    for (method, length) in [
        (Method::GET, 0),
        (Method::POST, 0),
        (Method::POST, 1),
        (Method::PUT, 100_000),
        (Method::POST, 5_000_000),
    ] {
        let body = noise(length);
        let call = gateway
            .call(method.clone(), &format!("/f/{name}/some/path?a=1&b=x%20y"))
            .header("x-test-one", "1")
            .header("x-test-two", "zwei")
            .header("x-other", "3");
        let call = if length == 0 { call } else { call.header("content-type", "image/x-noise") };
        let answer = call.body(body.clone()).send().await;
        let what = format!("{name} {method} {length}");
        assert_eq!(answer.status(), 200, "{what}");
        let kind = if length == 0 { "application/octet-stream" } else { "image/x-noise" };
        assert_eq!(answer.header("content-type"), Some(kind), "{what}");
        assert_eq!(answer.header("x-echo-method"), Some(method.as_str()), "{what}");
        assert_eq!(answer.header("x-echo-path"), Some("/some/path?a=1&b=x%20y"), "{what}");
        assert_eq!(answer.header("x-test-one"), Some("1"), "{what}");
        assert_eq!(answer.header("x-test-two"), Some("zwei"), "{what}");
        assert_eq!(answer.header("x-other"), None, "{what}");
        assert!(answer.bytes() == body, "{what}: the bodies differ");
    }
}

#[tokio::test]
async fn every_echo_keeps_the_same_contract() {
    let gateway = TestGateway::start().await;
    for name in ["echo", "echo-p3", "echo-cgi", "c-echo-cgi", "go-echo"] {
        gateway.deploy(name).await;
        keeps_the_echo_contract(&gateway, name).await;
    }
}

#[tokio::test]
async fn javascript_keeps_the_echo_contract() {
    let gateway = TestGateway::with(LONG_COMPILATIONS).await;
    assert_eq!(gateway.deploy("js-echo").await["kind"], "wasi-http-0.2");
    keeps_the_echo_contract(&gateway, "js-echo").await;
    assert_eq!(gateway.deploy("js-hello").await["kind"], "wasi-http-0.2");
    assert_eq!(gateway.get("/f/js-hello/").await.plain(), (200, "hello from js\n"));
}

#[tokio::test]
async fn every_echo_streams_both_ways() {
    let gateway = TestGateway::start().await;
    for name in ["echo", "echo-p3", "echo-cgi", "c-echo-cgi", "go-echo"] {
        // Programs would otherwise wait for the end of a body without a length.
        gateway.deploy_with(name, &json!({"stream_body": true})).await;
        let (pieces, call) = gateway.call(Method::POST, &format!("/f/{name}/")).pieces();
        let opened = tokio::spawn(call.open());
        pieces.send("first half, ".into()).await.unwrap();
        let mut stream = opened.await.unwrap();
        assert_eq!(stream.status, 200, "{name}");
        // The second half is sent only after the first half has come back.
        assert_eq!(stream.read(12).await, b"first half, ", "{name}");
        pieces.send("second half".into()).await.unwrap();
        assert_eq!(stream.read(11).await, b"second half", "{name}");
        drop(pieces);
        assert_eq!(stream.rest().await, b"", "{name}");
    }
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
}

#[tokio::test]
async fn events_are_forwarded_as_they_are_written() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("sse", &json!({"timeout_ms": 300_000})).await;
    let begun = Instant::now();
    let mut stream = gateway.call(Method::GET, "/f/sse/?n=3&ms=1500").open().await;
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    let first = stream.read(9).await;
    assert_eq!(first, b"data: 1\n\n", "more than the first event has arrived");
    assert_eq!(stream.rest().await, b"data: 2\n\ndata: 3\n\n");
    assert!(begun.elapsed().as_millis() >= 3000, "the pauses are too short");
}

#[tokio::test]
async fn http2_works_with_prior_knowledge() {
    let gateway = TestGateway::start().await;
    gateway.deploy("echo").await;
    gateway.deploy("sse").await;
    let connection = Http2::open(gateway.data()).await;
    let url = format!("http://{}/f/echo/x", gateway.data());
    let body = noise(1_000_000);
    let calls = (0..10).map(|_| connection.post(&url, body.clone()));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.header("x-echo-path"), Some("/x"));
        assert!(answer.bytes() == body);
    }
    // A stream that continues does not delay the other streams.
    let events = format!("http://{}/f/sse/?n=2&ms=250000", gateway.data());
    let stream = connection.open_stream(&events).await;
    assert_eq!(connection.post(&url, "short").await.plain(), (200, "short"));
    drop(stream);
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
    let host = Http2::open(gateway.data()).await;
    assert_eq!(host.post("http://echo.localhost/y", "by host").await.plain(), (200, "by host"));
}
