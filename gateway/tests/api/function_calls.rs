//! Calls from one function to another.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;

use crate::{
    client::{FullResponse, eventually},
    guests::guest,
    outbound::NameServer,
    test_gateway::TestGateway,
};

/// Guests that make requests as their query asks: WASI 0.2, as component and as core module, and 0.3.
const CALLERS: [&str; 2] = ["t-outbound", "t-outbound-p3"];
const GRANT: &str = "*.mayfly.internal";

async fn fetch(gateway: &TestGateway, url: &str) -> FullResponse {
    gateway.get(&format!("/f/fetch/?url={url}")).await
}

async fn ask(gateway: &TestGateway, caller: &str, query: &str) -> String {
    let answer = gateway.get(&format!("/f/{caller}/?{query}")).await;
    assert_eq!(answer.status(), 200, "{caller}: {query}: {answer:?}");
    answer.text().trim_end().to_owned()
}

fn variable<'a>(response: &'a FullResponse, name: &str) -> Option<&'a str> {
    let mut lines = response.text().lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

/// The status of an answer that the caller has passed on, and the problem in it, which names the request
/// of the function that was called.
fn passed_on(answer: &FullResponse) -> (u16, &str) {
    let problem = answer.json();
    assert_ne!(problem["request_id"].as_str(), answer.header("mayfly-request-id"), "{answer:?}");
    let kind = problem["type"].as_str().unwrap();
    (answer.status(), kind.strip_prefix("urn:mayfly:problem:").unwrap())
}

/// Case F01.
#[tokio::test]
async fn a_function_calls_another_without_a_socket_and_without_a_name_server() {
    let names = NameServer::start(|_, _| vec!["127.0.0.1".parse().unwrap()]).await;
    for settings in [vec![], vec!["pool.core_modules=false"]] {
        let mut settings = settings;
        let setting = names.setting();
        settings.extend([setting.as_str(), "outbound.allow_private=true"]);
        let gateway = TestGateway::with(&settings).await;
        gateway.deploy_with("hello", &json!({"private": true})).await;
        gateway.deploy("t-cgi-env").await;
        gateway.deploy_with("fetch", &json!({"outbound": [GRANT]})).await;
        for caller in CALLERS {
            gateway.deploy_with(caller, &json!({"outbound": ["hello.mayfly.internal"]})).await;
            let ok = ask(&gateway, caller, "to=hello.mayfly.internal&times=3").await;
            assert!(ok.starts_with("3 x 200 "), "{caller}: {ok}");
            let other = ask(&gateway, caller, "to=t-cgi-env.mayfly.internal").await;
            assert_eq!(other, "1 x HttpRequestDenied", "{caller}");
        }
        let direct = gateway.get("/f/hello/").await;
        assert_eq!(direct.problem(), (404, "function-not-found"), "it is private");
        let seen = fetch(&gateway, "http://t-cgi-env.mayfly.internal/a/b?c=d").await;
        assert_eq!(seen.status(), 200, "{seen:?}");
        for (name, value) in [
            ("SERVER_NAME", "t-cgi-env.mayfly.internal"),
            ("PATH_INFO", "/a/b"),
            ("QUERY_STRING", "c=d"),
            ("SCRIPT_NAME", ""),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("HTTP_MAYFLY_CALLER", "fetch"),
            ("HTTP_X_FORWARDED_FOR", "127.0.0.1"),
            ("HTTP_X_FORWARDED_PROTO", "http"),
            ("HTTP_CDN_LOOP", "mayfly"),
        ] {
            assert_eq!(variable(&seen, name), Some(value), "{name}: {seen:?}");
        }
        let outer = seen.header("mayfly-request-id").unwrap();
        assert_eq!(variable(&seen, "HTTP_MAYFLY_CALLER_REQUEST"), Some(outer));
        assert_eq!(gateway.metric("mayfly_internal_calls_total").await, 7.0);
        assert_eq!(gateway.metric("mayfly_outbound_connections").await, 0.0);
    }
    assert_eq!(names.asked(), 0);
}

/// Case F01.
#[tokio::test]
async fn nothing_below_the_domain_of_functions_reaches_a_name_server() {
    let names = NameServer::start(|_, _| vec!["127.0.0.1".parse().unwrap()]).await;
    let gateway = TestGateway::with(&[&names.setting(), "outbound.allow_private=true"]).await;
    gateway.deploy("hello").await;
    let granted = [GRANT, "mayfly.internal", "*.internal", "https://hello.mayfly.internal:8443"];
    for caller in CALLERS {
        gateway.deploy_with(caller, &json!({"outbound": granted})).await;
        for (query, expected) in [
            ("to=absent.mayfly.internal", "1 x 404 "),
            ("to=a.b.mayfly.internal", "1 x 404 "),
            ("to=mayfly.internal", "1 x 404 "),
            ("to=r9--hello.mayfly.internal", "1 x 404 "),
            ("to=r1--hello.mayfly.internal", "1 x 200 "),
            ("to=HELLO.Mayfly.INTERNAL.", "1 x 200 "),
            ("to=hello.mayfly.internal&scheme=https", "1 x HttpRequestUriInvalid"),
            ("to=hello.mayfly.internal:8443&scheme=https", "1 x HttpRequestUriInvalid"),
            ("to=hello.mayfly.internal:81", "1 x HttpRequestDenied"),
        ] {
            let answer = ask(&gateway, caller, query).await;
            assert!(answer.starts_with(expected), "{caller}: {query}: {answer}");
        }
        let only = json!({"settings": {"outbound": ["*.internal", "GET hello.mayfly.internal"]}});
        gateway.patch(caller, &only).await;
        for (query, expected) in [
            ("to=t-env.mayfly.internal", "1 x HttpRequestDenied"),
            ("to=hello.mayfly.internal&method=POST", "1 x HttpRequestDenied"),
            ("to=hello.mayfly.internal", "1 x 200 "),
        ] {
            let answer = ask(&gateway, caller, query).await;
            assert!(answer.starts_with(expected), "{caller}: {query}: {answer}");
        }
    }
    assert_eq!(names.asked(), 0);
}

/// Case F02.
#[tokio::test]
async fn the_function_that_is_called_keeps_its_limits_and_answers_with_problems() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("fetch", &json!({"outbound": [GRANT]})).await;
    gateway.deploy_with("t-loop", &json!({"cpu_ms": 100})).await;
    gateway.deploy_with("t-sleep", &json!({"timeout_ms": 300})).await;
    gateway.deploy_with("echo", &json!({"request_bytes": 10})).await;
    for (function, status, problem) in [
        ("t-loop", 504, "cpu-limit"),
        ("t-sleep", 504, "timeout"),
        ("absent", 404, "function-not-found"),
        ("prod--t-loop", 404, "channel-not-found"),
    ] {
        let answer = fetch(&gateway, &format!("http://{function}.mayfly.internal/?ms=60000")).await;
        assert_eq!(passed_on(&answer), (status, problem), "{function}");
    }
    for caller in CALLERS {
        gateway.deploy_with(caller, &json!({"outbound": [GRANT]})).await;
        for (body, status) in [("short", "200 5"), ("longer-than-that", "413 ")] {
            let query = format!("to=echo.mayfly.internal&method=POST&body={body}");
            let answer = ask(&gateway, caller, &query).await;
            assert!(answer.starts_with(&format!("1 x {status}")), "{caller}: {answer}");
        }
        let short = "to=echo.mayfly.internal&method=POST&body=x&header=content-length:5";
        // With WASI 0.3 the error appears only while the body is sent, when the answer may have begun.
        let answer = ask(&gateway, caller, short).await;
        assert!(answer.ends_with("HttpRequestBodySize"), "{caller}: {answer}");
    }
}

/// Case F03.
#[tokio::test]
async fn circles_of_functions_end() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("fetch", &json!({"outbound": [GRANT], "concurrency": 4})).await;
    gateway.deploy("hello").await;
    // As deep as may be, and one deeper.
    for (passed, expected) in [(7, 200), (8, 508)] {
        let passed = vec!["mayfly"; passed - 1].join(", ");
        let url = "/f/fetch/?url=http://hello.mayfly.internal/";
        let answer = gateway.call(Method::GET, url).header("cdn-loop", &passed).send().await;
        assert_eq!(answer.status(), expected, "{answer:?}");
        if expected == 508 {
            assert_eq!(passed_on(&answer).1, "loop-detected");
        }
    }
    // Itself: the last of the four waits for a slot that those before it hold.
    let itself = "http://fetch.mayfly.internal/?url=".repeat(5);
    let began = Instant::now();
    let full = fetch(&gateway, &format!("{itself}http://hello.mayfly.internal/")).await;
    assert_eq!(passed_on(&full), (429, "concurrency-limit"));
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(gateway.get("/f/hello/").await.status(), 200);
}

/// Case F03.
#[tokio::test]
async fn a_function_with_one_slot_that_calls_itself_is_refused_and_does_not_hang() {
    let gateway = TestGateway::start().await;
    for (queue, wait) in [(0, 50), (10, 200)] {
        let settings = json!({
            "outbound": [GRANT], "concurrency": 1, "queue": queue, "queue_wait_ms": wait,
        });
        let put = gateway.put("fetch", guest("fetch"));
        let put = put.header("mayfly-settings", &settings.to_string()).send().await;
        assert!(put.status() < 300, "{put:?}");
        let began = Instant::now();
        let refused = fetch(&gateway, "http://fetch.mayfly.internal/?url=x").await;
        assert_eq!(passed_on(&refused), (429, "concurrency-limit"));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}

/// Case F04.
#[tokio::test]
async fn the_end_of_the_caller_ends_the_call() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-sleep").await;
    let running = async || gateway.show("t-sleep").await.json()["instances"]["running"].clone();
    for caller in CALLERS {
        // The caller's time for the first byte, its own time, and its client.
        gateway.deploy_with(caller, &json!({"outbound": [GRANT], "timeout_ms": 1_000})).await;
        let slow = "to=t-sleep.mayfly.internal&path=/?ms=60000";
        let first = ask(&gateway, caller, &format!("{slow}&first=200000000")).await;
        assert_eq!(first, "1 x ConnectionReadTimeout", "{caller}");
        let ended = gateway.get(&format!("/f/{caller}/?{slow}")).await;
        assert_eq!(ended.problem(), (504, "timeout"), "{caller}");
        eventually("the call has ended", async || (running().await == 0).then_some(())).await;
        let leaves = gateway.call(Method::GET, &format!("/f/{caller}/?{slow}")).send();
        let _ = tokio::time::timeout(Duration::from_millis(300), leaves).await;
        eventually("the call has ended", async || (running().await == 0).then_some(())).await;
    }
}

/// Case F05.
#[tokio::test]
async fn no_guest_poses_as_another_or_as_the_gateway() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    let route = json!({"host": "x.example", "path": "/*all", "function": "t-cgi-env"});
    let put = gateway.control(Method::PUT, "/v1/routes/x").json(&route).send().await;
    assert_eq!(put.status(), 201, "{put:?}");
    // From outside there is no caller.
    let direct = gateway.call(Method::GET, "/f/t-cgi-env/").header("mayfly-caller", "admin");
    assert_eq!(variable(&direct.send().await, "HTTP_MAYFLY_CALLER"), None);

    // Echoes what it was called with as the length of its answer: equal with and without the fields.
    for caller in CALLERS {
        gateway.deploy_with(caller, &json!({"outbound": [GRANT]})).await;
        let plain = "to=t-cgi-env.mayfly.internal";
        let honest = ask(&gateway, caller, plain).await;
        assert!(honest.starts_with("1 x 200 "), "{honest}");
        for forged in [
            "mayfly-caller:admin",
            "mayfly-auth-sub:admin",
            "mayfly_auth_sub:admin",
            "mayfly-route:x",
            "x-forwarded-for:192.0.2.1",
            "x-forwarded-proto:https",
            "x-forwarded-host:evil",
            "forwarded:for=192.0.2.1",
            "x-real-ip:192.0.2.1",
            "cf-connecting-ip:192.0.2.1",
        ] {
            let answer = ask(&gateway, caller, &format!("{plain}&header={forged}")).await;
            assert_eq!(answer, honest, "{caller}: {forged}");
        }
        let more = ask(&gateway, caller, &format!("{plain}&header=x-own:y")).await;
        assert_ne!(more, honest, "{caller}: other fields arrive");
    }
}

/// Case F06.
#[tokio::test]
async fn a_large_body_passes_and_memory_stays_small() {
    const BYTES: usize = 24 << 20;
    let gateway = TestGateway::with(&["outbound.response_bytes=67108864"]).await;
    gateway.deploy_with("fetch", &json!({"outbound": [GRANT]})).await;
    gateway.deploy("t-big").await;
    let url = format!("http://t-big.mayfly.internal/?bytes={BYTES}");
    let warm = fetch(&gateway, "http://t-big.mayfly.internal/?bytes=1000").await;
    assert_eq!(warm.status(), 200, "{warm:?}");
    gateway.reset_peak();
    let before = gateway.resident_bytes();
    let whole = fetch(&gateway, &url).await;
    assert_eq!((whole.status(), whole.bytes().len()), (200, BYTES));
    let grown = gateway.most_resident_bytes().saturating_sub(before);
    assert!(grown < BYTES as u64 / 2, "{grown}");
    let most = TestGateway::with(&["outbound.response_bytes=1000"]).await;
    most.deploy_with("t-outbound", &json!({"outbound": [GRANT]})).await;
    most.deploy("t-big").await;
    for (bytes, expected) in [
        (1_000, "1 x 200 1000"),
        (100_000, "1 x 200 HTTP response body size exceeds limit: 1000 bytes"),
    ] {
        let query = format!("to=t-big.mayfly.internal&path=/?bytes={bytes}");
        assert_eq!(ask(&most, "t-outbound", &query).await, expected);
    }
}

/// Case F07.
#[tokio::test]
async fn channels_share_and_lead_calls_of_functions_as_they_do_others() {
    const OLD: &str = "hello from c\n";
    const NEW: &str = "hello from rust\n";
    let gateway = TestGateway::start().await;
    for name in ["c-hello", "hello-cgi"] {
        let put =
            gateway.put("greet", guest(name)).header("mayfly-settings", r#"{"private":true}"#);
        assert_eq!(put.send().await.status(), 201);
    }
    gateway.deploy_with("fetch", &json!({"outbound": [GRANT]})).await;
    for (channel, to) in [
        ("default", json!({"revision": 1, "weights": [{"revision": 2, "percent": 50}]})),
        ("beta", json!({"revision": 2})),
    ] {
        let target = format!("/v1/functions/greet/channels/{channel}");
        let set = gateway.control(Method::PUT, &target).json(&to).send().await;
        assert_eq!(set.status(), 200, "{set:?}");
    }
    let (mut old, mut new) = (0, 0);
    for _ in 0..64 {
        let answer = fetch(&gateway, "http://greet.mayfly.internal/").await;
        match answer.plain() {
            (200, OLD) => old += 1,
            (200, NEW) => new += 1,
            other => panic!("{other:?}"),
        }
    }
    // Fewer than 8 of 64 halves: once in two billion runs.
    assert!(old >= 8 && new >= 8, "{old} {new}");
    for (host, says) in [("beta--greet", NEW), ("r1--greet", OLD), ("r2--greet", NEW)] {
        let answer = fetch(&gateway, &format!("http://{host}.mayfly.internal/")).await;
        assert_eq!(answer.plain(), (200, says), "{host}");
    }
    let labels = [("function", "greet"), ("channel", "default")];
    let counted = gateway.metric_with("mayfly_channel_requests_total", &labels).await;
    assert_eq!(counted, 64.0);
}
