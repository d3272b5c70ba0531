//! The API: its responses and its changes. Access to it is tested in `auth`.

use http::Method;
use serde_json::{Value, json};

use crate::{
    client::eventually,
    guests::{distinct, guest},
    test_gateway::TestGateway,
};

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let gateway = TestGateway::start().await;
    let wasm = guest("c-hello");
    let mut names: Vec<String> = (0..7).map(|n| format!("f-{n}")).collect();
    for name in names.iter().rev() {
        assert_eq!(gateway.put(name, wasm.clone()).send().await.status(), 201);
    }
    for limit in [1, 2, 3, 7, 8] {
        let mut read = Vec::new();
        let mut target = format!("/v1/functions?limit={limit}");
        loop {
            let page = gateway.api(&target).await.json().clone();
            let functions = page["functions"].as_array().unwrap();
            assert!(functions.len() <= limit);
            read.extend(functions.iter().map(|view| view["name"].as_str().unwrap().to_owned()));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            target = format!("/v1/functions?limit={limit}&cursor={cursor}");
        }
        assert_eq!(read, names, "pages of {limit}");
    }
    names.clear();
    for query in ["limit=x", "limit=-1", "page=2"] {
        let refused = gateway.api(&format!("/v1/functions?{query}")).await;
        assert_eq!(refused.problem(), (400, "bad-query"), "{query}");
    }
}

#[tokio::test]
async fn revisions_are_kept_and_an_old_one_can_be_activated_again() {
    let gateway = TestGateway::start().await;
    for (revision, name) in [(1, "c-hello"), (2, "hello-cgi"), (3, "t-env")] {
        let made = gateway.put("greet", guest(name)).send().await;
        assert_eq!(made.json()["revision"], revision);
    }
    let revisions = async || gateway.api("/v1/functions/greet/revisions").await.json().clone();
    let shown = |page: &Value, field: &str| -> Vec<Value> {
        page["revisions"].as_array().unwrap().iter().map(|one| one[field].clone()).collect()
    };
    let page = revisions().await;
    assert_eq!(shown(&page, "revision"), [3, 2, 1]);
    assert_eq!(shown(&page, "active"), [true, false, false]);
    assert_eq!(shown(&page, "kind"), ["wasi-http-0.2", "wasi-preview1", "wasi-http-0.2"]);

    let activate = async |revision: &str| {
        let target = format!("/v1/functions/greet/revisions/{revision}/activate");
        gateway.control(Method::POST, &target).send().await
    };
    for (revision, says) in [(1, "hello from c\n"), (2, "hello from rust\n"), (1, "hello from c\n")]
    {
        let activated = activate(&revision.to_string()).await;
        assert_eq!((activated.status(), &activated.json()["revision"]), (200, &revision.into()));
        assert_eq!(gateway.get("/f/greet/").await.plain(), (200, says));
        assert_eq!(gateway.show("greet").await.json(), activated.json());
    }
    assert_eq!(shown(&revisions().await, "active"), [false, false, true]);
    assert_eq!(activate("4").await.problem(), (404, "revision-not-found"));
    assert_eq!(activate("0").await.problem(), (404, "revision-not-found"));
    assert_eq!(activate("first").await.problem(), (400, "bad-query"));
    let missing = "/v1/functions/missing/revisions";
    assert_eq!(gateway.api(missing).await.problem(), (404, "function-not-found"));
    let activate = gateway.control(Method::POST, &format!("{missing}/1/activate")).send().await;
    assert_eq!(activate.status(), 404);

    // The next upload gets the next number after the newest revision, whichever is active.
    let made = gateway.put("greet", distinct(&guest("c-hello"), 1)).send().await;
    assert_eq!(made.json()["revision"], 4);
}

#[tokio::test]
async fn a_merge_patch_changes_settings_at_once() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-env").await;
    let patch =
        async |settings: Value| gateway.patch("t-env", &json!({"settings": settings})).await;

    let changed = patch(json!({"environment": {"A": "1", "B": "2"}, "cpu_ms": 500})).await;
    assert_eq!((changed.status(), &changed.json()["revision"]), (200, &2.into()));
    assert_eq!(changed.json()["limits"]["cpu_ms"], 500);
    assert_eq!(gateway.get("/f/t-env/").await.plain(), (200, "A=1\nB=2\n"));

    let changed = patch(json!({"environment": {"A": null, "C": "3"}, "cpu_ms": null})).await;
    assert_eq!(changed.json()["settings"], json!({"environment": {"B": "2", "C": "3"}}));
    assert_eq!(changed.json()["limits"]["cpu_ms"], 1000);
    assert_eq!(gateway.get("/f/t-env/").await.plain(), (200, "B=2\nC=3\n"));

    // A patch that changes nothing creates no revision.
    let same = patch(json!({"environment": {"B": "2"}})).await;
    assert_eq!((same.status(), &same.json()["revision"]), (200, &3.into()));
    assert_eq!(gateway.show("t-env").await.json(), same.json());
    assert_eq!(gateway.metric("mayfly_compilations_total").await, 1.0);
}

#[tokio::test]
async fn a_description_is_set_and_reset_without_a_revision() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let described = gateway.patch("c-hello", &json!({"description": "says hello"})).await;
    assert_eq!(described.json()["description"], "says hello");
    assert_eq!(described.json()["revision"], 1);
    let kept = gateway.patch("c-hello", &json!({})).await;
    assert_eq!(kept.json()["description"], "says hello");
    let reset = gateway.patch("c-hello", &json!({"description": null})).await;
    assert_eq!(reset.json()["description"], "");
}

#[tokio::test]
async fn invalid_settings_are_refused_by_name() {
    let gateway =
        TestGateway::with(&["ceilings.cpu_ms=2000", "ceilings.memory_bytes=256MiB"]).await;
    gateway.deploy("t-env").await;
    for (settings, says) in [
        (json!({"colour": "red"}), "colour"),
        (json!({"cpu_ms": 2001}), "ceilings.cpu_ms"),
        (json!({"memory_bytes": (256 << 20) + 1}), "ceilings.memory_bytes"),
        (json!({"timeout_ms": u64::MAX}), "ceilings.timeout_ms"),
        (json!({"concurrency": 0}), "concurrency"),
        (json!({"cpu_ms": -1}), "-1"),
        (json!({"cpu_ms": "fast"}), "fast"),
        (json!({"environment": {"A=B": "1"}}), "A=B"),
        (json!({"environment": {"": "1"}}), "environment"),
        (json!({"environment": {"A": "x".repeat(40_000)}}), "setting environment_bytes"),
        (json!({"environment_bytes": 65_537}), "ceilings.environment_bytes"),
        (json!({"request_bytes": (10_u64 << 30) + 1}), "ceilings.request_bytes"),
        (json!({"log_bytes": (1 << 20) + 1}), "ceilings.log_bytes"),
        (json!({"queue_wait_ms": 10_001}), "ceilings.queue_wait_ms"),
        (json!({"outbound": ["not a host"]}), "outbound"),
        (json!(5), "5"),
    ] {
        let refused = gateway.patch("t-env", &json!({"settings": settings})).await;
        assert_eq!(refused.problem(), (422, "bad-settings"), "{says}: {refused:?}");
        assert!(refused.detail().contains(says), "{says}: {refused:?}");
    }
    let metrics = gateway.api("/metrics").await;
    let counted = "mayfly_control_problems_total{type=\"bad-settings\"} 16";
    assert!(metrics.text().contains(counted), "{counted}");
    for body in [json!({"colour": "red"}), json!({"description": 5}), json!("x")] {
        let refused = gateway.patch("t-env", &body).await;
        assert_eq!(refused.problem(), (400, "bad-json"), "{body}");
    }
    assert_eq!(gateway.patch("missing", &json!({})).await.problem(), (404, "function-not-found"));
    assert_eq!(gateway.show("t-env").await.json()["revision"], 1);
    assert_eq!(gateway.get("/f/t-env/").await.status(), 200);
}

#[tokio::test]
async fn a_deleted_function_is_gone_and_its_name_is_free() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let delete = async || gateway.control(Method::DELETE, "/v1/functions/c-hello").send().await;
    let deleted = delete().await;
    assert_eq!(deleted.plain(), (204, ""));
    assert_eq!(gateway.get("/f/c-hello/").await.problem(), (404, "function-not-found"));
    assert_eq!(gateway.show("c-hello").await.problem(), (404, "function-not-found"));
    let logs = gateway.api("/v1/functions/c-hello/logs").await;
    assert_eq!(logs.problem(), (404, "function-not-found"));
    assert_eq!(delete().await.problem(), (404, "function-not-found"));
    gateway.metric_becomes("mayfly_resident_functions", 0.0).await;

    assert_eq!(gateway.deploy("c-hello").await["revision"], 1);
    assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
}

#[tokio::test]
async fn an_artifact_is_returned_byte_for_byte() {
    let gateway = TestGateway::start().await;
    let (first, second) = (guest("go-hello"), guest("c-hello"));
    for wasm in [&first, &second] {
        gateway.put("greet", wasm.clone()).send().await;
    }
    let artifact = "/v1/functions/greet/artifact";
    let now = gateway.api(artifact).await;
    assert!(now.status() == 200 && now.bytes() == second, "the active revision");
    assert_eq!(now.header("content-type"), Some("application/wasm"));
    let before = gateway.api(&format!("{artifact}?revision=1")).await;
    assert!(before.status() == 200 && before.bytes() == first, "an older revision");
    assert_ne!(now.header("etag"), before.header("etag"));

    let tag = now.header("etag").unwrap().to_owned();
    let again =
        |tag: &str| gateway.control(Method::GET, artifact).header("if-none-match", tag).send();
    for tags in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let unchanged = again(&tags).await;
        assert_eq!(unchanged.plain(), (304, ""), "{tags}");
        assert_eq!(unchanged.header("etag"), Some(tag.as_str()), "{tags}");
    }
    assert_eq!(again("\"other\"").await.status(), 200);
    let unknown = gateway.api(&format!("{artifact}?revision=3")).await;
    assert_eq!(unknown.problem(), (404, "revision-not-found"));
    let missing = gateway.api("/v1/functions/missing/artifact").await;
    assert_eq!(missing.problem(), (404, "function-not-found"));
}

#[tokio::test]
async fn unknown_resources_and_methods_are_answered_with_problems() {
    let gateway = TestGateway::start().await;
    for target in ["/", "/v1", "/v1/function", "/v2/functions", "/v1/functions/a/b"] {
        assert_eq!(gateway.api(target).await.problem(), (404, "resource-not-found"), "{target}");
    }
    for (method, target) in [
        (Method::POST, "/v1/functions"),
        (Method::POST, "/v1/functions/a"),
        (Method::GET, "/v1/functions/a/revisions/1/activate"),
        (Method::POST, "/metrics"),
    ] {
        let refused = gateway.control(method, target).send().await;
        assert_eq!(refused.problem(), (405, "method-not-allowed"), "{target}");
    }
}

#[tokio::test]
async fn a_json_body_has_a_limit() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let long = json!({"description": "x".repeat(300 << 10)});
    assert_eq!(gateway.patch("c-hello", &long).await.problem().0, 413);
}

#[tokio::test]
async fn function_labels_in_metrics_are_bounded() {
    let gateway = TestGateway::with(&["metrics.functions=2"]).await;
    let wasm = guest("c-hello");
    for n in 0..4 {
        gateway.put(&format!("f-{n}"), wasm.clone()).send().await;
        gateway.get(&format!("/f/f-{n}/")).await;
    }
    // A request for a function that does not exist adds no series.
    gateway.get("/f/missing/").await;
    let metrics = gateway.api("/metrics").await;
    let mut labels: Vec<&str> = metrics
        .text()
        .lines()
        .filter_map(|line| {
            line.strip_prefix("mayfly_requests_total{function=\"")?.split('"').next()
        })
        .collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels, ["f-0", "f-1", "other"]);
    assert_eq!(gateway.metric("mayfly_requests_total").await, 4.0);
}

#[tokio::test]
async fn a_token_in_a_path_is_not_in_the_log_and_a_long_path_is_cut() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let secret = "0123456789abcdef".repeat(4);
    let token = format!("mfy_0011223344556677_{secret}");
    for target in [
        format!("/v1/functions/{token}"),
        format!("/{token}/x"),
        format!("/v1/%6dfy_0011223344556677_{secret}"),
        // Not valid, so that it is refused before it is decoded.
        format!("/{token}/%zz"),
    ] {
        assert!(gateway.api(&target).await.status() >= 400, "{target}");
    }
    // The data plane logs no path.
    for target in [format!("/f/c-hello/{token}"), format!("/f/{token}"), format!("/{token}")] {
        gateway.get(&target).await;
    }
    let long = format!("/v1/{}", "a/".repeat(3_000));
    assert_eq!(gateway.api(&long).await.status(), 404);
    eventually("the last request is in the log", async || {
        gateway.log().contains("/v1/a/a/").then_some(())
    })
    .await;
    let log = gateway.log();
    assert!(!log.contains(&secret), "{log}");
    assert!(log.contains("/v1/functions/mfy_…"), "{log}");
    let longest = log.lines().map(str::len).max().unwrap();
    assert!(longest < 1_000, "a line of {longest} bytes");
}
