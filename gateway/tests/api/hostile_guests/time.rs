//! Guests that measure time.

use std::sync::Arc;

use serde_json::json;

use super::{GuestWatch, times};
use crate::test_gateway::TestGateway;

/// Case G31.
#[tokio::test]
async fn clocks_stand_still_while_a_guest_computes() {
    let gateway = Arc::new(TestGateway::start().await);
    for name in ["t-hostile", "t-hostile-p3", "t-hostile-cgi"] {
        gateway.deploy_with(name, &json!({"cpu_ms": 30_000, "timeout_ms": 300_000})).await;
    }
    let reads = times(200_000, 1_000_000);
    let watch = GuestWatch::begin(&gateway).await;
    for (target, least_ms) in [
        (format!("/f/t-hostile/clock?n={reads}&ms=50"), 50),
        (format!("/f/t-hostile-p3/clock?n={reads}&ms=50"), 50),
        ("/f/t-hostile-cgi/clock".to_owned(), 50),
    ] {
        let before = gateway.metric("mayfly_cpu_seconds_total").await;
        let answer = gateway.get(&target).await;
        assert_eq!(answer.status(), 200, "{target}: {answer:?}");
        let numbers: Vec<u64> =
            answer.text().split_whitespace().map(|number| number.parse().unwrap()).collect();
        assert_eq!(numbers[..2], [0, 0], "{target}: the clock moved during the computation");
        let took = gateway.metric("mayfly_cpu_seconds_total").await - before;
        assert!(took > 0.006, "{target}: too short for an interruption by the epoch: {took}");
        // The clocks advance when the guest waits, in whole milliseconds.
        for slept in &numbers[2..4] {
            assert!(*slept >= (least_ms - 1) * 1_000_000, "{target}: {slept}");
            assert_eq!(slept % 1_000_000, 0, "{target}");
        }
        assert_eq!(numbers[4], 1_000_000, "{target}: the resolution");
    }
    watch.end(&[("ok", 3)]).await;
}
