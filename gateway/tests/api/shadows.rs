//! Shadows: copies of a channel's requests to another revision, whose answers are dropped.

use std::cell::RefCell;

use http::Method;
use serde_json::{Value, json};

use crate::{
    client::{FullResponse, eventually},
    guests::guest,
    test_gateway::TestGateway,
};

const REAL: &str = "hello from rust\n";

/// A CGI program that writes its environment and its body to its log.
fn logs_all() -> Vec<u8> {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "environ_sizes_get"
            (func $sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read"
            (func $read (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 3)
        (data (i32.const 16) "content-type: text/plain\n\nlogged\n")
        (data (i32.const 80) "\n")
        (func $say (param $stream i32) (param $at i32) (param $bytes i32)
            (i32.store (i32.const 0) (local.get $at))
            (i32.store (i32.const 4) (local.get $bytes))
            (drop (call $write (local.get $stream) (i32.const 0) (i32.const 1) (i32.const 8))))
        (func (export "_start")
            (drop (call $sizes (i32.const 8) (i32.const 12)))
            (drop (call $get (i32.const 1024) (i32.const 65536)))
            (call $say (i32.const 2) (i32.const 65536) (i32.load (i32.const 12)))
            (i32.store (i32.const 0) (i32.const 131072))
            (i32.store (i32.const 4) (i32.const 65536))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (call $say (i32.const 2) (i32.const 131072) (i32.load (i32.const 8)))
            (call $say (i32.const 2) (i32.const 80) (i32.const 1))
            (call $say (i32.const 1) (i32.const 16) (i32.const 33))))"#;
    wat::parse_str(text).unwrap()
}

/// A gateway whose function `greet` has `real` as revision 1 and `shadow` as revision 2, with copies.
async fn shadowed(settings: &[&str], real: Vec<u8>, shadow: Vec<u8>, methods: &str) -> TestGateway {
    let gateway = TestGateway::with(settings).await;
    for bytes in [real, shadow] {
        assert_eq!(gateway.put("greet", bytes).send().await.status(), 201);
    }
    let shadow = json!({"revision": 2, "percent": 100, "methods": methods});
    let made = put(&gateway, json!({"revision": 1, "shadow": shadow})).await;
    assert_eq!((made.status(), &made.json()["shadow"]), (200, &shadow), "{made:?}");
    gateway
}

async fn put(gateway: &TestGateway, to: Value) -> FullResponse {
    let target = "/v1/functions/greet/channels/default";
    gateway.control(Method::PUT, target).json(&to).send().await
}

async fn copies(gateway: &TestGateway, outcome: &str) -> f64 {
    let labels = [("role", "shadow"), ("outcome", outcome)];
    gateway.metric_with("mayfly_channel_requests_total", &labels).await
}

/// Calls until a copy has had this outcome: a busy machine makes none.
async fn call_until(gateway: &TestGateway, outcome: &str, call: impl AsyncFn()) {
    let what = format!("a copy is {outcome}");
    let reached = async || {
        call().await;
        (copies(gateway, outcome).await > 0.0).then_some(())
    };
    eventually(&what, reached).await;
}

/// Waits for a line of the function's log that contains all of these texts.
async fn line_with(gateway: &TestGateway, texts: &[&str]) -> Value {
    eventually(&format!("a line has {texts:?}"), async || {
        let lines = gateway.log_lines("greet", 0).await;
        let has_all = |line: &Value| {
            let line = line["line"].as_str().unwrap();
            texts.iter().all(|text| line.contains(text))
        };
        lines.into_iter().find(has_all)
    })
    .await
}

/// Case R13.
#[tokio::test]
async fn copies_go_to_the_shadow_marked_and_their_answers_are_dropped() {
    let gateway = shadowed(&[], guest("hello-cgi"), logs_all(), "safe").await;
    let id = |text: &str| u128::from_str_radix(text, 16).unwrap();
    let requests = RefCell::new(Vec::new());
    call_until(&gateway, "ok", async || {
        let answer = gateway.get("/f/greet/a?b=c").await;
        assert_eq!(answer.plain(), (200, REAL));
        requests.borrow_mut().push(id(answer.header("mayfly-request-id").unwrap()));
    })
    .await;
    let marked = "HTTP_MAYFLY_SHADOW=1";
    let line = line_with(&gateway, &[marked, "PATH_INFO=/a", "QUERY_STRING=b=c"]).await;
    assert_eq!(line["revision"], 2);
    let shadow = id(line["invocation"].as_str().unwrap());
    assert!(requests.borrow().contains(&(shadow ^ 1)), "{line}");

    // A client cannot say so itself.
    let told = gateway.call(Method::GET, "/f/greet@2/told").header("mayfly-shadow", "1");
    assert_eq!(told.send().await.plain(), (200, "logged\n"));
    let line = line_with(&gateway, &["PATH_INFO=/told"]).await;
    assert!(!line.to_string().contains("MAYFLY_SHADOW"), "{line}");
    // What may change something is not done twice.
    for _ in 0..5 {
        let post = gateway.call(Method::POST, "/f/greet/").body("x").send().await;
        assert_eq!(post.plain(), (200, REAL));
    }
    eventually("a HEAD is copied", async || {
        assert_eq!(gateway.call(Method::HEAD, "/f/greet/").send().await.status(), 200);
        let lines = gateway.log_lines("greet", 0).await;
        lines.iter().any(|line| line.to_string().contains("=HEAD")).then_some(())
    })
    .await;
    let lines = gateway.log_lines("greet", 0).await;
    assert!(lines.iter().all(|line| !line.to_string().contains("=POST")), "{lines:?}");
}

/// Case R13.
#[tokio::test]
async fn bodies_are_copied_up_to_a_limit_while_the_function_reads_them() {
    let settings = ["server.shadow_body_bytes=8"];
    let gateway = shadowed(&settings, guest("echo-cgi"), logs_all(), "all").await;
    let post = async |body: &'static str| {
        let answer = gateway.call(Method::POST, "/f/greet/").body(body).send().await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert!(answer.text().contains(body), "{answer:?}");
    };
    call_until(&gateway, "ok", async || post("copied-8").await).await;
    let line = line_with(&gateway, &["MAYFLY_SHADOW"]).await;
    assert!(line["line"].as_str().unwrap().ends_with("copied-8"), "{line}");
    call_until(&gateway, "dropped-large", async || post("larger-by-1").await).await;
    let lines = gateway.log_lines("greet", 1).await;
    assert!(lines.iter().all(|line| !line.to_string().contains("larger")), "{lines:?}");
}

/// Case R13.
#[tokio::test]
async fn a_shadow_that_sleeps_or_fails_is_not_felt() {
    let settings = ["server.shadow_calls=1"];
    let gateway = shadowed(&settings, guest("hello-cgi"), guest("t-sleep"), "safe").await;
    for _ in 0..5 {
        // Longer than a call may take: the first copy ends when its time is up.
        assert_eq!(gateway.get("/f/greet/?ms=600000").await.plain(), (200, REAL));
    }
    assert!(copies(&gateway, "dropped-busy").await >= 4.0);

    let gateway = shadowed(&[], guest("hello-cgi"), guest("t-trap"), "safe").await;
    call_until(&gateway, "failed", async || {
        assert_eq!(gateway.get("/f/greet/trap").await.plain(), (200, REAL));
    })
    .await;
    // With one slot, the shadow leaves it to callers of the revision.
    let settings = json!({"concurrency": 1});
    let shadow = json!({"revision": 2, "percent": 100});
    let to = json!({"revision": 1, "shadow": shadow, "settings": settings});
    assert_eq!(put(&gateway, to).await.status(), 200);
    call_until(&gateway, "dropped-busy", async || {
        assert_eq!(gateway.get("/f/greet/").await.plain(), (200, REAL));
    })
    .await;
}

/// Case R13.
#[tokio::test]
async fn what_cannot_be_a_shadow_is_refused() {
    let gateway = shadowed(&[], guest("hello-cgi"), guest("t-trap"), "safe").await;
    for (shadow, says) in [
        (json!({"revision": 9, "percent": 1}), "no revision 9"),
        (json!({"revision": 2, "percent": 0}), "a percent is from 1 to 100"),
        (json!({"revision": 2, "percent": 1, "methods": "POST"}), "must be `safe` or `all`"),
    ] {
        let refused = put(&gateway, json!({"revision": 1, "shadow": shadow})).await;
        assert_eq!(refused.problem(), (422, "bad-channel"), "{refused:?}");
        assert!(refused.detail().contains(says), "{refused:?}");
    }
    let set = ["channel", "set", "greet", "default", "--revision", "1", "--shadow", "2=5"];
    let output = gateway.cli(&[&set[..], &["--shadow-all-methods"]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let channels = gateway.api("/v1/functions/greet/channels").await;
    let shadow = json!({"revision": 2, "percent": 5, "methods": "all"});
    assert_eq!(channels.json()["channels"][0]["shadow"], shadow);
}
