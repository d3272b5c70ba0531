//! Guests that compute endlessly.

use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use serde_json::json;

use super::{GuestWatch, times};
use crate::test_gateway::TestGateway;

const CPU_MS: u64 = 100;

/// Makes `calls` calls that never end, one after the other. Each must end at its CPU limit and not
/// much later.
async fn ends_at_its_limit(function: &str, target: &str, calls: usize) {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy_with(function, &json!({"cpu_ms": CPU_MS})).await;
    let watch = GuestWatch::begin(&gateway).await;
    let before = gateway.metric("mayfly_cpu_seconds_total").await;
    for _ in 0..calls {
        let answer = gateway.get(target).await;
        assert_eq!(answer.problem(), (504, "cpu-limit"), "{target}");
        assert!(answer.detail().contains("100 ms"), "{answer:?}");
    }
    // This leaves enough room for the canary's CPU time.
    let used = gateway.metric("mayfly_cpu_seconds_total").await - before;
    let least = calls as f64 * CPU_MS as f64 / 1e3;
    assert!((least..2.0 * least + 1.0).contains(&used), "{target}: {calls} calls took {used} s");
    watch.end(&[("cpu-limit", calls)]).await;
    assert!(gateway.metric("mayfly_limit_hits_total").await >= calls as f64);
}

/// Case G01.
#[tokio::test]
async fn a_loop_ends_at_its_limit() {
    ends_at_its_limit("t-loop", "/f/t-loop/", times(10, 200)).await;
}

/// Case G01.
#[tokio::test]
async fn a_loop_of_wasi_0_3_ends_at_its_limit() {
    ends_at_its_limit("t-hostile-p3", "/f/t-hostile-p3/loop", times(5, 200)).await;
}

/// Case G01.
#[tokio::test]
async fn a_loop_of_a_program_ends_at_its_limit() {
    ends_at_its_limit("t-hostile-cgi", "/f/t-hostile-cgi/loop", times(5, 200)).await;
}

/// Case G01.
#[tokio::test]
async fn sixty_four_loops_at_once_end_and_leave_nothing() {
    // However busy the machine is, no loop may reach its wall-clock limit first.
    let gateway = Arc::new(TestGateway::with(&["limits.timeout_ms=300000"]).await);
    gateway.deploy_with("t-loop", &json!({"cpu_ms": CPU_MS})).await;
    let watch = GuestWatch::begin(&gateway).await;
    let loops = (0..64).map(|_| gateway.call(Method::GET, "/f/t-loop/").send());
    for answer in join_all(loops).await {
        assert_eq!(answer.problem(), (504, "cpu-limit"));
    }
    watch.end(&[("cpu-limit", 64)]).await;
}

/// Case G02.
#[tokio::test]
async fn endless_bulk_writes_end_at_their_limit() {
    ends_at_its_limit("t-hostile", "/f/t-hostile/fill", times(10, 1_000)).await;
}

/// Case G26.
#[tokio::test]
async fn polling_what_is_ready_counts_as_computing() {
    ends_at_its_limit("t-hostile", "/f/t-hostile/poll", times(5, 200)).await;
}

#[tokio::test]
async fn a_guest_that_wakes_often_pays_only_for_its_computation() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("sse", &json!({"cpu_ms": CPU_MS})).await;
    // The epoch advances several times between two events.
    let answer = gateway.get("/f/sse/?n=100&ms=20").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().matches("data: ").count(), 100);
    let used = gateway.metric("mayfly_cpu_seconds_total").await;
    assert!(used < 0.1, "100 events took {used} s of CPU time");
}
