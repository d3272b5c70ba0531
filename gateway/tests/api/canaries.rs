//! Automatic canaries: what becomes of a candidate that fails, and of one that is as good.

use futures_util::{StreamExt as _, stream};
use http::Method;
use serde_json::{Value, json};

use crate::{client::FullResponse, guests::guest, test_gateway::TestGateway};

const PUT: &str = "/v1/functions/greet/channels/default";

/// A gateway whose function `greet` has revision 1, `old`, and 2, `new`, with a canary of 2 that is judged
/// after 20 requests in each step.
async fn canary(old: &str, new: &str, steps: Value) -> TestGateway {
    let gateway = TestGateway::start().await;
    // With settings that differ, so that equal bytes make two revisions.
    for (name, cpu_ms) in [(old, 900), (new, 901)] {
        let settings = json!({"cpu_ms": cpu_ms}).to_string();
        let put = gateway.put("greet", guest(name)).header("mayfly-settings", &settings);
        assert_eq!(put.send().await.status(), 201);
    }
    let canary = json!({"revision": 2, "steps": steps, "requests": 20});
    let begun = put(&gateway, json!({"revision": 1, "canary": canary})).await;
    assert_eq!(begun.status(), 200, "{begun:?}");
    gateway
}

async fn put(gateway: &TestGateway, to: Value) -> FullResponse {
    gateway.control(Method::PUT, PUT).json(&to).send().await
}

async fn channel(gateway: &TestGateway) -> Value {
    let channels = gateway.api("/v1/functions/greet/channels").await;
    channels.json()["channels"][0].clone()
}

/// The changes of the function, the oldest first.
async fn history(gateway: &TestGateway) -> Vec<Value> {
    let history = gateway.api("/v1/functions/greet/history").await;
    let mut changes = history.json()["changes"].as_array().unwrap().clone();
    changes.reverse();
    changes
}

/// Calls the function, a few times at once, until its canary has left `step` or has ended.
async fn call_through(gateway: &TestGateway, step: u64, target: &str) {
    for _ in 0..300 {
        let canary = channel(gateway).await["canary"].clone();
        if canary["step"] != step {
            return;
        }
        let calls = stream::iter(0..16).map(|_| gateway.get(target));
        calls.buffer_unordered(16).for_each(async |_| ()).await;
    }
    panic!("the canary does not leave step {step}: {}", channel(gateway).await);
}

/// Case R11.
#[tokio::test]
async fn a_candidate_that_fails_is_rolled_back_within_its_step() {
    let gateway = canary("hello-cgi", "t-status", json!([50, 100])).await;
    let running = channel(&gateway).await["canary"].clone();
    assert_eq!((&running["step"], &running["revision"]), (&json!(1), &json!(2)));

    call_through(&gateway, 1, "/f/greet/?status=500").await;

    let after = channel(&gateway).await;
    assert_eq!((&after["revision"], &after["weights"]), (&json!(1), &json!([])));
    assert_eq!(after["canary"], Value::Null);
    for _ in 0..20 {
        assert_eq!(gateway.get("/f/greet/?status=500").await.status(), 200);
    }
    let last = history(&gateway).await.pop().unwrap();
    assert_eq!(
        (&last["action"], &last["made_by"]),
        (&json!("canary-rolled-back"), &json!("gateway"))
    );
    let figures = &last["detail"];
    assert_eq!(figures["worse"][0], "errors");
    assert_eq!(figures["old"]["errors"], 0);
    assert_eq!(figures["new"]["errors"], figures["new"]["requests"]);
    // It need not fail twenty times to be known.
    assert!(figures["new"]["requests"].as_u64().unwrap() >= 5, "{figures}");
    assert!(figures["tests"]["errors"]["p"].as_f64().unwrap() < 0.001, "{figures}");
    let labels = [("decision", "roll-back")];
    assert_eq!(gateway.metric_with("mayfly_canary_decisions_total", &labels).await, 1.0);
    let printed = gateway.cli(&["history", "greet"]).await;
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("2 is worse in errors"), "{printed}");
}

/// Case R11.
#[tokio::test]
async fn an_equal_candidate_is_promoted_step_by_step_also_across_a_kill() {
    // It sleeps, so that how busy the machine is hardly counts.
    let mut gateway = canary("t-sleep", "t-sleep", json!([30, 60, 100])).await;
    let target = "/f/greet/?ms=40";
    for step in 1..=3 {
        let running = channel(&gateway).await;
        assert_eq!(running["canary"]["step"], step, "{running}");
        let percent = [30, 60, 100][step as usize - 1];
        assert_eq!(running["weights"], json!([{"revision": 2, "percent": percent}]));
        call_through(&gateway, step, target).await;
        if step < 3 {
            gateway.kill();
            gateway.start_again().await;
        }
    }
    let after = channel(&gateway).await;
    assert_eq!((&after["revision"], &after["canary"]), (&json!(2), &Value::Null), "{after}");
    assert_eq!(gateway.show("greet").await.json()["revision"], 2);
    let changes = history(&gateway).await;
    let actions: Vec<&Value> = changes.iter().map(|change| &change["action"]).collect();
    let steps = ["channel", "canary-step", "canary-step", "canary-promoted"];
    assert_eq!(actions[2..], steps, "{changes:?}");
    for judged in &changes[3..] {
        assert!(judged["detail"]["old"]["requests"].as_u64().unwrap() >= 20, "{judged}");
    }
    // What a canary has done can be undone like any other change.
    let back = gateway.control(Method::POST, "/v1/functions/greet/rollback").send().await;
    assert_eq!((back.status(), &back.json()["revision"]), (200, &json!(1)));
}

/// Case R11.
#[tokio::test]
async fn an_owner_ends_a_canary_and_what_cannot_be_one_is_refused() {
    let gateway = canary("c-hello", "hello-cgi", json!([50, 100])).await;
    for (to, says) in [
        (json!({"revision": 1, "canary": {"revision": 9}}), "no revision 9"),
        (json!({"revision": 1, "canary": {"revision": 1}}), "the channel's own"),
        (json!({"revision": 1, "canary": {"revision": 2, "steps": [5, 50]}}), "end with 100"),
        (json!({"revision": 1, "canary": {"revision": 2, "requests": 1}}), "`requests` are"),
        (json!({"range": "*", "canary": {"revision": 2}}), "moves by itself"),
    ] {
        let refused = put(&gateway, to).await;
        assert_eq!(refused.problem(), (422, "bad-channel"), "{refused:?}");
        assert!(refused.detail().contains(says), "{refused:?}");
    }
    assert_eq!(channel(&gateway).await["canary"]["step"], 1, "it goes on");
    let back = gateway.control(Method::POST, "/v1/functions/greet/revisions/1/activate");
    assert_eq!(back.send().await.status(), 200);
    let ended = channel(&gateway).await;
    assert_eq!((&ended["canary"], &ended["weights"]), (&Value::Null, &json!([])));

    let set = ["channel", "set", "greet", "default", "--revision", "1", "--canary", "2"];
    let output = gateway.cli(&[&set[..], &["--canary-steps", "10,100"]].concat()).await;
    assert_eq!(output.stdout, b"greet default is at 1 (90 %), 2 (10 %)\n", "{output:?}");
    let listed = gateway.cli(&["channel", "list", "greet"]).await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("step 1 of 2, 0 of 200 requests"), "{listed}");
    assert_eq!(put(&gateway, json!({"revision": 1})).await.status(), 200);
    assert_eq!(channel(&gateway).await["canary"], Value::Null);
}
