//! Nothing of one invocation is left for the next, and nothing of ours is there for any.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use serde_json::json;

use crate::{client::Connection, test_gateway::TestGateway};

const CONCURRENCY: usize = 64;

/// Calls a counter so many times from 64 connections; each call must be the first of its instance.
async fn every_call_is_the_first(gateway: &TestGateway, name: &str, calls: u32) {
    let left = Arc::new(AtomicU32::new(calls));
    let callers: Vec<_> = (0..CONCURRENCY)
        .map(|_| {
            let (left, address) = (Arc::clone(&left), gateway.data());
            let target = format!("/f/{name}/");
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                    assert_eq!(connection.get(&target).await.plain(), (200, "1\n"));
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let ok = format!(r#"mayfly_requests_total{{function="{name}",outcome="ok","#);
    let metrics = gateway.anonymous(http::Method::GET, "/metrics").send().await;
    let counted: u32 = metrics
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix(&ok)?.rsplit(' ').next()?.parse::<u32>().ok())
        .sum();
    assert_eq!(counted, calls);
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_state_leaks_through_ten_thousand_requests() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-counter").await;
    every_call_is_the_first(&gateway, "t-counter", 10_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_state_leaks_in_programs_and_in_async_components() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-counter-cgi").await;
    gateway.deploy("t-counter-p3").await;
    every_call_is_the_first(&gateway, "t-counter-cgi", 2_000).await;
    every_call_is_the_first(&gateway, "t-counter-p3", 2_000).await;
}

#[tokio::test]
async fn a_guest_sees_its_own_environment_alone() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-env").await;
    assert_eq!(gateway.get("/f/t-env/").await.plain(), (200, ""));
    for name in ["first", "second"] {
        let settings = json!({"environment": {"NAME": name}}).to_string();
        let put = gateway.put(name, crate::guests::guest("t-env"));
        assert_eq!(put.header("mayfly-settings", &settings).send().await.status(), 201);
    }
    for name in ["first", "second", "first"] {
        let answer = gateway.get(&format!("/f/{name}/")).await;
        assert_eq!(answer.plain(), (200, format!("NAME={name}\n").as_str()));
    }
}
