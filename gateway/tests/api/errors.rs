//! Failures of guests and of clients, none of which affects other calls.

use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    client::{FullResponse, Http2, eventually},
    test_gateway::TestGateway,
};

async fn nothing_runs(gateway: &TestGateway) {
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
}

/// Waits until a function's log contains `expected`. Returns the platform's line about the
/// invocation behind `answer`.
async fn reason(
    gateway: &TestGateway,
    name: &str,
    answer: &FullResponse,
    expected: &str,
) -> String {
    let id = answer.header("mayfly-request-id").unwrap();
    let target = format!("/v1/functions/{name}/logs?invocation={id}");
    let what = format!("the log of {name} contains {expected:?}");
    eventually(&what, async || {
        let log = gateway.api(&target).await;
        let lines = log.json()["lines"].as_array().unwrap().iter();
        let system = lines.filter(|line| line["stream"] == "system");
        let said: Vec<&str> = system.map(|line| line["line"].as_str().unwrap()).collect();
        let said = said.join("\n");
        said.contains(expected).then_some(said)
    })
    .await
}

/// Case G22.
#[tokio::test]
async fn a_trap_is_a_bad_gateway_and_the_next_call_is_clean() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-trap").await;

    let failed = gateway.get("/f/t-trap/trap").await;
    assert_eq!(failed.problem(), (502, "function-failed"));
    assert_eq!(
        (&failed.json()["phase"], &failed.json()["fault"]),
        (&"guest".into(), &"function".into())
    );
    assert_eq!(gateway.get("/f/t-trap/").await.plain(), (200, "ok\n"));
    nothing_runs(&gateway).await;
}

/// Case G22.
#[tokio::test]
async fn a_traps_details_are_shown_to_the_owner_and_not_to_the_public() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-trap").await;
    let failed = gateway.get("/f/t-trap/trap").await;
    let reason = reason(&gateway, "t-trap", &failed, "unreachable").await;
    assert!(reason.contains("backtrace"), "{reason}");
    for detail in ["unreachable", "backtrace", "wasm", "0x"] {
        assert!(!failed.text().contains(detail), "{failed:?}");
    }
}

/// Case G01.
#[tokio::test]
async fn an_endless_loop_ends_at_its_cpu_limit() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-loop", &json!({"cpu_ms": 100})).await;
    let failed = gateway.get("/f/t-loop/").await;
    assert_eq!(failed.problem(), (504, "cpu-limit"));
    assert_eq!(failed.json()["fault"], "function");
    assert!(failed.detail().contains("100 ms"), "{failed:?}");
    nothing_runs(&gateway).await;
    assert!(gateway.metric("mayfly_cpu_seconds_total").await >= 0.1);
    let limits = gateway.api("/metrics").await;
    assert!(limits.text().contains(r#"mayfly_limit_hits_total{limit="cpu"} 1"#));
}

/// Case G01.
#[tokio::test]
async fn loops_on_every_core_do_not_starve_other_functions() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-loop", &json!({"cpu_ms": 1000})).await;
    gateway.deploy("c-hello").await;
    let loops: Vec<_> =
        (0..6).map(|_| tokio::spawn(gateway.call(Method::GET, "/f/t-loop/").send())).collect();
    gateway.metric_becomes("mayfly_live_instances", 6.0).await;

    for _ in 0..3 {
        assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
    }
    assert_eq!(gateway.api("/v1/functions").await.status(), 200);
    assert!(!loops.iter().all(tokio::task::JoinHandle::is_finished), "the loops ended too early");
    for answer in join_all(loops).await {
        assert_eq!(answer.unwrap().problem(), (504, "cpu-limit"));
    }
    nothing_runs(&gateway).await;
}

/// Case G25.
#[tokio::test]
async fn a_function_that_does_not_answer_in_time_is_aborted() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-sleep", &json!({"timeout_ms": 100})).await;
    let failed = gateway.get("/f/t-sleep/?ms=250000").await;
    assert_eq!(failed.problem(), (504, "timeout"));
    assert_eq!(failed.json()["fault"], "function");
    reason(&gateway, "t-sleep", &failed, "100ms").await;
    nothing_runs(&gateway).await;
}

/// Case G09.
#[tokio::test]
async fn a_stream_is_aborted_at_the_wall_clock_limit() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("sse", &json!({"timeout_ms": 500})).await;
    let mut stream = gateway.call(Method::GET, "/f/sse/?n=2&ms=250000").open().await;
    assert_eq!(stream.status, 200);
    assert!(stream.try_rest().await.is_err());
    nothing_runs(&gateway).await;
    assert_eq!(gateway.metric("mayfly_responses_aborted_total").await, 1.0);
}

/// Case G09.
#[tokio::test]
async fn a_slow_http2_stream_is_reset_at_the_limit_and_its_connection_stays_open() {
    let gateway = TestGateway::start().await;
    let targets = ["sse/?n=2&ms=250000", "t-hostile-p3/wait?first=10&ms=250000"];
    for name in ["sse", "t-hostile-p3"] {
        gateway.deploy_with(name, &json!({"timeout_ms": 500})).await;
    }
    gateway.deploy("hello").await;
    let connection = Http2::open(gateway.data()).await;
    for target in targets {
        let url = format!("http://{}/f/{target}", gateway.data());
        let response = connection.open_stream(&url).await;
        assert_eq!(response.status(), 200, "{target}");
        let error = response.into_body().collect().await.unwrap_err();
        assert!(format!("{error:?}").contains("INTERNAL_ERROR"), "{target}: {error:?}");
        nothing_runs(&gateway).await;
    }
    let url = format!("http://{}/f/hello/", gateway.data());
    assert_eq!(connection.post(&url, "").await.status(), 200);
    assert_eq!(gateway.metric("mayfly_responses_aborted_total").await, 2.0);
}

/// Case G03.
#[tokio::test]
async fn memory_beyond_the_limit_is_refused_to_the_guest() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-memory", &json!({"memory_bytes": 16 << 20})).await;
    // The guest starts with slightly more than one MiB.
    assert_eq!(gateway.get("/f/t-memory/?mb=8").await.plain(), (200, "8\n"));
    assert_eq!(gateway.get("/f/t-memory/?mb=64").await.plain(), (200, "14\n"));
    nothing_runs(&gateway).await;
}

/// Case G03.
#[tokio::test]
async fn a_guest_that_runs_out_of_memory_is_reported_as_such() {
    let gateway = TestGateway::start().await;
    // Enough for a start, and too little for the response.
    gateway.deploy_with("t-big", &json!({"memory_bytes": 17 * 65_536})).await;
    let failed = gateway.get("/f/t-big/?bytes=1").await;
    assert_eq!(failed.problem(), (502, "memory-limit"));
    assert_eq!(failed.json()["fault"], "function");
    assert!(failed.json()["hint"].as_str().unwrap().contains("memory_bytes"), "{failed:?}");
}

#[tokio::test]
async fn a_limit_below_the_guests_initial_memory_is_the_functions_fault() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let changed = gateway.patch("c-hello", &json!({"settings": {"memory_bytes": 1}})).await;
    assert_eq!(changed.problem(), (422, "start-failed"));
    assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
}

/// Case G24.
#[tokio::test]
async fn a_function_that_returns_without_a_response_or_exits_is_a_bad_gateway() {
    let gateway = TestGateway::start().await;
    for (name, slug, says) in [
        ("t-no-response", "no-response", "without"),
        ("t-exit", "no-response", "exited with an error"),
        ("t-exit-cgi", "no-response", "status 7"),
    ] {
        gateway.deploy(name).await;
        let failed = gateway.get(&format!("/f/{name}/")).await;
        assert_eq!(failed.problem(), (502, slug), "{name}");
        assert_eq!(failed.json()["fault"], "function", "{name}");
        reason(&gateway, name, &failed, says).await;
        assert!(!failed.text().contains(says), "{name}: {failed:?}");
    }
    nothing_runs(&gateway).await;
}

/// Case G07.
#[tokio::test]
async fn an_aborted_response_ends_without_its_last_chunk() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-big", &json!({"response_bytes": 1_000_000})).await;
    for target in ["/f/t-big/?bytes=1000001", "/f/t-big/?bytes=30000000"] {
        let mut socket = tokio::net::TcpStream::connect(gateway.data()).await.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The connection closes: it cannot be used for another request.
        socket.read_to_end(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{target}: {text}");
        assert!(text.contains("\r\ntransfer-encoding: chunked\r\n"), "{target}");
        assert!(text.contains("abcdef"), "{target}: the part before the failure is missing");
        assert!(!text.ends_with("0\r\n\r\n"), "{target}: the last chunk was sent");
    }
    nothing_runs(&gateway).await;
    assert_eq!(gateway.metric("mayfly_responses_aborted_total").await, 2.0);

    let whole = gateway.get("/f/t-big/?bytes=1000000").await;
    assert_eq!((whole.status(), whole.bytes().len()), (200, 1_000_000));
}

/// Case G07.
#[tokio::test]
async fn an_aborted_http2_response_is_reset_and_its_connection_stays_open() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-big", &json!({"response_bytes": 1_000_000})).await;
    let connection = Http2::open(gateway.data()).await;
    let url = format!("http://{}/f/t-big/?bytes=", gateway.data());
    for _ in 0..2 {
        let response = connection.open_stream(&format!("{url}30000000")).await;
        assert_eq!(response.status(), 200);
        let error = response.into_body().collect().await.unwrap_err();
        assert!(format!("{error:?}").contains("INTERNAL_ERROR"), "{error:?}");
    }
    assert_eq!(connection.post(&format!("{url}3"), "").await.plain(), (200, "abc"));
}

/// Case G23.
#[tokio::test]
async fn a_trap_before_a_short_response_is_sent_becomes_a_problem() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-trap-mid").await;
    // Nothing has been sent when the guest traps, so the gateway can send a problem.
    let failed = gateway.get("/f/t-trap-mid/").await;
    assert_eq!(failed.problem(), (502, "function-failed"));
    assert!(!failed.text().contains("the first part"), "{failed:?}");
}

/// Case G08.
#[tokio::test]
async fn a_small_response_that_is_invalid_is_not_sent() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-big", &json!({"response_bytes": 1000})).await;
    assert_eq!(gateway.get("/f/t-big/?bytes=1001").await.problem(), (502, "response-too-large"));
    assert_eq!(gateway.get("/f/t-big/?bytes=1000").await.status(), 200);
    gateway.deploy("t-status").await;
    for length in ["100", "2", "%2b5", "0x5", "5,5", "5%0aContent-Length:%205"] {
        let raw = format!("Content-Type:%20text/plain%0aContent-Length:%20{length}%0a%0ahello");
        let failed = gateway.get(&format!("/f/t-status/?raw={raw}")).await;
        assert_eq!(failed.problem(), (502, "no-response"), "{length}");
    }
    let right = "Content-Type:%20text/plain%0aContent-Length:%205%0a%0ahello";
    let answer = gateway.get(&format!("/f/t-status/?raw={right}")).await;
    assert_eq!(answer.plain(), (200, "hello"));
}

/// Case G30.
#[tokio::test]
async fn a_guest_that_computes_after_its_response_is_aborted() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-after", &json!({"cpu_ms": 30_000})).await;
    let answer = gateway.get("/f/t-after/").await;
    assert_eq!(answer.plain(), (200, "answered\n"));
    nothing_runs(&gateway).await;
    assert!(
        gateway.metric("mayfly_cpu_seconds_total").await < 15.0,
        "it ran nearly to its CPU limit"
    );
}

/// Case G29.
#[tokio::test]
async fn a_client_that_disconnects_ends_its_guest() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("sse", &json!({"timeout_ms": 300_000})).await;
    gateway.deploy_with("t-sleep", &json!({"timeout_ms": 300_000})).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = gateway.call(Method::GET, "/f/sse/?n=2&ms=250000").open().await;
        stream.read(1).await;
        streams.push(stream);
    }
    // One call that has no response yet.
    let waiting = tokio::spawn(gateway.call(Method::GET, "/f/t-sleep/?ms=250000").try_send());
    gateway.metric_becomes("mayfly_live_instances", 6.0).await;

    streams.clear();
    gateway.metric_becomes("mayfly_live_instances", 1.0).await;
    waiting.abort();
    nothing_runs(&gateway).await;
}

#[tokio::test]
async fn a_concurrency_slot_is_held_until_the_body_has_ended() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("sse", &json!({"concurrency": 1, "queue": 0, "timeout_ms": 300_000})).await;
    let mut stream = gateway.call(Method::GET, "/f/sse/?n=2&ms=250000").open().await;
    stream.read(1).await;
    assert_eq!(gateway.get("/f/sse/?n=1").await.problem(), (429, "concurrency-limit"));

    drop(stream);
    nothing_runs(&gateway).await;
    assert_eq!(gateway.get("/f/sse/?n=1").await.plain(), (200, "data: 1\n\n"));
}

#[tokio::test]
async fn a_request_whose_declared_length_is_too_large_is_not_started() {
    let gateway = TestGateway::with(&["limits.request_bytes=100000"]).await;
    for guest in ["echo", "echo-p3", "echo-cgi"] {
        gateway.deploy(guest).await;
        let post =
            |length| gateway.call(Method::POST, &format!("/f/{guest}/")).body(vec![7; length]);
        let refused = post(100_001).send().await;
        assert_eq!(refused.problem(), (413, "request-too-large"), "{guest}");
        assert!(refused.detail().contains("100000"), "{refused:?}");
        assert_eq!(post(100_000).send().await.bytes().len(), 100_000, "{guest}");
    }
}

#[tokio::test]
async fn a_request_that_grows_too_large_is_aborted() {
    let gateway = TestGateway::with(&["limits.request_bytes=100000"]).await;
    for guest in ["echo", "echo-p3", "echo-cgi", "c-echo-cgi"] {
        gateway.deploy(guest).await;
        let (pieces, call) = gateway.call(Method::POST, &format!("/f/{guest}/")).pieces();
        let answer = tokio::spawn(call.try_send());
        // Endless, as fast as the gateway reads.
        while pieces.send(vec![7; 10_000].into()).await.is_ok() {}
        match answer.await.unwrap() {
            Err(_broken) => {}
            Ok(answer) => assert!(answer.status() >= 400, "{guest}: {answer:?}"),
        }
    }
    nothing_runs(&gateway).await;
}

#[tokio::test]
async fn an_interrupted_request_is_never_complete_to_the_guest() {
    let gateway = TestGateway::start().await;
    for guest in ["echo", "echo-p3", "echo-cgi"] {
        gateway.deploy(guest).await;
        let mut socket = tokio::net::TcpStream::connect(gateway.data()).await.unwrap();
        let request =
            format!("POST /f/{guest}/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        // Neither a chunk nor the end of the body.
        socket.write_all(b"3\r\nabc\r\nnonsense\r\n").await.unwrap();
        let mut answer = Vec::new();
        drop(socket.read_to_end(&mut answer).await);
        let text = String::from_utf8_lossy(&answer);
        let complete = text.starts_with("HTTP/1.1 200") && text.ends_with("0\r\n\r\n");
        assert!(!complete, "{guest}: {text}");
    }
    nothing_runs(&gateway).await;
}

#[tokio::test]
async fn many_failures_at_once_leave_nothing_behind() {
    let gateway = Arc::new(TestGateway::start().await);
    for name in ["t-trap", "t-no-response", "t-exit", "t-trap-mid", "c-hello"] {
        gateway.deploy(name).await;
    }
    let calls = (0..300).map(|n| {
        let gateway = Arc::clone(&gateway);
        async move {
            match n % 5 {
                0 => assert_eq!(gateway.get("/f/t-trap/trap").await.status(), 502),
                1 => assert_eq!(gateway.get("/f/t-no-response/").await.status(), 502),
                2 => assert_eq!(gateway.get("/f/t-exit/").await.status(), 502),
                3 => assert_eq!(gateway.get("/f/t-trap-mid/").await.status(), 502),
                _ => assert_eq!(gateway.get("/f/c-hello/").await.status(), 200),
            }
        }
    });
    let calls: Vec<_> = calls.collect();
    // Batches, because one address may have only so many connections.
    let mut calls = calls.into_iter();
    loop {
        let batch: Vec<_> = calls.by_ref().take(100).collect();
        if batch.is_empty() {
            break;
        }
        join_all(batch).await;
    }
    nothing_runs(&gateway).await;
    let functions: Value = gateway.api("/v1/functions").await.json().clone();
    assert_eq!(functions["functions"].as_array().unwrap().len(), 5);
}
