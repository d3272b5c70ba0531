//! Named queues, over HTTP and from the command line.

use std::{collections::BTreeMap, fs};

use futures_util::{StreamExt as _, stream};
use http::Method;
use serde_json::{Value, json};

use crate::{
    asynchronous::ended,
    client::{FullResponse, eventually},
    crash::Strace,
    hostile_uploads::repetitions,
    test_gateway::TestGateway,
};

/// Retries without a wait worth speaking of.
const QUICK: [&str; 2] = ["queue.retry_ms=1", "queue.retry_max_ms=2"];

async fn api(gateway: &TestGateway, method: Method, target: &str) -> FullResponse {
    gateway.control(method, target).send().await
}

async fn put(gateway: &TestGateway, name: &str, queue: &Value) -> FullResponse {
    gateway.control(Method::PUT, &format!("/v1/queues/{name}")).json(queue).send().await
}

async fn set(gateway: &TestGateway, name: &str, queue: Value) {
    let made = put(gateway, name, &queue).await;
    assert!([200, 201].contains(&made.status()), "{made:?}");
}

async fn try_publish(gateway: &TestGateway, name: &str, messages: Value) -> FullResponse {
    let publish = gateway.control(Method::POST, &format!("/v1/queues/{name}/messages"));
    publish.json(&json!({"messages": messages})).send().await
}

/// Publishes messages, and returns their ids.
async fn publish(gateway: &TestGateway, name: &str, messages: Value) -> Vec<String> {
    let published = try_publish(gateway, name, messages).await;
    assert_eq!(published.status(), 202, "{published:?}");
    let published = published.json()["messages"].as_array().unwrap().clone();
    published.iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect()
}

async fn depth(gateway: &TestGateway, name: &str) -> Value {
    let shown = api(gateway, Method::GET, &format!("/v1/queues/{name}")).await;
    assert_eq!(shown.status(), 200, "{shown:?}");
    shown.json()["messages"].clone()
}

async fn peek(gateway: &TestGateway, name: &str, state: &str) -> Vec<Value> {
    let target = format!("/v1/queues/{name}/messages?state={state}&limit=100");
    let shown = api(gateway, Method::GET, &target).await;
    assert_eq!(shown.status(), 200, "{shown:?}");
    shown.json()["messages"].as_array().unwrap().clone()
}

/// The attempts of each message that the function has seen: their numbers and the body.
async fn seen(gateway: &TestGateway) -> BTreeMap<String, Vec<(u32, String)>> {
    let log = gateway.api("/v1/functions/t-messages/logs?limit=1000").await;
    let mut seen: BTreeMap<String, Vec<(u32, String)>> = BTreeMap::new();
    for line in log.json()["lines"].as_array().unwrap() {
        let Some(line) = line["line"].as_str().unwrap().strip_prefix("message ") else { continue };
        let (head, body) = line.split_once(": ").unwrap();
        let (id, attempt) = head.split_once(" attempt ").unwrap();
        seen.entry(id.to_owned()).or_default().push((attempt.parse().unwrap(), body.to_owned()));
    }
    seen
}

/// The same once it has so many deliveries: log lines of guests are stored in the background.
async fn seen_all(
    gateway: &TestGateway,
    deliveries: usize,
) -> BTreeMap<String, Vec<(u32, String)>> {
    eventually(&format!("{deliveries} deliveries are in the log"), async || {
        let seen = seen(gateway).await;
        (seen.values().map(Vec::len).sum::<usize>() >= deliveries).then_some(seen)
    })
    .await
}

/// Waits until a queue has so many messages that wait, run, are dead and were delivered.
async fn becomes(gateway: &TestGateway, name: &str, expected: [u64; 4]) {
    eventually(&format!("{name} has {expected:?}"), async || {
        let depth = depth(gateway, name).await;
        let counts =
            ["waiting", "running", "dead", "delivered"].map(|of| depth[of].as_u64().unwrap());
        (counts == expected).then_some(())
    })
    .await;
}

/// Case B01.
#[tokio::test]
async fn messages_wait_for_their_function_and_are_delivered_one_by_one() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    // Without a function they wait, also over a restart.
    set(&gateway, "orders", json!({})).await;
    let message = json!({"body": "{\"order\":17}", "content_type": "application/json",
        "attributes": {"kind": "new"}});
    let ids = publish(&gateway, "orders", json!([message, {"body_base64": "/w=="}])).await;
    assert_eq!(ids.len(), 2);
    gateway.restart().await;
    let depth = depth(&gateway, "orders").await;
    assert_eq!((&depth["waiting"], &depth["dead"]), (&json!(2), &json!(0)), "{depth}");
    assert!(depth["oldest_s"].as_f64().unwrap() > 0.0, "{depth}");
    let peeked = peek(&gateway, "orders", "due").await;
    assert_eq!((&peeked[0]["id"], &peeked[1]["id"]), (&json!(ids[0]), &json!(ids[1])));
    assert_eq!(peeked[0]["body"], "{\"order\":17}");
    assert_eq!(peeked[0]["content_type"], "application/json");
    assert_eq!(peeked[0]["attributes"], json!({"kind": "new"}));
    assert_eq!((&peeked[1]["body_base64"], &peeked[1]["body_bytes"]), (&json!("/w=="), &json!(1)));
    assert_eq!((&peeked[0]["attempts"], &peeked[0]["state"]), (&json!(0), &json!("due")));

    // A channel, and a path of its own.
    let channel = gateway.control(Method::PUT, "/v1/functions/t-cgi-env/channels/old");
    assert_eq!(channel.json(&json!({"revision": 1})).send().await.status(), 200);
    let changed = gateway.patch("t-cgi-env", &json!({"settings": {"timeout_ms": 9_000}})).await;
    assert_eq!(changed.status(), 200, "{changed:?}");
    let subscribed = json!({"function": "t-cgi-env", "channel": "old", "path": "/?log"});
    set(&gateway, "orders", subscribed).await;
    becomes(&gateway, "orders", [0, 0, 0, 2]).await;
    let lines = gateway.log_lines("t-cgi-env", 2).await;
    assert!(lines.iter().all(|line| line["revision"] == 1), "{lines:?}");
    let line = lines.iter().find(|line| line["line"].as_str().unwrap().contains(&ids[0])).unwrap();
    let line = line["line"].as_str().unwrap();
    for field in ["QUEUE=orders", "ATTEMPT=1", "ATTRIBUTE_KIND=new"] {
        assert!(line.split(' ').any(|other| other == field), "{field} is not in {line}");
    }
    let call = ended(&gateway, &ids[0]).await;
    assert_eq!((&call["state"], &call["attempts"]), (&json!("succeeded"), &json!(1)), "{call}");
    let call = api(&gateway, Method::GET, &format!("/v1/invocations/{}", ids[0])).await;
    assert_eq!(
        (&call.json()["cause"], &call.json()["source"]),
        (&json!("queue"), &json!("orders"))
    );
}

/// Case B02.
#[tokio::test]
async fn what_cannot_be_published_is_refused_as_a_whole() {
    let gateway = TestGateway::with(&["queue.body_bytes=1000", "queue.messages=3"]).await;
    set(&gateway, "orders", json!({"max_age_s": 60})).await;
    let sound = json!({"body": "sound"});
    for (message, problem) in [
        (json!({"body": "a", "body_base64": "YQ=="}), (422, "bad-message")),
        (json!({"body_base64": "?"}), (422, "bad-message")),
        (json!({"attributes": {"A": "x"}}), (422, "bad-message")),
        (json!({"content_type": "a\nb"}), (422, "bad-message")),
        (json!({"delay_s": 60}), (422, "bad-message")),
        (json!({"body": "x".repeat(1_001)}), (413, "queued-body-too-large")),
        (json!({"idempotency_key": ""}), (422, "bad-message")),
        (json!({"unknown": 1}), (400, "bad-json")),
    ] {
        let refused = try_publish(&gateway, "orders", json!([sound, message])).await;
        assert_eq!(refused.problem(), problem, "{message}: {refused:?}");
    }
    let many = json!(vec![json!({}); 101]);
    assert_eq!(try_publish(&gateway, "orders", many).await.problem(), (422, "bad-message"));
    assert_eq!(try_publish(&gateway, "orders", json!([])).await.problem(), (422, "bad-message"));
    let large = json!([{"attributes": {"a": "x".repeat(300_000)}}]);
    let large = try_publish(&gateway, "orders", large).await;
    assert_eq!(large.problem(), (413, "document-too-large"));
    let missing = try_publish(&gateway, "missing", json!([sound])).await;
    assert_eq!(missing.problem(), (404, "queue-not-found"));
    assert_eq!(depth(&gateway, "orders").await["waiting"], 0);

    // Sent again under its name it is the same message; another one under this name is not added.
    let named = |body: &str| json!({"body": body, "idempotency_key": "order-17"});
    let first = publish(&gateway, "orders", json!([named("a")])).await;
    let again = try_publish(&gateway, "orders", json!([{"body": "b"}, named("a")])).await;
    let again = again.json()["messages"].clone();
    assert_eq!((&again[1]["id"], &again[1]["repeated"]), (&json!(first[0]), &json!(true)));
    assert_eq!(again[0]["repeated"], false);
    let other = try_publish(&gateway, "orders", json!([{"body": "c"}, named("other")])).await;
    assert_eq!(other.problem(), (422, "idempotency-key-reused"));
    assert!(other.detail().contains("messages[1]"), "{other:?}");
    assert_eq!(depth(&gateway, "orders").await["waiting"], 2, "none of them was added");

    let full = try_publish(&gateway, "orders", json!([sound, sound])).await;
    assert_eq!(full.problem(), (429, "queue-full"));
    assert!(full.header("retry-after").is_some());
    assert_eq!(depth(&gateway, "orders").await["waiting"], 2);
    publish(&gateway, "orders", json!([sound])).await;
}

/// Case B03.
#[tokio::test]
async fn what_cannot_be_a_queue_names_the_member_and_changes_nothing() {
    let gateway = TestGateway::with(&["quotas.queues=2"]).await;
    gateway.deploy("t-cgi-env").await;
    set(&gateway, "kept", json!({"attempts": 7})).await;
    for (queue, member) in [
        (json!({"function": "missing"}), "function: "),
        (json!({"function": "t-cgi-env", "channel": "missing"}), "channel: "),
        (json!({"batch_size": 101}), "batch_size: "),
        (json!({"visibility_ms": 0}), "visibility_ms: "),
        (json!({"dead_letter_queue": "missing"}), "dead_letter_queue: "),
        (json!({"dead_letter_queue": "kept"}), "dead_letter_queue: "),
    ] {
        let refused = put(&gateway, "kept", &queue).await;
        assert_eq!(refused.problem(), (422, "bad-queue"), "{queue}: {refused:?}");
        assert!(refused.detail().starts_with(member), "{queue}: {refused:?}");
    }
    assert_eq!(put(&gateway, "kept", &json!({"unknown": 1})).await.status(), 400);
    assert_eq!(put(&gateway, "No", &json!({})).await.problem(), (422, "bad-queue"));
    let kept = api(&gateway, Method::GET, "/v1/queues/kept").await;
    assert_eq!(kept.json()["queue"]["attempts"], 7);

    set(&gateway, "second", json!({})).await;
    let full = put(&gateway, "third", &json!({})).await;
    assert_eq!(full.problem(), (409, "queue-quota"));
    let listed = api(&gateway, Method::GET, "/v1/queues?limit=1").await;
    assert_eq!(listed.json()["queues"][0]["name"], "kept");
    let cursor = listed.json()["next_cursor"].as_str().unwrap();
    let listed = api(&gateway, Method::GET, &format!("/v1/queues?limit=1&cursor={cursor}")).await;
    assert_eq!(listed.json()["queues"][0]["name"], "second");

    // A queue with messages goes only by force.
    publish(&gateway, "kept", json!([{"body": "a"}])).await;
    let refused = api(&gateway, Method::DELETE, "/v1/queues/kept").await;
    assert_eq!(refused.problem(), (409, "queue-not-empty"));
    assert_eq!(api(&gateway, Method::DELETE, "/v1/queues/kept?force=true").await.status(), 204);
    assert_eq!(api(&gateway, Method::DELETE, "/v1/queues/second").await.status(), 204);
    for (method, target) in [
        (Method::GET, "/v1/queues/kept"),
        (Method::DELETE, "/v1/queues/kept"),
        (Method::GET, "/v1/queues/kept/messages"),
        (Method::DELETE, "/v1/queues/kept/messages"),
        (Method::POST, "/v1/queues/kept/redrive"),
    ] {
        let missing = api(&gateway, method, target).await;
        assert_eq!(missing.problem(), (404, "queue-not-found"), "{target}");
    }
    // One of the same name has none of its messages.
    set(&gateway, "kept", json!({})).await;
    assert_eq!(depth(&gateway, "kept").await["waiting"], 0);
    let left = api(&gateway, Method::GET, "/v1/invocations").await;
    assert_eq!(left.json()["invocations"], json!([]));
}

/// Case B04.
#[tokio::test]
async fn a_message_that_fails_is_tried_again_and_dead_in_the_end() {
    let gateway = TestGateway::with(&QUICK).await;
    gateway.deploy("t-messages").await;
    set(&gateway, "graves", json!({})).await;
    set(&gateway, "orders", json!({"function": "t-messages", "attempts": 2})).await;
    let ids =
        publish(&gateway, "orders", json!([{"body": "fail"}, {"body": "once"}, {"body": "final"}]))
            .await;
    becomes(&gateway, "orders", [0, 0, 2, 1]).await;
    let attempts = |seen: &BTreeMap<String, Vec<(u32, String)>>, id: &String| {
        seen[id].iter().map(|(attempt, _)| *attempt).collect::<Vec<_>>()
    };
    let first = seen_all(&gateway, 5).await;
    assert_eq!(attempts(&first, &ids[0]), [1, 2]);
    assert_eq!(attempts(&first, &ids[1]), [1, 2]);
    assert_eq!(attempts(&first, &ids[2]), [1], "a 4xx is final");
    let dead = peek(&gateway, "orders", "dead").await;
    assert_eq!((&dead[0]["id"], &dead[0]["body"]), (&json!(ids[0]), &json!("fail")));
    assert!(dead[0]["error"].as_str().unwrap().contains("500"), "{dead:?}");
    let labels = [("queue", "orders"), ("outcome", "dead")];
    assert_eq!(gateway.metric_with("mayfly_queue_messages_delivered_total", &labels).await, 2.0);

    let redriven = api(&gateway, Method::POST, "/v1/queues/orders/redrive").await;
    assert_eq!(redriven.json()["count"], 2);
    becomes(&gateway, "orders", [0, 0, 2, 1]).await;
    let again = seen_all(&gateway, 8).await;
    assert_eq!(attempts(&again, &ids[0]), [1, 2, 1, 2], "the same id");
    let purged = api(&gateway, Method::DELETE, "/v1/queues/orders/messages?state=dead").await;
    assert_eq!(purged.json()["count"], 2);
    becomes(&gateway, "orders", [0, 0, 0, 1]).await;

    // With a queue for them, dead messages go there, under their ids.
    let moving = json!({"function": "t-messages", "attempts": 1, "dead_letter_queue": "graves"});
    set(&gateway, "orders", moving).await;
    let ids = publish(&gateway, "orders", json!([{"body": "fail"}])).await;
    becomes(&gateway, "graves", [1, 0, 0, 0]).await;
    let moved = peek(&gateway, "graves", "due").await;
    assert_eq!((&moved[0]["id"], &moved[0]["dead_letter_of"]), (&json!(ids[0]), &json!("orders")));
    // And no further: two queues could pass it on for ever.
    let back = json!({"function": "t-messages", "attempts": 1, "dead_letter_queue": "orders"});
    set(&gateway, "graves", back).await;
    becomes(&gateway, "graves", [0, 0, 1, 0]).await;
    becomes(&gateway, "orders", [0, 0, 0, 1]).await;
}

/// Case B04.
#[tokio::test]
async fn a_message_expires_though_nothing_delivers_it_and_a_request_has_its_time() {
    let gateway = TestGateway::with(&QUICK).await;
    gateway.deploy("t-messages").await;
    set(&gateway, "orders", json!({"max_age_s": 2, "dead_retention_s": 1})).await;
    publish(&gateway, "orders", json!([{"body": "a"}, {"body": "b", "delay_s": 1}])).await;
    eventually("the messages are dead", async || {
        let depth = depth(&gateway, "orders").await;
        (depth["dead"].as_u64().unwrap() > 0 && depth["waiting"] == 0).then_some(())
    })
    .await;
    becomes(&gateway, "orders", [0, 0, 0, 0]).await;

    let quick = json!({"function": "t-messages", "attempts": 1, "visibility_ms": 500});
    set(&gateway, "quick", quick).await;
    publish(&gateway, "quick", json!([{"body": "slow"}])).await;
    becomes(&gateway, "quick", [0, 0, 1, 0]).await;
    let dead = peek(&gateway, "quick", "dead").await;
    assert!(dead[0]["error"].as_str().unwrap().starts_with("timeout"), "{dead:?}");
}

/// Case B05.
#[tokio::test]
async fn a_batch_is_one_request_and_names_what_has_failed() {
    let gateway = TestGateway::with(&QUICK).await;
    gateway.deploy("t-messages").await;
    let queue = |more: Value| {
        let mut queue = json!({"function": "t-messages", "batch_size": 10, "paused": true});
        queue.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        queue
    };
    set(&gateway, "orders", queue(json!({"attempts": 2}))).await;
    let bodies = ["a", "fail", "once", "d", "e"];
    let messages: Vec<Value> = bodies.iter().map(|body| json!({"body": body})).collect();
    let ids = publish(&gateway, "orders", json!(messages)).await;
    assert_eq!(depth(&gateway, "orders").await["waiting"], 5, "it is paused");
    let resume = gateway.control(Method::PATCH, "/v1/queues/orders");
    let resumed = resume.json(&json!({"paused": false})).send().await;
    assert_eq!(resumed.json()["queue"]["paused"], false);
    becomes(&gateway, "orders", [0, 0, 1, 4]).await;
    let all = seen_all(&gateway, 7).await;
    for (id, body) in ids.iter().zip(bodies) {
        let expected: &[u32] = if ["fail", "once"].contains(&body) { &[1, 2] } else { &[1] };
        let attempts: Vec<u32> = all[id].iter().map(|(attempt, _)| *attempt).collect();
        assert_eq!(attempts, expected, "{body}");
    }
    let calls = gateway.metric_with("mayfly_requests_total", &[("function", "t-messages")]).await;
    assert_eq!(calls, 2.0, "five messages, and then two of them");
    let dead = peek(&gateway, "orders", "dead").await;
    assert!(dead[0]["error"].as_str().unwrap().contains("named"), "{dead:?}");

    // A status of an error is about all of them; a 4xx is not final for those that are not to blame.
    set(&gateway, "final", queue(json!({"attempts": 2}))).await;
    publish(&gateway, "final", json!([{"body": "final"}, {"body": "a"}])).await;
    set(&gateway, "final", queue(json!({"attempts": 2, "paused": false}))).await;
    becomes(&gateway, "final", [0, 0, 2, 0]).await;
    let dead = peek(&gateway, "final", "dead").await;
    assert!(dead.iter().all(|message| message["attempts"] == 2), "{dead:?}");
}

/// Case B06.
#[tokio::test]
async fn depth_and_age_are_metrics_of_queues_with_a_label_each() {
    let gateway = TestGateway::with(&["metrics.queues=1"]).await;
    set(&gateway, "one", json!({})).await;
    set(&gateway, "two", json!({})).await;
    publish(&gateway, "one", json!([{}, {}])).await;
    publish(&gateway, "two", json!([{}])).await;
    for (label, count) in [("one", 2.0), ("other", 1.0)] {
        let waiting = [("queue", label), ("state", "waiting")];
        eventually("the depth is shown", async || {
            let shown = gateway.metric_with("mayfly_queue_messages", &waiting).await;
            (shown == count).then_some(())
        })
        .await;
        let labels = [("queue", label)];
        let published = gateway.metric_with("mayfly_queue_messages_published_total", &labels).await;
        assert_eq!(published, count);
    }
    let age = [("queue", "one")];
    eventually("the messages grow old", async || {
        (gateway.metric_with("mayfly_queue_message_age_seconds", &age).await > 1.0).then_some(())
    })
    .await;
    assert_eq!(gateway.metric("mayfly_queues").await, 2.0);
    assert_eq!(
        gateway.metric("mayfly_queue_delay_seconds").await,
        0.0,
        "they wait for their owner"
    );
    assert_eq!(api(&gateway, Method::DELETE, "/v1/queues/one?force=true").await.status(), 204);
    assert_eq!(gateway.metric_with("mayfly_queue_messages", &age).await, 0.0);
}

/// Kills a gateway at a system call on the queue's write-ahead log: while messages are published, claimed
/// or finished.
async fn killed_at(call: &str, nth: u32) {
    let at = format!("{call} {nth}");
    let mut gateway = TestGateway::start().await;
    gateway.deploy("t-messages").await;
    set(&gateway, "orders", json!({"function": "t-messages", "batch_size": 3})).await;
    let named = |nth: u32| {
        // Log lines are stored in the background. With the pause, those of an attempt whose end is stored
        // are stored, too, when the gateway is killed.
        let message = |part: &str| {
            let key = format!("{nth}-{part}");
            json!({"body": format!("{key} pause"), "idempotency_key": key})
        };
        json!([message("a"), message("b")])
    };
    let path = gateway.data_dir().join("queue.db-wal");
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    let what = [&*format!("trace={call}"), &*inject];
    let strace = Strace::attach(gateway.pid(), &what, Some(&path)).await;
    let mut acknowledged = Vec::new();
    for nth in 0..200 {
        let publish = gateway.control(Method::POST, "/v1/queues/orders/messages");
        let published = publish.json(&json!({"messages": named(nth)})).try_send().await;
        let Ok(published) = published else { break };
        assert_eq!(published.status(), 202, "{at}: {published:?}");
        for message in published.json()["messages"].as_array().unwrap() {
            acknowledged.push(message["id"].as_str().unwrap().to_owned());
        }
    }
    assert!(!gateway.exit().await.success(), "{at}: it was not killed");
    drop(strace);
    gateway.start_again().await;
    // The publisher repeats what was not acknowledged: it is the same message, if it was stored.
    let sent = u32::try_from(acknowledged.len() / 2).unwrap();
    let repeated = publish(&gateway, "orders", named(sent)).await;
    let all = u64::from(sent + 1) * 2;
    becomes(&gateway, "orders", [0, 0, 0, all]).await;
    let delivered = peek(&gateway, "orders", "succeeded").await;
    let delivered: Vec<&str> = delivered.iter().map(|m| m["id"].as_str().unwrap()).collect();
    for id in acknowledged.iter().chain(&repeated) {
        assert!(delivered.contains(&id.as_str()), "{at}: {id} is lost");
        eventually(&format!("{at}: {id} was delivered"), async || {
            seen(&gateway).await.contains_key(id).then_some(())
        })
        .await;
    }
    let seen = seen(&gateway).await;
    let mut bodies: Vec<&str> = seen.values().map(|attempts| &*attempts[0].1).collect();
    bodies.sort_unstable();
    let before = bodies.len();
    bodies.dedup();
    assert_eq!(bodies.len(), before, "{at}: a message was delivered under two ids: {seen:?}");
}

/// Case B07.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_loses_no_message_and_changes_no_id() {
    let writes = (0..12).map(|nth| ("pwrite64", 1 + nth * 2));
    let flushes = (1..=4).map(|nth| ("fdatasync,fsync", nth));
    let all = (0..repetitions(1, 20)).flat_map(|_| writes.clone().chain(flushes.clone()));
    let steps = all.map(|(call, nth)| killed_at(call, nth));
    stream::iter(steps).buffer_unordered(2).collect::<()>().await;
}

/// Case B08.
#[tokio::test]
async fn queues_from_the_command_line() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-messages").await;
    let run = async |arguments: &[&str]| {
        let output = gateway.cli(&[&["queue"], arguments].concat()).await;
        let (out, errors) = (String::from_utf8(output.stdout).unwrap(), output.stderr);
        (output.status.code(), out, String::from_utf8(errors).unwrap())
    };
    let (code, out, errors) = run(&["set", "orders"]).await;
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(out, "orders has no function: its messages wait; 0 messages wait\n");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("body");
    fs::write(&file, [0xff]).unwrap();
    let at_file = format!("@{}", file.display());
    let send = ["send", "orders", "fail", &at_file, "--attribute", "kind=new"];
    let (_, sent, errors) = run(&[&send[..], &["--content-type", "text/plain"]].concat()).await;
    assert_eq!(sent.lines().count(), 2, "{errors}");
    let (_, peeked, _) = run(&["peek", "orders"]).await;
    assert!(peeked.contains("fail") && peeked.contains("/w=="), "{peeked}");
    assert_eq!(run(&["purge", "orders"]).await.1, "removed: 2\n");
    let named = ["send", "orders", "fail", "--idempotency-key", "one"];
    let first = run(&named).await.1;
    assert_eq!(run(&named).await.1, first);
    assert_eq!(run(&["send", "orders", "a", "b", "--idempotency-key", "x"]).await.0, Some(2));

    let subscribe = ["set", "orders", "--function", "t-messages", "--attempts", "1"];
    let (_, out, _) = run(&[&subscribe[..], &["--batch-size", "10"]].concat()).await;
    assert!(out.starts_with("orders delivers to t-messages; "), "{out}");
    becomes(&gateway, "orders", [0, 0, 1, 0]).await;
    let (_, listed, _) = run(&["list"]).await;
    assert!(listed.contains("orders  t-messages  0        0        1"), "{listed}");
    assert!(run(&["peek", "orders", "--state", "dead"]).await.1.contains(first.trim()));
    assert!(run(&["pause", "orders"]).await.1.starts_with("orders is paused"));
    assert_eq!(run(&["redrive", "orders"]).await.1, "due again: 1\n");
    let (_, shown, _) = run(&["show", "orders"]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&shown["queue"]["paused"], &shown["messages"]["waiting"]),
        (&json!(true), &json!(1))
    );
    let document = dir.path().join("queue.json");
    fs::write(&document, shown["queue"].to_string()).unwrap();
    let (code, ..) = run(&["set", "copy", "--file", document.to_str().unwrap()]).await;
    assert_eq!(code, Some(0));
    let (code, _, errors) = run(&["delete", "orders"]).await;
    assert!(code != Some(0) && errors.contains("force"), "{errors}");
    assert_eq!(run(&["delete", "orders", "--force"]).await.0, Some(0));
    assert_eq!(run(&["delete", "copy"]).await.1, "deleted copy\n");
}
