//! Warm instances and reused instances.

use http::Method;
use serde_json::json;

use crate::{client::eventually, test_gateway::TestGateway};

impl TestGateway {
    /// Waits until a function has `count` warm instances.
    async fn warm_becomes(&self, name: &str, count: u64) {
        eventually(&format!("{name} has {count} warm instances"), async || {
            let shown = self.show(name).await;
            (shown.json()["instances"]["waiting"] == count).then_some(())
        })
        .await;
    }

    /// Calls a function, which must be served by a warm instance.
    async fn get_warm(&self, name: &str) -> String {
        let answer = self.get(&format!("/f/{name}/")).await;
        let timing = answer.header("server-timing").unwrap();
        assert!(timing.starts_with("tier;desc=warm,"), "{timing}");
        assert!(!timing.contains("instantiate"), "{timing}");
        assert_eq!(answer.status(), 200, "{answer:?}");
        answer.text().to_owned()
    }
}

#[tokio::test]
async fn the_configured_number_of_instances_is_kept_warm_and_each_is_used_once() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-counter", &json!({"min_warm": 2, "idle_ms": 1000})).await;
    gateway.warm_becomes("t-counter", 2).await;
    assert_eq!(gateway.show("t-counter").await.json()["state"], "warm");
    assert_eq!(gateway.metric("mayfly_warm_instances").await, 2.0);
    for _ in 0..10 {
        assert_eq!(gateway.get_warm("t-counter").await, "1\n");
        gateway.warm_becomes("t-counter", 2).await;
    }

    // Longer than its idle time: a function with a minimum of warm instances stays in memory.
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    assert_eq!(gateway.get_warm("t-counter").await, "1\n");

    let changed = gateway.patch("t-counter", &json!({"settings": {"min_warm": 0}})).await;
    assert_eq!(changed.status(), 200);
    gateway.metric_becomes("mayfly_warm_instances", 0.0).await;
    gateway.metric_becomes("mayfly_resident_functions", 0.0).await;
}

#[tokio::test]
async fn warm_instances_of_every_kind_see_their_own_request() {
    let gateway = TestGateway::start().await;
    let settings = json!({"min_warm": 1, "environment": {"GREETING": "hi"}});
    for name in ["hello", "hello-p3", "hello-command", "c-hello-cgi"] {
        gateway.deploy_with(name, &settings).await;
        gateway.warm_becomes(name, 1).await;
        assert!(gateway.get_warm(name).await.starts_with("hello from "));
    }
    gateway.deploy_with("t-cgi-env", &settings).await;
    gateway.warm_becomes("t-cgi-env", 1).await;
    let answer = gateway.get("/f/t-cgi-env/below?a=b").await;
    assert!(answer.header("server-timing").unwrap().contains("warm"));
    assert!(answer.text().contains("QUERY_STRING=a=b"), "{answer:?}");
    assert!(answer.text().contains("GREETING=hi"), "{answer:?}");
}

#[tokio::test]
async fn the_output_of_a_warm_instance_belongs_to_the_invocation_that_took_it() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-logs", &json!({"min_warm": 1})).await;
    for n in [1, 2] {
        gateway.warm_becomes("t-logs", 1).await;
        let answer = gateway.get("/f/t-logs/?n=1").await;
        assert!(answer.header("server-timing").unwrap().contains("warm"));
        let lines = gateway.log_lines("t-logs", 2 * n).await;
        let id = answer.header("mayfly-request-id").unwrap();
        assert_eq!(lines[2 * n - 1]["invocation"], id);
    }
}

#[tokio::test]
async fn instances_are_kept_warm_at_the_times_of_the_schedule() {
    let gateway = TestGateway::start().await;
    // One of these windows is open at any time.
    let always = json!([
        {"from": "00:00", "to": "12:00", "min_warm": 1},
        {"from": "12:00", "to": "00:00", "min_warm": 1},
    ]);
    gateway.deploy_with("c-hello", &json!({"schedule": always})).await;
    gateway.warm_becomes("c-hello", 1).await;

    let bad = json!({"settings": {"schedule": [{"from": "8", "to": "9:00", "min_warm": 1}]}});
    let refused = gateway.patch("c-hello", &bad).await;
    assert_eq!(refused.problem(), (422, "bad-settings"));
    assert!(refused.detail().contains("from"), "{refused:?}");
    let much = json!({"settings": {"schedule": [{"from": "8:00", "to": "9:00", "min_warm": 99}]}});
    assert!(gateway.patch("c-hello", &much).await.detail().contains("ceilings.min_warm"));
}

#[tokio::test]
async fn warm_instances_share_one_budget_and_are_dropped_before_a_call_is_refused() {
    let gateway = TestGateway::with(&["pool.warm_instances=3"]).await;
    gateway.deploy_with("t-counter", &json!({"min_warm": 2})).await;
    gateway.warm_becomes("t-counter", 2).await;
    gateway.deploy_with("c-hello", &json!({"min_warm": 2})).await;
    gateway.warm_becomes("c-hello", 1).await;
    assert_eq!(gateway.metric("mayfly_warm_instances").await, 3.0);

    // Warm instances occupy every slot of the engine.
    let full = TestGateway::with(&["pool.instances=2"]).await;
    full.deploy_with("t-counter", &json!({"min_warm": 2})).await;
    full.warm_becomes("t-counter", 2).await;
    full.deploy("c-hello").await;
    for _ in 0..5 {
        assert_eq!(full.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
    }
}

#[tokio::test]
async fn an_owner_may_choose_to_reuse_instances() {
    let gateway = TestGateway::start().await;
    for name in ["t-counter", "t-counter-p3"] {
        let settings = json!({"isolation": {"mode": "reuse", "max_uses": 3}});
        gateway.deploy_with(name, &settings).await;
        assert_eq!(gateway.show(name).await.json()["isolation"], "reuse");
        let mut seen = Vec::new();
        for _ in 0..7 {
            seen.push(gateway.get(&format!("/f/{name}/")).await.text().trim().to_owned());
        }
        assert_eq!(seen, ["1", "2", "3", "1", "2", "3", "1"], "{name}");
        let changed = gateway.patch(name, &json!({"settings": {"isolation": null}})).await;
        assert_eq!(changed.json()["isolation"], "request");
        for _ in 0..3 {
            assert_eq!(gateway.get(&format!("/f/{name}/")).await.plain(), (200, "1\n"));
        }
    }
}

#[tokio::test]
async fn a_reusable_instance_is_dropped_after_its_idle_time() {
    let gateway = TestGateway::start().await;
    let settings = json!({"isolation": {"mode": "reuse", "idle_ms": 300}});
    gateway.deploy_with("t-counter", &settings).await;
    assert_eq!(gateway.get("/f/t-counter/").await.plain(), (200, "1\n"));
    assert_eq!(gateway.metric("mayfly_warm_instances").await, 1.0);
    gateway.metric_becomes("mayfly_warm_instances", 0.0).await;
    assert_eq!(gateway.get("/f/t-counter/").await.plain(), (200, "1\n"));
}

#[tokio::test]
async fn an_instance_that_failed_is_never_reused() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-trap", &json!({"isolation": {"mode": "reuse"}})).await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/f/t-trap/trap").await.problem(), (502, "function-failed"));
    }
    assert_eq!(gateway.metric("mayfly_warm_instances").await, 0.0);

    // An aborted instance is not reused, either.
    gateway.deploy_with("t-sleep", &json!({"isolation": {"mode": "reuse"}})).await;
    let cut = gateway.call(Method::GET, "/f/t-sleep/?ms=60000").send();
    assert!(tokio::time::timeout(std::time::Duration::from_millis(500), cut).await.is_err());
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
    assert_eq!(gateway.metric("mayfly_warm_instances").await, 0.0);
}

/// A call that fails after its guest has returned, and the problem that it is answered with. `None`:
/// the response has begun, and breaks off.
type LateFailure = (&'static str, Option<(u16, &'static str)>);

/// Less and more than promised, before and after the head has left.
const LATE_FAILURES: [LateFailure; 4] = [
    ("?length=100", Some((502, "no-response"))),
    ("?length=1", Some((502, "no-response"))),
    ("?length=200000&more=100000", None),
    ("?length=90000&more=100000", None),
];

#[tokio::test]
async fn an_instance_whose_response_failed_is_never_reused() {
    let gateway = TestGateway::start().await;
    // No instance is made beforehand, so that each warm one was used.
    let settings = json!({"isolation": {"mode": "reuse"}, "max_warm": 0});
    gateway.deploy_with("t-counter", &settings).await;
    for (query, problem) in LATE_FAILURES {
        assert_eq!(gateway.get("/f/t-counter/").await.plain(), (200, "1\n"), "{query}");
        assert_eq!(gateway.get("/f/t-counter/").await.plain(), (200, "2\n"), "{query}");
        let call = gateway.call(Method::GET, &format!("/f/t-counter/{query}"));
        match problem {
            Some(problem) => assert_eq!(call.send().await.problem(), problem, "{query}"),
            None => assert!(call.try_send().await.is_err(), "{query}"),
        }
        // If the response was aborted, then the guest may not have ended yet.
        gateway.metric_becomes("mayfly_live_instances", 0.0).await;
        assert_eq!(gateway.metric("mayfly_warm_instances").await, 0.0, "{query}");
    }
    // A response of the same length, which is as it should be.
    let large = gateway.get("/f/t-counter/?length=100002&more=100000").await;
    assert_eq!((large.status(), large.bytes().len()), (200, 100_002));
    assert_eq!(gateway.get("/f/t-counter/").await.plain(), (200, "2\n"));
}

#[tokio::test]
async fn a_reused_instance_cannot_write_into_the_response_of_another_call() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-counter", &json!({"isolation": {"mode": "reuse"}})).await;
    assert_eq!(gateway.get("/f/t-counter/").await.plain(), (200, "1\n"));
    let open = tokio::spawn(gateway.call(Method::GET, "/f/t-counter/?keep").send());
    // The instance has ended with its call, and so has the body that it left open.
    assert_eq!(open.await.unwrap().plain(), (200, "2\n"));
    assert_eq!(gateway.get("/f/t-counter/?write").await.plain(), (200, "1\n"));
}

#[tokio::test]
async fn an_unsupported_isolation_is_refused_with_the_supported_one() {
    let gateway = TestGateway::start().await;
    let reuse = json!({"isolation": {"mode": "reuse"}}).to_string();
    let put = gateway.put("a", crate::guests::guest("hello-cgi")).header("mayfly-settings", &reuse);
    let refused = put.send().await;
    assert_eq!(refused.problem(), (422, "isolation-not-supported"));
    assert!(refused.detail().contains("`request`"), "{refused:?}");

    let most = json!({"isolation": {"mode": "reuse", "max_concurrent": 2}}).to_string();
    let put = gateway.put("a", crate::guests::guest("hello")).header("mayfly-settings", &most);
    assert!(put.send().await.detail().contains("max_concurrent"));
    for isolation in
        [json!({"mode": "request", "max_uses": 5}), json!({"mode": "reuse", "max_uses": 0})]
    {
        let settings = json!({"isolation": isolation}).to_string();
        let put = gateway.put("a", crate::guests::guest("hello"));
        let refused = put.header("mayfly-settings", &settings).send().await;
        assert_eq!(refused.problem(), (422, "bad-settings"));
        assert!(refused.detail().contains("max_uses"), "{refused:?}");
    }
}
