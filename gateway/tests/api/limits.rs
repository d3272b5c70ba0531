//! The limits as operators and owners see them.

use http::Method;
use serde_json::{Value, json};

use crate::{client::eventually, test_gateway::TestGateway};

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
    // A setting whose default is derived is shown with its effective value.
    assert!(number("pool", "memory_bytes") > 0);
    assert!(number("server", "workers") > 0);
    let only_numbers = |section: &Value| section.as_object().unwrap().values().all(Value::is_u64);
    let mut sections = limits.as_object().unwrap().iter().filter(|(name, _)| *name != "machine");
    assert!(sections.all(|(_, section)| only_numbers(section)), "{limits}");
}

#[tokio::test]
async fn the_api_the_log_and_the_metrics_agree_about_the_machine() {
    let gateway = TestGateway::start().await;
    let machine = eventually("the compiler's sandbox is probed", async || {
        let machine = gateway.api("/v1/limits").await.json()["machine"].clone();
        machine["sandbox"].is_object().then_some(machine)
    });
    let machine = machine.await;
    let metrics = gateway.api("/metrics").await;
    for (kind, is_active) in machine["sandbox"].as_object().unwrap() {
        let is_active = u8::from(is_active.as_bool().unwrap());
        let line = format!("mayfly_compile_sandbox{{kind=\"{kind}\"}} {is_active}");
        assert!(metrics.text().contains(&line), "{line}");
    }
    for kind in ["no_new_privs", "seccomp", "landlock"] {
        assert!(machine["sandbox"][kind].is_boolean(), "{kind}");
    }
    assert_eq!(machine["sandbox_reached"], json!([]));
    let reset = format!("\"reset\":{}", machine["instances_reset_by"]);
    assert!(gateway.log().contains(&reset), "{reset}");
}

#[tokio::test]
async fn reading_the_limits_needs_a_token_that_may_read() {
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
async fn an_owners_setting_holds_below_the_ceiling() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy_with("c-hello", &json!({"cpu_ms": 5_000, "timeout_ms": 1_000})).await;
    let more = json!({"settings": {"cpu_ms": 30_001}});
    let refused = gateway.patch("c-hello", &more).await;
    assert_eq!(refused.problem(), (422, "bad-settings"));
    assert!(refused.detail().contains("ceilings.cpu_ms"), "{refused:?}");

    // The operator lowers the ceiling: the function's setting stays, and its limit falls.
    gateway.terminate();
    assert!(gateway.exit().await.success());
    gateway.start_with(&["ceilings.cpu_ms=2000"]).await;
    let shown = gateway.show("c-hello").await;
    assert_eq!(shown.json()["settings"]["cpu_ms"], 5_000);
    let limits = &shown.json()["limits"];
    assert_eq!((&limits["cpu_ms"], &limits["timeout_ms"]), (&json!(2_000), &json!(1_000)));
}

#[tokio::test]
async fn an_owner_may_raise_or_lower_each_default() {
    let gateway = TestGateway::with(&[
        "limits.request_bytes=1000",
        "ceilings.request_bytes=2000",
        "limits.environment_bytes=100",
        "ceilings.environment_bytes=200",
        "limits.log_bytes=1000",
        "limits.queue_wait_ms=10000",
    ])
    .await;
    gateway.deploy("echo").await;
    let post = async |bytes: usize| {
        gateway.call(Method::POST, "/f/echo/").body(vec![7; bytes]).send().await
    };
    let settings = async |name: &str, settings: Value| {
        gateway.patch(name, &json!({ "settings": settings })).await
    };
    let refused = post(1001).await;
    assert_eq!(refused.problem(), (413, "request-too-large"));
    assert_eq!(refused.json()["hint"], "Raise the function's setting `request_bytes`.");
    assert_eq!(settings("echo", json!({"request_bytes": 2000})).await.status(), 200);
    assert_eq!(post(2000).await.bytes().len(), 2000);
    assert_eq!(post(2001).await.problem(), (413, "request-too-large"));

    let refused = settings("echo", json!({"environment": {"A": "x".repeat(100)}})).await;
    assert_eq!(refused.problem(), (422, "bad-settings"));
    assert!(refused.detail().contains("environment_bytes"), "{refused:?}");
    let more = json!({"environment": {"A": "x".repeat(199)}, "environment_bytes": 200});
    assert_eq!(settings("echo", more).await.status(), 200);
    // The default would be too little for the present environment.
    let less = settings("echo", json!({"environment_bytes": null})).await;
    assert_eq!(less.problem(), (422, "bad-settings"));

    gateway.deploy_with("t-logs", &json!({"log_bytes": 0})).await;
    gateway.get("/f/t-logs/?n=10").await;
    let lines = eventually("the log reports the dropped output", async || {
        let lines = gateway.log_lines("t-logs", 1).await;
        (!lines.is_empty()).then_some(lines)
    });
    let lines = lines.await;
    assert_eq!((lines.len(), &lines[0]["stream"]), (1, &json!("system")), "{lines:?}");

    // The queue wait is zero: with a single slot the second call is refused at once.
    let alone = json!({"concurrency": 1, "queue": 1, "queue_wait_ms": 0, "timeout_ms": 200_000});
    gateway.deploy_with("t-sleep", &alone).await;
    let first = tokio::spawn(gateway.call(Method::GET, "/f/t-sleep/?ms=100000").send());
    gateway.metric_becomes("mayfly_live_instances", 1.0).await;
    let refused = gateway.get("/f/t-sleep/?ms=0").await;
    assert_eq!(refused.problem(), (429, "concurrency-limit"));
    assert!(refused.json()["hint"].as_str().unwrap().contains("queue_wait_ms"));
    first.abort();

    let shown = gateway.show("echo").await.json()["limits"].clone();
    assert_eq!((&shown["request_bytes"], &shown["environment_bytes"]), (&2000.into(), &200.into()));
    let shown = gateway.show("t-sleep").await.json()["limits"].clone();
    assert_eq!((&shown["queue_wait_ms"], &shown["log_bytes"]), (&0.into(), &1000.into()));
}

#[tokio::test]
async fn the_operators_min_warm_holds_where_the_owner_sets_none() {
    let gateway = TestGateway::with(&["limits.min_warm=2", "ceilings.min_warm=3"]).await;
    gateway.deploy("t-counter").await;
    gateway.metric_becomes("mayfly_warm_instances", 2.0).await;
    assert_eq!(gateway.show("t-counter").await.json()["limits"]["min_warm"], 2);
    let more = gateway.patch("t-counter", &json!({"settings": {"min_warm": 3}})).await;
    assert_eq!(more.json()["limits"]["min_warm"], 3);
    gateway.metric_becomes("mayfly_warm_instances", 3.0).await;
}

#[tokio::test]
async fn a_body_is_written_in_pieces_no_larger_than_the_setting() {
    let gateway = TestGateway::with(&["guests.body_chunk_bytes=1KiB"]).await;
    for guest in ["c-echo-cgi", "echo-cgi"] {
        gateway.deploy(guest).await;
        let call = gateway.call(Method::POST, &format!("/f/{guest}/")).body(vec![7; 300_000]);
        let mut answer = call.open().await;
        // The part of the body that comes with the head is sent in one piece.
        let mut bytes = answer.read(1).await.len();
        while bytes < 300_000 {
            let piece = answer.read(1).await.len();
            // The guest may write once more while less than one full piece is buffered.
            assert!(piece < 2 << 10, "{guest}: {piece}");
            bytes += piece;
        }
    }
}
