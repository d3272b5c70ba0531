//! Functions that loop endlessly, and the calls beside them.

use futures_util::future::join_all;
use http::Method;
use serde_json::json;

use crate::{client::Http1, test_gateway::TestGateway};

/// A metric's value for one function.
async fn of_function(gateway: &TestGateway, metric: &str, function: &str) -> f64 {
    let metrics = gateway.api("/metrics").await;
    let start = format!("{metric}{{function=\"{function}\"");
    let lines = metrics.text().lines().filter(|line| line.starts_with(&start));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Case G01.
#[tokio::test]
async fn fifty_loops_end_at_their_cpu_limit_without_failing_other_calls() {
    // However busy the machine is, no loop may reach its wall-clock limit first.
    let gateway = TestGateway::with(&["limits.timeout_ms=300000"]).await;
    gateway.deploy_with("t-loop", &json!({"cpu_ms": 200})).await;
    gateway.deploy("hello").await;
    let loops: Vec<_> =
        (0..50).map(|_| tokio::spawn(gateway.call(Method::GET, "/f/t-loop/").send())).collect();
    gateway.metric_becomes("mayfly_live_instances", 50.0).await;

    let mut connection = Http1::open(gateway.data()).await;
    let mut answers = 0;
    while loops.iter().any(|one| !one.is_finished()) {
        assert_eq!(connection.get("/f/hello/").await.plain(), (200, "hello from rust\n"));
        answers += 1;
    }
    assert!(answers > 50, "{answers} answers beside ten CPU seconds of loops");

    for answer in join_all(loops).await {
        let answer = answer.unwrap();
        assert_eq!(answer.problem(), (504, "cpu-limit"));
        assert!(answer.detail().contains("200 ms"), "{answer:?}");
    }
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
    let looped = of_function(&gateway, "mayfly_cpu_seconds_total", "t-loop").await;
    assert!((10.0..20.0).contains(&looped), "50 loops of 200 ms took {looped} s");
}

#[tokio::test]
async fn a_loop_whose_client_has_disconnected_ends_long_before_its_cpu_limit() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-loop", &json!({"cpu_ms": 30_000})).await;
    let loops: Vec<_> =
        (0..10).map(|_| tokio::spawn(gateway.call(Method::GET, "/f/t-loop/").try_send())).collect();
    gateway.metric_becomes("mayfly_live_instances", 10.0).await;
    for one in loops {
        one.abort();
    }
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
    let used = gateway.metric("mayfly_cpu_seconds_total").await;
    assert!(used < 150.0, "ten loops of 30 s were ended after {used} s");
}
