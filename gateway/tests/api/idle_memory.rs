//! Memory that is given back when there are no calls.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use serde_json::json;

use crate::{client::eventually, test_gateway::TestGateway};

const MIB: u64 = 1 << 20;
/// Calls at once.
const CALLS: usize = 64;
/// Memory that each of them writes to.
const EACH_MIB: u64 = 8;
/// What their places keep at least.
const KEPT: u64 = 256 * MIB;
/// The most that an idle gateway may have more than one that was never called.
const LEFT: u64 = 32 * MIB;
/// A function of each kind, in both engines, that returns what it was sent.
const ECHOES: [&str; 3] = ["echo", "echo-p3", "echo-cgi"];

async fn burst(gateway: &TestGateway) {
    // They wait for each other, so that each has a place of its own.
    let target = format!("/f/t-memory/?mb={EACH_MIB}&ms=1000");
    let calls = (0..CALLS).map(|_| tokio::spawn(gateway.call(Method::GET, &target).send()));
    for answer in join_all(calls.collect::<Vec<_>>()).await {
        assert_eq!(answer.unwrap().plain(), (200, &*format!("{EACH_MIB}\n")));
    }
}

async fn echo(gateway: &TestGateway, name: &str) {
    let sent = vec![7; MIB as usize];
    let call = gateway.call(Method::POST, &format!("/f/{name}/")).body(sent.clone());
    let answer = call.send().await;
    assert_eq!((answer.status(), answer.bytes() == sent), (200, true), "{name}");
}

/// Waits until the gateway has given back memory of the burst, and is about as small as it was.
/// Returns how much it gave back since its start.
async fn becomes_small(gateway: &TestGateway, empty: u64, returned: u64) -> u64 {
    eventually("the gateway is small again", async || {
        let now = gateway.metric("mayfly_idle_memory_returned_bytes_total").await as u64;
        let small = gateway.resident_bytes() <= empty + LEFT;
        (small && now > returned + KEPT).then_some(now)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_node_is_small_again_after_a_burst_and_serves_the_next_call() {
    let gateway = TestGateway::with(&["pool.idle_memory_ms=500"]).await;
    let empty = gateway.resident_bytes();
    let settings = json!({"concurrency": CALLS, "cpu_ms": 30_000, "timeout_ms": 60_000});
    gateway.deploy_with("t-memory", &settings).await;
    for name in ECHOES {
        gateway.deploy_with(name, &json!({"concurrency": CALLS})).await;
    }
    gateway.deploy_with("t-counter", &json!({"min_warm": 2})).await;
    gateway.metric_becomes("mayfly_warm_instances", 2.0).await;

    let mut returned = 0;
    for _ in 0..2 {
        burst(&gateway).await;
        for name in ECHOES {
            join_all((0..8).map(|_| echo(&gateway, name))).await;
        }
        returned = becomes_small(&gateway, empty, returned).await;
        // Instances that an owner wants warm are in use.
        assert_eq!(gateway.metric("mayfly_warm_instances").await, 2.0);
        let answer = gateway.get("/f/t-counter/").await;
        let timing = answer.header("server-timing").unwrap();
        assert!(timing.starts_with("tier;desc=warm,"), "{timing}");
        assert_eq!(answer.plain(), (200, "1\n"));
    }
    burst(&gateway).await;
    for name in ECHOES {
        echo(&gateway, name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giving_memory_back_takes_no_place_of_a_call() {
    // A place keeps enough to be worth the work, and two must be free.
    let settings = ["pool.idle_memory_ms=300", "pool.instances=4", "pool.keep_bytes=64MiB"];
    let gateway = TestGateway::with(&settings).await;
    gateway.deploy_with("t-memory", &json!({"cpu_ms": 30_000})).await;
    gateway.deploy_with("t-sleep", &json!({"concurrency": 4, "timeout_ms": 60_000})).await;
    let mut returned = 0.0;
    for _ in 0..2 {
        assert_eq!(gateway.get("/f/t-memory/?mb=40").await.plain(), (200, "40\n"));
        let sleep = || tokio::spawn(gateway.call(Method::GET, "/f/t-sleep/?ms=4000").send());
        let held = [sleep(), sleep()];
        let more = eventually("memory is given back", async || {
            let slots = gateway.metric("mayfly_idle_slots_returned_total").await;
            (slots > returned).then_some(slots)
        });
        returned = more.await;
        assert_eq!(gateway.metric("mayfly_live_instances").await, 2.0);
        for _ in 0..10 {
            assert_eq!(gateway.get("/f/t-sleep/?ms=0").await.plain(), (200, "slept\n"));
        }
        for answer in join_all(held).await {
            assert_eq!(answer.unwrap().plain(), (200, "slept\n"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_kept_if_the_operator_wants_it() {
    let gateway = TestGateway::with(&["pool.idle_memory_ms=0"]).await;
    let settings = json!({"concurrency": CALLS, "cpu_ms": 30_000, "timeout_ms": 60_000});
    gateway.deploy_with("t-memory", &settings).await;
    burst(&gateway).await;
    let kept = gateway.resident_bytes();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(gateway.resident_bytes() > kept - 32 * MIB);
    assert_eq!(gateway.metric("mayfly_idle_slots_returned_total").await, 0.0);
}
