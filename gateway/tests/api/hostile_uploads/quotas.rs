//! The quotas of a node.

use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::{
    client::eventually,
    guests::{distinct, guest},
    test_gateway::TestGateway,
};

/// Case U17.
#[tokio::test]
async fn the_functions_of_a_node_are_limited_and_revisions_do_not_count() {
    let gateway = TestGateway::with(&["quotas.functions=3"]).await;
    let wasm = guest("c-hello-cgi");
    let answers = join_all((0..8).map(|n| gateway.put(&format!("f-{n}"), wasm.clone()).send()));
    let answers = answers.await;
    assert_eq!(answers.iter().filter(|answer| answer.status() == 201).count(), 3);
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status() != 201).collect();
    for refused in &refused {
        assert_eq!(refused.problem(), (409, "function-quota"));
        assert!(refused.json()["hint"].as_str().unwrap().contains("quotas.functions"));
    }
    let listed = gateway.api("/v1/functions").await.json()["functions"].clone();
    let name = listed[0]["name"].as_str().unwrap().to_owned();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    assert_eq!(gateway.metric("mayfly_uploads_refused_total").await, 5.0);

    assert_eq!(gateway.put(&name, distinct(&wasm, 1)).send().await.status(), 201);
    gateway.control(Method::DELETE, &format!("/v1/functions/{name}")).send().await;
    assert_eq!(gateway.put("another", wasm).send().await.status(), 201);
}

/// Case U17.
#[tokio::test]
async fn the_artifact_bytes_of_a_node_are_limited() {
    let wasm = guest("c-hello-cgi");
    let room = distinct(&wasm, 0).len() * 2 + wasm.len() / 2;
    let gateway = TestGateway::with(&[&format!("quotas.artifact_bytes={room}")]).await;
    for n in 0..2 {
        assert_eq!(gateway.put("greet", distinct(&wasm, n)).send().await.status(), 201);
    }
    let refused = gateway.put("greet", distinct(&wasm, 2)).send().await;
    assert_eq!(refused.problem(), (409, "storage-quota"));
    assert!(refused.json()["hint"].as_str().unwrap().contains("quotas.artifact_bytes"));
    // An artifact that is already stored may be deployed any number of times.
    assert_eq!(gateway.put("other", distinct(&wasm, 0)).send().await.status(), 201);
    assert_eq!(gateway.show("greet").await.json()["revision"], 2);
    gateway.no_uploads_left().await;
}

/// Case U17.
#[tokio::test]
async fn native_code_is_a_cache_of_limited_size() {
    const COUNT: u32 = 3;
    // Less than one file: each compilation removes the others.
    let mut gateway = TestGateway::with(&["quotas.code_bytes=1KiB", "compile.renew=false"]).await;
    let wasm = guest("c-hello-cgi");
    for n in 0..COUNT {
        let put = gateway.put(&format!("f-{n}"), distinct(&wasm, n));
        assert_eq!(put.send().await.status(), 201);
    }
    let is_code = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "cwasm");
    let left = gateway.files("code").iter().filter(|path| is_code(path)).count();
    let removed = gateway.metric("mayfly_native_code_removed_total").await;
    assert_eq!((left, removed), (1, f64::from(COUNT - 1)));
    // What has left is compiled again when it is needed.
    gateway.restart().await;
    for n in 0..COUNT {
        assert_eq!(gateway.get(&format!("/f/f-{n}/")).await.plain(), (200, "hello from c\n"));
    }
    assert!(gateway.metric("mayfly_compilations_total").await >= f64::from(COUNT - 1));
}

/// Case U17.
#[tokio::test]
async fn compilations_for_deploys_are_limited_per_minute_and_calls_still_compile() {
    let mut gateway = TestGateway::with(&["quotas.compiles_per_minute=3"]).await;
    let wasm = guest("c-hello-cgi");
    for n in 0..3 {
        let name = format!("f-{n}");
        assert_eq!(gateway.put(&name, distinct(&wasm, n)).send().await.status(), 201);
    }
    let refused = gateway.put("greet", distinct(&wasm, 3)).send().await;
    assert_eq!(refused.problem(), (429, "compile-quota"));
    assert!(refused.json()["hint"].as_str().unwrap().contains("quotas.compiles_per_minute"));
    assert!((1..=60).contains(&refused.json()["retry_after_s"].as_u64().unwrap()));
    // An upload that needs no compilation does not count, and neither does an invalid one.
    assert_eq!(gateway.put("greet", distinct(&wasm, 0)).send().await.status(), 201);
    assert_eq!(gateway.put("greet", "text").send().await.problem(), (422, "invalid-wasm"));

    // A call recompiles lost native code regardless of the quota.
    gateway.terminate();
    gateway.exit().await;
    std::fs::remove_dir_all(gateway.data_dir().join("code")).unwrap();
    gateway.start_with(&["quotas.compiles_per_minute=0", "compile.renew=false"]).await;
    for n in 0..3 {
        assert_eq!(gateway.get(&format!("/f/f-{n}/")).await.plain(), (200, "hello from c\n"));
    }
    let refused = gateway.put("greet", distinct(&wasm, 9)).send().await;
    assert_eq!(refused.problem(), (429, "compile-quota"));
}

/// Case U17.
#[tokio::test]
async fn the_idempotency_keys_of_a_node_are_limited() {
    let gateway = TestGateway::with(&["quotas.idempotency_keys=2"]).await;
    let wasm = guest("c-hello-cgi");
    let put =
        |n: u32| gateway.put("greet", distinct(&wasm, n)).header("idempotency-key", &n.to_string());
    for n in 0..2 {
        assert_eq!(put(n).send().await.status(), 201);
    }
    let refused = put(2).send().await;
    assert_eq!(refused.problem(), (429, "idempotency-quota"));
    assert!(refused.json()["hint"].as_str().unwrap().contains("quotas.idempotency_keys"));
    assert_eq!(
        gateway.show("greet").await.json()["revision"],
        2,
        "the refused upload must change nothing"
    );
    assert_eq!(put(1).send().await.status(), 201, "a remembered upload must be answered");
    assert_eq!(gateway.put("greet", distinct(&wasm, 2)).send().await.status(), 201);
}

/// Case U17.
#[tokio::test]
async fn the_oldest_inactive_revisions_make_room_and_the_answer_names_them() {
    let gateway = TestGateway::with(&["quotas.revisions_per_function=3"]).await;
    let wasm = guest("c-hello-cgi");
    gateway.put("greet", wasm.clone()).send().await;
    for ms in [101, 102] {
        let changed = gateway.patch("greet", &json!({"settings": {"cpu_ms": ms}})).await;
        assert_eq!(changed.json()["removed_revisions"], json!([]), "{changed:?}");
    }
    let changed = gateway.patch("greet", &json!({"settings": {"cpu_ms": 103}})).await;
    assert_eq!(changed.json()["removed_revisions"], json!([1]), "{changed:?}");
    let deployed = gateway.put("greet", distinct(&wasm, 1)).send().await;
    assert_eq!((deployed.status(), &deployed.json()["removed_revisions"]), (201, &json!([2])));
    let listed = gateway.api("/v1/functions/greet/revisions").await;
    let numbers = listed.json()["revisions"].as_array().unwrap().iter();
    assert_eq!(numbers.map(|r| r["revision"].as_u64().unwrap()).collect::<Vec<_>>(), [5, 4, 3]);
    let activate = "/v1/functions/greet/revisions/1/activate";
    let gone = gateway.control(Method::POST, activate).send().await;
    assert_eq!(gone.problem(), (404, "revision-not-found"));
    assert_eq!(gateway.metric("mayfly_revisions_removed_total").await, 2.0);
    assert_eq!(gateway.get("/f/greet/").await.status(), 200);
}

/// Case U17.
#[tokio::test]
async fn the_settings_of_a_function_and_of_all_functions_are_limited() {
    let settings = ["quotas.settings_bytes=4KiB", "quotas.all_settings_bytes=8KiB"];
    let gateway = TestGateway::with(&settings).await;
    for name in ["one", "two"] {
        gateway.put(name, guest("c-hello-cgi")).send().await;
    }
    let hosts = |count: usize, bytes: usize| -> Value {
        let host = |n: usize| format!("{n:0>bytes$}.example");
        json!({"settings": {"outbound": (0..count).map(host).collect::<Vec<_>>()}})
    };
    for (change, named) in [
        (hosts(65, 3), "outbound: at most 64"),
        (hosts(1, 320), "the limit is 320"),
        (hosts(64, 60), "quotas.settings_bytes"),
    ] {
        let refused = gateway.patch("one", &change).await;
        assert_eq!(refused.problem(), (422, "bad-settings"));
        assert!(refused.detail().contains(named), "{refused:?}");
    }
    assert_eq!(gateway.patch("one", &hosts(64, 30)).await.status(), 200);

    // The environment has a limit of its own, but counts with those of all functions.
    let environment = |bytes: usize| json!({"settings": {"environment": {"A": "x".repeat(bytes)}}});
    let refused = gateway.patch("two", &environment(6_000)).await;
    assert_eq!(refused.problem(), (409, "settings-quota"));
    assert!(refused.json()["hint"].as_str().unwrap().contains("quotas.all_settings_bytes"));
    assert_eq!(gateway.patch("two", &environment(3_000)).await.status(), 200);
    assert_eq!(gateway.patch("two", &environment(2_900)).await.status(), 200, "less is permitted");
    gateway.control(Method::DELETE, "/v1/functions/one").send().await;
    assert_eq!(gateway.patch("two", &environment(6_000)).await.status(), 200);
}

/// Case U17.
#[tokio::test]
async fn settings_that_channels_keep_count_with_those_of_all_functions() {
    let gateway = TestGateway::with(&["quotas.all_settings_bytes=8KiB"]).await;
    let first = gateway.put("one", guest("c-hello-cgi"));
    let large = json!({"environment": {"A": "x".repeat(3_000)}}).to_string();
    assert_eq!(first.header("mayfly-settings", &large).send().await.status(), 201);
    let small = json!({"settings": {"environment": null}});
    assert_eq!(gateway.patch("one", &small).await.status(), 200);
    let set = async |channel: &str, weights: Value| {
        let target = format!("/v1/functions/one/channels/{channel}");
        let to = json!({"revision": 2, "weights": weights});
        gateway.control(Method::PUT, &target).json(&to).send().await
    };
    let large = || json!([{"revision": 1, "percent": 1}]);

    assert_eq!(set("a", large()).await.status(), 200);
    assert_eq!(set("default", large()).await.status(), 200);
    let refused = set("c", large()).await;
    assert_eq!(refused.problem(), (409, "settings-quota"));
    let listed = gateway.api("/v1/functions/one/channels").await;
    assert_eq!(listed.json()["channels"].as_array().unwrap().len(), 2, "nothing was changed");
    assert_eq!(set("a", json!([])).await.status(), 200, "less is permitted");
    assert_eq!(set("c", large()).await.status(), 200);
    let target = "/v1/functions/one/channels/c";
    assert_eq!(gateway.control(Method::DELETE, target).send().await.status(), 204);
    assert_eq!(set("a", large()).await.status(), 200);
    gateway.control(Method::DELETE, "/v1/functions/one").send().await;
    assert_eq!(gateway.put("two", guest("c-hello-cgi")).send().await.status(), 201);
    let other = json!({"settings": {"environment": {"A": "x".repeat(7_900)}}});
    assert_eq!(gateway.patch("two", &other).await.status(), 200, "all of it was given back");
}

/// Case U17.
#[tokio::test]
async fn changes_are_limited_per_minute_whether_they_compile_or_not() {
    let gateway = TestGateway::with(&["quotas.changes_per_minute=4"]).await;
    let wasm = guest("c-hello-cgi");
    assert_eq!(gateway.put("greet", wasm.clone()).send().await.status(), 201);
    // The same bytes again, and the same settings, change nothing.
    assert_eq!(gateway.put("greet", wasm.clone()).send().await.status(), 200);
    let settings = |ms: u64| json!({"settings": {"cpu_ms": ms}});
    assert_eq!(gateway.patch("greet", &settings(100)).await.status(), 200);
    assert_eq!(gateway.patch("greet", &settings(100)).await.status(), 200);
    assert_eq!(gateway.patch("greet", &json!({"description": "a"})).await.status(), 200);
    let activate = || gateway.control(Method::POST, "/v1/functions/greet/revisions/1/activate");
    assert_eq!(activate().send().await.status(), 200);
    for refused in [
        gateway.patch("greet", &settings(200)).await,
        gateway.patch("greet", &json!({"description": "b"})).await,
        activate().send().await,
        gateway.put("other", wasm).send().await,
    ] {
        assert_eq!(refused.problem(), (429, "change-quota"), "{refused:?}");
        assert!(refused.json()["hint"].as_str().unwrap().contains("quotas.changes_per_minute"));
        assert!((1..=60).contains(&refused.json()["retry_after_s"].as_u64().unwrap()));
    }
    assert_eq!(gateway.get("/f/greet/").await.status(), 200);
    let deleted = gateway.control(Method::DELETE, "/v1/functions/greet").send().await;
    assert_eq!(deleted.status(), 204, "a deletion makes room");
}

/// A new token with the scope `deploy`.
async fn deploy_token(gateway: &TestGateway, name: &str) -> String {
    let body = json!({"name": name, "scopes": ["deploy"]});
    let made = gateway.control(Method::POST, "/v1/tokens").json(&body).send().await;
    made.json()["token"].as_str().unwrap().to_owned()
}

/// Case U17.
#[tokio::test]
async fn one_token_leaves_changes_keys_and_labels_to_others() {
    let settings =
        ["quotas.changes_per_minute=16", "quotas.idempotency_keys=8", "metrics.functions=8"];
    let gateway = TestGateway::with(&settings).await;
    let wasm = guest("c-hello-cgi");
    let (greedy, other) =
        (deploy_token(&gateway, "greedy").await, deploy_token(&gateway, "other").await);
    let put = |token: &str, name: String| {
        gateway
            .anonymous(Method::PUT, &format!("/v1/functions/{name}"))
            .header("authorization", &format!("Bearer {token}"))
            .header("content-type", "application/wasm")
            .body(wasm.clone())
    };
    let mut slugs = Vec::new();
    for n in 0..17 {
        let upload = put(&greedy, format!("greedy-{n}"));
        let upload = if n < 8 { upload.header("idempotency-key", &n.to_string()) } else { upload };
        let answer = upload.send().await;
        if answer.status() != 201 {
            slugs.push((n, answer.problem().1.to_owned()));
        }
    }
    let refused = |n: usize, slug: &str| (n, slug.to_owned());
    let expected = [
        refused(7, "idempotency-quota"),
        refused(14, "change-quota"),
        refused(15, "change-quota"),
        refused(16, "change-quota"),
    ];
    assert_eq!(slugs, expected);
    let fine = put(&other, "mine".to_owned()).header("idempotency-key", "mine").send().await;
    assert_eq!(fine.status(), 201, "{fine:?}");

    for name in ["greedy-0", "greedy-13", "mine"] {
        assert_eq!(gateway.get(&format!("/f/{name}/")).await.status(), 200);
    }
    let calls = async |label: &str| {
        gateway.metric_with("mayfly_requests_total", &[("function", label)]).await
    };
    assert_eq!((calls("greedy-0").await, calls("mine").await), (1.0, 1.0));
    assert_eq!(calls("other").await, 1.0, "no label is left for the greedy token's last functions");
    gateway.control(Method::DELETE, "/v1/functions/greedy-0").send().await;
    let gone = async || (calls("greedy-0").await == 0.0).then_some(());
    eventually("the series of the deleted function are gone", gone).await;
}
