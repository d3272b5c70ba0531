//! The limits as operators and owners see them.

use http::Method;
use serde_json::{Value, json};

use crate::test_gateway::TestGateway;

#[tokio::test]
async fn all_limits_are_shown_under_the_names_of_their_settings() {
    let settings =
        ["limits.cpu_ms=77", "ceilings.cpu_ms=88", "guests.random_bytes=99", "pool.instances=12"];
    let gateway = TestGateway::with(&settings).await;
    let limits = gateway.api("/v1/limits").await;
    assert_eq!(limits.status(), 200);
    let limits = limits.json();
    for setting in settings {
        let (key, value) = setting.split_once('=').unwrap();
        let (section, key) = key.split_once('.').unwrap();
        assert_eq!(limits[section][key], value.parse::<u64>().unwrap(), "{setting}");
    }
    let number = |section: &str, key: &str| limits[section][key].as_u64().unwrap();
    assert_eq!(number("limits", "memory_bytes"), 128 << 20);
    assert_eq!(number("guests", "field_bytes"), 64 << 10);
    // What stands for something else is shown as what it stands for.
    assert!(number("pool", "memory_bytes") > 0);
    assert!(number("server", "workers") > 0);
    let only_numbers = |section: &Value| section.as_object().unwrap().values().all(Value::is_u64);
    assert!(limits.as_object().unwrap().values().all(only_numbers), "{limits}");
}

#[tokio::test]
async fn limits_are_for_those_who_may_read() {
    let gateway = TestGateway::start().await;
    let anonymous = gateway.anonymous(Method::GET, "/v1/limits").send().await;
    assert_eq!(anonymous.problem(), (401, "unauthorized"));
    let made = gateway.control(Method::POST, "/v1/tokens");
    let made = made.json(&json!({"name": "reader", "scopes": ["read"]})).send().await;
    let token = made.json()["token"].as_str().unwrap().to_owned();
    let read = gateway.anonymous(Method::GET, "/v1/limits");
    let read = read.header("authorization", &format!("Bearer {token}")).send().await;
    assert_eq!(read.status(), 200);
}

#[tokio::test]
async fn what_an_owner_asks_for_holds_below_the_ceiling() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy_with("c-hello", &json!({"cpu_ms": 5_000, "timeout_ms": 1_000})).await;
    let more = json!({"settings": {"cpu_ms": 30_001}});
    let refused = gateway.patch("c-hello", &more).await;
    assert_eq!(refused.problem(), (422, "bad-settings"));
    assert!(refused.detail().contains("ceilings.cpu_ms"), "{refused:?}");

    // The operator thinks better of it: what was asked for stays, what holds does not.
    gateway.terminate();
    assert!(gateway.exit().await.success());
    gateway.start_with(&["ceilings.cpu_ms=2000"]).await;
    let shown = gateway.show("c-hello").await;
    assert_eq!(shown.json()["settings"]["cpu_ms"], 5_000);
    let limits = &shown.json()["limits"];
    assert_eq!((&limits["cpu_ms"], &limits["timeout_ms"]), (&json!(2_000), &json!(1_000)));
}
