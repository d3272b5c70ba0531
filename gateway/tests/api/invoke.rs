//! From an address to a function: the guest's view of a request, and the client's view of the
//! response.

use http::Method;
use serde_json::json;

use crate::{client::Http1, test_gateway::TestGateway};

/// The line of `t-headers` that begins with `name`.
fn seen<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test]
async fn a_path_routes_to_the_function_which_sees_the_rest_of_the_path() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-headers").await;
    for (target, path) in [
        ("/f/t-headers", "/"),
        ("/f/t-headers/", "/"),
        ("/f/t-headers/a/b", "/a/b"),
        ("/f/t-headers/a%20b/%c3%A9?x=1&y=%41&z", "/a%20b/%C3%A9?x=1&y=%41&z"),
        ("/f/t-headers?x=1", "/?x=1"),
        ("/f/t-headers//a", "//a"),
        ("/f/t-headers/f/t-headers/", "/f/t-headers/"),
    ] {
        let answer = gateway.get(target).await;
        assert_eq!(seen(answer.text(), "path"), Some(path), "{target}");
        assert_eq!(answer.header("mayfly-outcome"), Some("function"));
    }
}

#[tokio::test]
async fn a_host_routes_to_the_function_which_sees_the_whole_path() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-headers").await;
    let port = gateway.data().port();
    for host in
        [&format!("t-headers.localhost:{port}"), "t-headers.localhost", "T-Headers.LocalHost"]
    {
        let call = gateway.call(Method::GET, "/f/other/a?x=1").header("host", host);
        let answer = call.send().await;
        assert_eq!(answer.status(), 200, "{host}: {answer:?}");
        assert_eq!(seen(answer.text(), "path"), Some("/f/other/a?x=1"), "{host}");
        assert_eq!(seen(answer.text(), "authority"), Some(host), "{host}");
    }
}

#[tokio::test]
async fn the_function_sees_method_headers_and_authority_as_they_were_sent() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-headers").await;
    let answer = gateway
        .call(Method::from_bytes(b"PURGE").unwrap(), "/f/t-headers/")
        .header("host", "example.com:81")
        .header("x-one", "1")
        .header("x-two", "a")
        .header("x-two", "b")
        .send()
        .await;
    for (name, value) in [
        ("method", "PURGE"),
        ("scheme", "HTTP"),
        ("authority", "example.com:81"),
        ("x-one", "1"),
        ("x-two", "a"),
    ] {
        assert_eq!(seen(answer.text(), name), Some(value), "{}", answer.text());
    }
    assert!(answer.text().contains("x-two: a\nx-two: b\n"), "{}", answer.text());
}

#[tokio::test]
async fn a_request_that_names_no_function_is_told_how_to_name_one() {
    let gateway = TestGateway::start().await;
    for target in ["/", "/f/", "/f", "/x", "/f/Hello/", "/f/a_b/", "/F/hello/"] {
        let answer = gateway.get(target).await;
        assert_eq!(answer.problem(), (404, "no-route"), "{target}");
    }
    for target in ["/f/hello", "/f/hello/x"] {
        let answer = gateway.get(target).await;
        assert_eq!(answer.problem(), (404, "function-not-found"), "{target}");
        assert!(answer.detail().contains("hello"), "{answer:?}");
    }
}

#[tokio::test]
async fn requests_on_one_connection_have_distinct_ids() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let mut connection = Http1::open(gateway.data()).await;
    let mut names = std::collections::HashSet::new();
    for target in ["/f/c-hello/", "/f/nothing/", "/f/c-hello/", "/"] {
        let answer = connection.get(target).await;
        let name = answer.header("mayfly-request-id").unwrap();
        assert!(name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        assert!(names.insert(name.to_owned()), "{name} twice");
    }
}

#[tokio::test]
async fn a_functions_own_error_passes_unchanged_and_cannot_imitate_the_gateways() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-status").await;
    let answer = gateway.get("/f/t-status/?status=503").await;
    assert_eq!(answer.plain(), (503, "as asked\n"));
    assert_eq!(answer.header("mayfly-outcome"), Some("function"));

    let forged = "Content-Type: text/plain%0aMayfly-Outcome: platform%0aMayfly-Request-Id: 1%0a%0a";
    let answer = gateway.get(&format!("/f/t-status/?raw={}", forged.replace(' ', "%20"))).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("mayfly-outcome"), Some("function"));
    assert_eq!(answer.header("mayfly-request-id").map(str::len), Some(32));
}

#[tokio::test]
async fn head_is_answered_without_a_body() {
    let gateway = TestGateway::start().await;
    for guest in ["echo", "echo-cgi", "echo-p3"] {
        gateway.deploy(guest).await;
        let answer = gateway.call(Method::HEAD, &format!("/f/{guest}/")).send().await;
        assert_eq!(answer.plain(), (200, ""), "{guest}");
        assert_eq!(answer.header("x-echo-method"), Some("HEAD"), "{guest}");
    }
}

/// Case O01.
#[tokio::test]
async fn a_full_gateway_refuses_at_once_and_streams_count() {
    let gateway = TestGateway::with(&["server.in_flight=1"]).await;
    gateway.deploy("sse").await;
    let mut stream = gateway.call(Method::GET, "/f/sse/?n=2&ms=250000").open().await;
    stream.read(1).await;

    let refused = gateway.get("/f/sse/?n=1").await;
    assert_eq!(refused.problem(), (503, "overloaded"));
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(
        gateway.api("/v1/functions").await.status(),
        200,
        "the control plane has limits of its own"
    );

    drop(stream);
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
    crate::client::eventually("a call is admitted again", async || {
        (gateway.get("/f/sse/?n=1").await.status() == 200).then_some(())
    })
    .await;
}

/// Case O05.
#[tokio::test]
async fn a_full_pool_refuses_at_once() {
    let gateway = TestGateway::with(&["pool.instances=1"]).await;
    gateway.deploy("sse").await;
    gateway.deploy("c-hello").await;
    let mut stream = gateway.call(Method::GET, "/f/sse/?n=2&ms=250000").open().await;
    stream.read(1).await;

    let refused = gateway.get("/f/c-hello/").await;
    assert_eq!(refused.problem(), (503, "instance-limit"));
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
}

/// Case O01.
#[tokio::test]
async fn a_function_without_a_free_slot_and_without_a_queue_refuses_at_once() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-sleep", &json!({"concurrency": 1, "queue": 0})).await;
    let first = tokio::spawn(gateway.call(Method::GET, "/f/t-sleep/?ms=3000").send());
    gateway.metric_becomes("mayfly_live_instances", 1.0).await;

    let refused = gateway.get("/f/t-sleep/?ms=0").await;
    assert_eq!(refused.problem(), (429, "concurrency-limit"));
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(first.await.unwrap().status(), 200);
    assert_eq!(gateway.get("/f/t-sleep/?ms=0").await.status(), 200);
}

#[tokio::test]
async fn a_queued_call_is_served_when_a_slot_is_free() {
    let gateway =
        TestGateway::with(&["limits.queue_wait_ms=100000", "ceilings.queue_wait_ms=100000"]).await;
    gateway.deploy_with("t-sleep", &json!({"concurrency": 1, "queue": 8})).await;
    let calls: Vec<_> = (0..8)
        .map(|_| tokio::spawn(gateway.call(Method::GET, "/f/t-sleep/?ms=20").send()))
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().plain(), (200, "slept\n"));
    }
}
