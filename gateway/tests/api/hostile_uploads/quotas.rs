//! The quotas of a node.

use futures_util::future::join_all;
use http::Method;

use crate::{
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
