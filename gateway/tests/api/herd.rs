//! Many calls at once of functions that are not in memory.

use std::{fs, sync::Arc};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    client::{Http1, Http2},
    guests::{distinct, guest},
    test_gateway::TestGateway,
};

const HERD: usize = 1_000;
/// The limit of streams on one connection.
const STREAMS: usize = 100;

/// A gateway whose callers may wait in the queue for as long as this machine needs.
async fn patient_gateway(settings: &[&str]) -> TestGateway {
    let patient = [
        "ceilings.queue_wait_ms=300000",
        "limits.queue_wait_ms=300000",
        "limits.timeout_ms=300000",
        "server.in_flight_per_address=2000",
    ];
    TestGateway::with(&[&patient, settings].concat()).await
}

/// Settings with which the whole herd fits into the function's queue.
fn wide() -> Value {
    json!({"concurrency": 64, "queue": HERD})
}

/// Calls a function a thousand times at once; each response must be `body`.
async fn stampede(gateway: &TestGateway, name: &str, body: &str) {
    let url = format!("http://{}/f/{name}/", gateway.data());
    let connections = join_all((0..HERD / STREAMS).map(|_| Http2::open(gateway.data()))).await;
    let calls = (0..HERD).map(|n| connections[n % connections.len()].post(&url, ""));
    for answer in join_all(calls).await {
        assert_eq!(answer.plain(), (200, body));
    }
}

/// Case O03.
#[tokio::test]
async fn a_herd_of_calls_loads_a_cold_function_once() {
    let mut gateway = patient_gateway(&[]).await;
    gateway.deploy_with("hello", &wide()).await;
    gateway.restart().await;
    assert_eq!(gateway.metric("mayfly_resident_functions").await, 0.0);

    stampede(&gateway, "hello", "hello from rust\n").await;

    assert_eq!(gateway.metric("mayfly_load_seconds_count").await, 1.0);
    assert_eq!(gateway.metric("mayfly_compilations_total").await, 0.0);
    assert_eq!(gateway.metric("mayfly_requests_total").await, HERD as f64);
}

/// Case O03.
#[tokio::test]
async fn a_herd_of_calls_compiles_missing_native_code_once() {
    // Only these calls compile it: the gateway does not recompile in the background.
    let mut gateway = patient_gateway(&["compile.renew=false"]).await;
    gateway.deploy_with("c-hello", &wide()).await;
    gateway.terminate();
    assert!(gateway.exit().await.success());
    for file in gateway.files("code") {
        fs::remove_file(file).unwrap();
    }
    gateway.start_again().await;

    stampede(&gateway, "c-hello", "hello from c\n").await;

    assert_eq!(gateway.metric("mayfly_compilations_total").await, 1.0);
    assert_eq!(gateway.metric("mayfly_load_seconds_count").await, 1.0);
}

/// Case O04.
#[tokio::test]
async fn five_hundred_cold_functions_at_once_all_answer_while_a_warm_one_is_served() {
    const COLD: usize = 500;
    let mut gateway = patient_gateway(&["server.connections_per_address=0"]).await;
    gateway.deploy("hello").await;
    // There are only ten different artifacts, so that deploying does not take long. Functions are
    // loaded one by one all the same.
    let wasm = guest("c-hello");
    for number in 0..COLD {
        let artifact = distinct(&wasm, u32::try_from(number % 10).unwrap());
        assert_eq!(gateway.put(&format!("cold-{number}"), artifact).send().await.status(), 201);
    }
    gateway.restart().await;
    let gateway = Arc::new(gateway);

    let mut warm = Http1::open(gateway.data()).await;
    assert_eq!(warm.get("/f/hello/").await.plain(), (200, "hello from rust\n"));
    let calls: Vec<_> = (0..COLD)
        .map(|number| {
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move { gateway.get(&format!("/f/cold-{number}/")).await })
        })
        .collect();
    while calls.iter().any(|call| !call.is_finished()) {
        assert_eq!(warm.get("/f/hello/").await.plain(), (200, "hello from rust\n"));
    }
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap().plain(), (200, "hello from c\n"));
    }
    assert_eq!(gateway.metric("mayfly_load_seconds_count").await, COLD as f64 + 1.0);
    assert_eq!(gateway.metric("mayfly_compilations_total").await, 0.0);
}
