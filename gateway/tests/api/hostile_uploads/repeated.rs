//! Repeated uploads, and several changes with the same precondition.

use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::{
    client::{FullResponse, Http1, TestRequest},
    guests::{distinct, guest},
    test_gateway::TestGateway,
};

fn count(answers: &[FullResponse], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status() == status).count()
}

/// Case U15.
#[tokio::test]
async fn fifty_equal_uploads_are_one_revision_one_artifact_and_one_compilation() {
    let gateway = TestGateway::start().await;
    let wasm = Bytes::from(guest("c-hello"));
    let uploads = (0..50).map(|_| gateway.put("greet", wasm.clone()).send());
    let answers = join_all(uploads).await;
    assert_eq!((count(&answers, 201), count(&answers, 200)), (1, 49));
    assert!(answers.iter().all(|answer| answer.json()["revision"] == 1));
    assert_eq!(gateway.files("artifacts").len(), 1);
    assert_eq!(gateway.metric("mayfly_compilations_total").await, 1.0);
    gateway.no_uploads_left().await;
}

/// Case U15.
#[tokio::test]
async fn of_fifty_uploads_with_one_precondition_one_is_published() {
    let gateway = TestGateway::with(&["compile.queue=100"]).await;
    let wasm = guest("c-hello-cgi");
    let first = gateway.put("greet", wasm.clone()).header("if-none-match", "*").send().await;
    assert_eq!(first.status(), 201, "{first:?}");
    let tag = first.header("etag").unwrap().to_owned();
    assert_eq!(gateway.show("greet").await.header("etag"), Some(tag.as_str()));
    let uploads =
        (0..50).map(|n| gateway.put("greet", distinct(&wasm, n)).header("if-match", &tag).send());
    let answers = join_all(uploads).await;
    assert_eq!((count(&answers, 201), count(&answers, 412)), (1, 49));
    let lost = answers.iter().find(|answer| answer.status() == 412).unwrap();
    assert_eq!(lost.problem(), (412, "precondition-failed"));
    assert_eq!(gateway.show("greet").await.json()["revision"], 2);
    assert_eq!(gateway.get("/f/greet/").await.plain(), (200, "hello from c\n"));
}

/// Case U15.
#[tokio::test]
async fn preconditions_are_checked_before_and_after_the_bytes_arrive() {
    let gateway = TestGateway::start().await;
    let wasm = guest("c-hello");
    let put = |header: &str, value: &str| gateway.put("greet", wasm.clone()).header(header, value);
    assert_eq!(put("if-match", "*").send().await.status(), 412, "the function does not exist");
    assert_eq!(put("if-match", "\"1-1\"").send().await.status(), 412);
    let made = put("if-none-match", "*").send().await;
    assert_eq!(made.status(), 201);
    let tag = made.header("etag").unwrap().to_owned();
    assert_eq!(put("if-none-match", "*").send().await.status(), 412);
    assert_eq!(put("if-match", "*").send().await.status(), 200);
    assert_eq!(put("if-match", &format!("\"x\", {tag}")).send().await.status(), 200);
    assert_eq!(put("if-match", "\"x\"").send().await.status(), 412);
    assert_eq!(put("if-match", "not a tag").send().await.status(), 412);

    // A new function of the same name has another etag.
    gateway.control(Method::DELETE, "/v1/functions/greet").send().await;
    assert_eq!(put("if-none-match", "*").send().await.status(), 201);
    assert_eq!(put("if-match", &tag).send().await.status(), 412);
}

/// Case U15.
/// Changes other than uploads have preconditions, too.
#[tokio::test]
async fn changes_with_a_stale_precondition_are_refused() {
    let gateway = TestGateway::start().await;
    let made = gateway.put("greet", guest("c-hello-cgi")).send().await;
    let first = made.header("etag").unwrap().to_owned();
    let patch = |change: Value| gateway.control(Method::PATCH, "/v1/functions/greet").json(&change);
    let settings = |ms: u64| json!({"settings": {"cpu_ms": ms}, "description": ms.to_string()});
    let activate = || gateway.control(Method::POST, "/v1/functions/greet/revisions/1/activate");
    let delete = || gateway.control(Method::DELETE, "/v1/functions/greet");

    let changed = patch(settings(100)).header("if-match", &first).send().await;
    assert_eq!(changed.status(), 200, "{changed:?}");
    assert_eq!(
        changed.json()["description"],
        "100",
        "settings and description must change together"
    );
    let second = changed.header("etag").unwrap().to_owned();
    for late in [
        patch(settings(200)),
        patch(json!({"description": "late"})),
        activate(),
        delete(),
        gateway.put("greet", guest("hello-cgi")),
    ] {
        let refused = late.header("if-match", &first).send().await;
        assert_eq!(refused.problem(), (412, "precondition-failed"));
        assert_eq!(refused.detail(), format!("its etag is {second}"));
    }
    let shown = gateway.show("greet").await;
    assert_eq!(shown.header("etag"), Some(second.as_str()));
    assert_eq!(shown.json()["description"], "100");

    // Of several changes with the same precondition one succeeds.
    let patches = (0..20).map(|n| patch(settings(200 + n)).header("if-match", &second).send());
    let answers = join_all(patches).await;
    assert_eq!(count(&answers, 200), 1, "{answers:?}");
    assert_eq!(count(&answers, 412) + count(&answers, 409), 19, "{answers:?}");

    // A description is a part of the state.
    let before = gateway.show("greet").await.header("etag").unwrap().to_owned();
    let described = || patch(json!({"description": "described"}));
    let after = described().header("if-match", &before).send().await;
    assert_eq!((after.status(), after.json()["description"].as_str()), (200, Some("described")));
    let late = patch(json!({"description": "late"})).header("if-match", &before).send().await;
    assert_eq!(late.problem(), (412, "precondition-failed"));

    // The first revision is active again, with other changes in between.
    let back = activate().header("if-match", "*").send().await;
    assert_eq!((back.status(), back.json()["revision"].as_u64()), (200, Some(1)));
    let late = delete().header("if-match", &first).send().await;
    assert_eq!(late.problem(), (412, "precondition-failed"));
    let now = back.header("etag").unwrap();
    assert_eq!(delete().header("if-match", now).send().await.status(), 204);
    let gone = delete().header("if-match", now).send().await;
    assert_eq!(gone.problem(), (404, "function-not-found"));
}

/// Case U15.
#[tokio::test]
async fn a_repeated_upload_gets_the_same_response() {
    let mut gateway = TestGateway::start().await;
    let wasm = guest("c-hello-cgi");
    let named = |gateway: &TestGateway, name: &str, key: &str, n: u32| -> TestRequest {
        gateway.put(name, distinct(&wasm, n)).header("idempotency-key", key)
    };
    let made = named(&gateway, "greet", "first", 1).send().await;
    assert_eq!((made.status(), &made.json()["revision"]), (201, &1.into()));
    assert_eq!(named(&gateway, "greet", "second", 2).send().await.json()["revision"], 2);

    // Also after another deploy and a crash.
    gateway.kill();
    gateway.start_again().await;
    let again = named(&gateway, "greet", "first", 1).send().await;
    assert_eq!((again.status(), &again.json()["revision"]), (201, &1.into()), "{again:?}");
    assert_eq!(again.json()["digest"], made.json()["digest"]);
    assert_eq!(again.header("etag"), made.header("etag"));
    assert_eq!(
        gateway.show("greet").await.json()["revision"],
        2,
        "a repeated upload must change nothing"
    );

    for other in [
        named(&gateway, "greet", "first", 3),
        named(&gateway, "other", "first", 1),
        named(&gateway, "greet", "first", 1).header("mayfly-settings", "{}"),
        named(&gateway, "greet", "first", 1).header("if-match", "*"),
    ] {
        assert_eq!(other.send().await.problem(), (422, "idempotency-key-reused"));
    }
    for wrong in ["", &"x".repeat(256)] {
        let refused = named(&gateway, "greet", wrong, 4).send().await;
        assert_eq!(refused.problem(), (400, "bad-idempotency-key"));
    }
    // A refused upload is not remembered.
    let refused = gateway.put("greet", "no wasm").header("idempotency-key", "third").send().await;
    assert_eq!(refused.status(), 422);
    assert_eq!(named(&gateway, "greet", "third", 5).send().await.status(), 201);
    // An upload of the active bytes is remembered, too.
    assert_eq!(named(&gateway, "greet", "fourth", 5).send().await.status(), 200);
    assert_eq!(named(&gateway, "greet", "fourth", 5).send().await.status(), 200);
    assert_eq!(named(&gateway, "greet", "fourth", 6).send().await.status(), 422);
}

/// Case U15.
#[tokio::test]
async fn concurrent_uploads_with_one_idempotency_key_get_the_same_response() {
    let gateway = TestGateway::start().await;
    let wasm = Bytes::from(guest("c-hello"));
    let uploads = (0..20).map(|_| {
        let put = gateway.put("greet", wasm.clone()).header("idempotency-key", "one");
        put.header("if-none-match", "*").send()
    });
    for answer in join_all(uploads).await {
        assert_eq!((answer.status(), &answer.json()["revision"]), (201, &1.into()), "{answer:?}");
    }
}

#[tokio::test]
async fn an_upload_is_tried_with_the_settings_that_it_is_published_with() {
    let gateway = TestGateway::start().await;
    gateway.put("greet", guest("c-hello-cgi")).send().await;
    let wasm = guest("c-hello-cgi");
    for round in 0..10_u32 {
        let upload = gateway.put("greet", distinct(&wasm, round)).send();
        // Too little for an instance, or the previous limit.
        let memory = if round % 2 == 0 { json!(65_536) } else { json!(null) };
        let change = json!({"settings": {"memory_bytes": memory, "cpu_ms": 100 + round}});
        let (uploaded, changed) = tokio::join!(upload, gateway.patch("greet", &change));
        assert!(matches!(uploaded.status(), 201 | 422), "{uploaded:?}");
        assert!(matches!(changed.status(), 200 | 409 | 422), "{changed:?}");
        let called = gateway.get("/f/greet/").await;
        assert_eq!(called.status(), 200, "{round}: {uploaded:?} {changed:?} {called:?}");
    }
}

/// Case U16.
#[tokio::test]
async fn calls_are_answered_while_a_function_is_replaced_deleted_and_recreated() {
    let gateway = TestGateway::start().await;
    let wasm = guest("c-hello");
    gateway.put("greet", wasm.clone()).send().await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (address, stop) = (gateway.data(), std::sync::Arc::clone(&stop));
            tokio::spawn(async move {
                let mut connection = Http1::open(address).await;
                // Together the callers make a thousand calls a second, as far as the machine
                // allows.
                let mut due = tokio::time::interval(std::time::Duration::from_millis(8));
                let mut answered = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    due.tick().await;
                    let answer = connection.get("/f/greet/").await;
                    // Between a delete and the next deploy the function does not exist.
                    match answer.status() {
                        200 => assert_eq!(answer.text(), "hello from c\n"),
                        404 => assert_eq!(answer.problem().1, "function-not-found"),
                        other => panic!("{other}: {answer:?}"),
                    }
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for n in 0..20 {
        assert_eq!(gateway.put("greet", distinct(&wasm, n)).send().await.status(), 201);
        let deleted = gateway.control(Method::DELETE, "/v1/functions/greet").send().await;
        assert_eq!(deleted.status(), 204);
        assert_eq!(
            gateway.get("/f/greet/").await.status(),
            404,
            "the function must be gone after the response"
        );
        assert_eq!(gateway.put("greet", wasm.clone()).send().await.status(), 201);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for calls in join_all(callers).await {
        assert!(calls.unwrap() > 0);
    }
}
