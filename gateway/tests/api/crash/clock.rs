//! A clock that jumps forward and back by more than a year while calls run.

use std::fs;

use http::Method;
use serde_json::json;

use crate::{
    guests::{distinct, guest},
    test_gateway::TestGateway,
};

/// Case C10.
#[tokio::test]
async fn a_clock_jump_ends_no_call_and_expires_tokens_and_keys() {
    let dir = tempfile::tempdir().unwrap();
    let offset = dir.path().join("offset");
    fs::write(&offset, "+0").unwrap();
    let gateway = TestGateway::with_a_clock_from(&offset).await;
    gateway.deploy("c-hello").await;
    gateway.deploy("t-sleep").await;
    let wasm = guest("c-hello-cgi");
    let wanted = json!({"name": "t", "scopes": ["read"], "expires_in_s": 3600});
    let made = gateway.control(Method::POST, "/v1/tokens").json(&wanted).send().await;
    let bearer = format!("Bearer {}", made.json()["token"].as_str().unwrap());
    let with_token = async || {
        let list = gateway.anonymous(Method::GET, "/v1/functions");
        list.header("authorization", &bearer).send().await.status()
    };
    assert_eq!(with_token().await, 200);
    let named = |n: u32| gateway.put("named", distinct(&wasm, n)).header("idempotency-key", "k");
    assert_eq!(named(0).send().await.status(), 201);

    for (n, (jump, token)) in [("+400d", 401), ("-400d", 200), ("+0", 200)].into_iter().enumerate()
    {
        let sleeper = tokio::spawn(gateway.call(Method::GET, "/f/t-sleep/?ms=1500").send());
        gateway.metric_becomes("mayfly_live_instances", 1.0).await;
        fs::write(&offset, jump).unwrap();
        let slept = sleeper.await.unwrap();
        assert_eq!(slept.status(), 200, "{jump}: a call in flight: {slept:?}");
        for _ in 0..20 {
            assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"), "{jump}");
        }
        let name = format!("f-{n}");
        let deployed = gateway.put(&name, distinct(&wasm, 10 + n as u32)).send().await;
        assert_eq!(deployed.status(), 201, "{jump}: {deployed:?}");
        assert_eq!(gateway.get(&format!("/f/{name}/")).await.status(), 200, "{jump}");
        assert_eq!(with_token().await, token, "{jump}");
    }
    // A year later the idempotency key had expired; setting the clock back does not undo that.
    fs::write(&offset, "+400d").unwrap();
    assert_eq!(named(1).send().await.status(), 201);
    let loops = gateway.metric("mayfly_live_instances").await;
    assert_eq!(loops, 0.0, "an instance missed its deadline");
}
