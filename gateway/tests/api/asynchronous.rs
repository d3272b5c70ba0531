//! Calls that are enqueued and answered before they run.

use http::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    client::{FullResponse, TestRequest, eventually},
    outbound::Upstream,
    test_gateway::TestGateway,
};

/// Retries without a wait worth speaking of.
const QUICK: [&str; 2] = ["queue.retry_ms=1", "queue.retry_max_ms=2"];

pub(crate) fn call(gateway: &TestGateway, target: &str) -> TestRequest {
    gateway.call(Method::POST, target).header("prefer", "respond-async")
}

/// Sends a call that is enqueued, and returns its id.
pub(crate) async fn enqueued(request: TestRequest) -> String {
    let answer = request.send().await;
    assert_eq!(answer.status(), 202, "{answer:?}");
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), Some(&*format!("/.mayfly/invocations/{id}")));
    id
}

async fn status(gateway: &TestGateway, id: &str) -> FullResponse {
    gateway.get(&format!("/.mayfly/invocations/{id}")).await
}

/// What became of a call.
pub(crate) async fn ended(gateway: &TestGateway, id: &str) -> Value {
    eventually("the call has ended", async || {
        let status = status(gateway, id).await;
        assert_eq!(status.status(), 200, "{status:?}");
        let ended = ["succeeded", "dead", "cancelled"];
        let state = status.json()["state"].as_str().unwrap();
        ended.contains(&state).then(|| status.json().clone())
    })
    .await
}

async fn becomes(gateway: &TestGateway, id: &str, state: &str) {
    eventually(&format!("the call is {state}"), async || {
        (status(gateway, id).await.json()["state"] == state).then_some(())
    })
    .await;
}

fn body(ended: &Value) -> &str {
    ended["answer"]["body"].as_str().unwrap_or_else(|| panic!("no text: {ended}"))
}

async fn api(gateway: &TestGateway, method: Method, target: &str) -> FullResponse {
    gateway.control(method, target).send().await
}

/// Case Q02.
#[tokio::test]
async fn a_call_is_answered_at_once_and_its_answer_is_read_later() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;

    let answer =
        call(&gateway, "/f/t-cgi-env/a?b=c").header("x-mine", "1").body("sent").send().await;
    assert_eq!(answer.status(), 202, "{answer:?}");
    assert_eq!(answer.header("preference-applied"), Some("respond-async"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("mayfly-outcome"), Some("platform"));
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 32);

    let ended = ended(&gateway, &id).await;
    assert_eq!((&ended["state"], &ended["attempts"]), (&json!("succeeded"), &json!(1)), "{ended}");
    assert_eq!(ended["answer"]["status"], 200);
    assert_eq!(ended["answer"]["headers"]["content-type"], "text/plain");
    let guest = body(&ended);
    for line in [
        &*format!("HTTP_IDEMPOTENCY_KEY={id}"),
        "HTTP_MAYFLY_ATTEMPT=1",
        "HTTP_X_MINE=1",
        "PATH_INFO=/a",
        "QUERY_STRING=b=c",
        "SCRIPT_NAME=/f/t-cgi-env",
        "REQUEST_METHOD=POST",
        "CONTENT_LENGTH=4",
        "REMOTE_ADDR=127.0.0.1",
    ] {
        assert!(guest.lines().any(|other| other == line), "{line} is not in {guest}");
    }
    assert!(!guest.contains("HTTP_PREFER"), "{guest}");

    let read = status(&gateway, &id).await;
    assert_eq!(read.header("content-type"), Some("application/json"));
    assert_eq!(read.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(read.header("cache-control"), Some("no-store"));
    for unknown in [&"0".repeat(32), "x", "", "../t-cgi-env/", &id[1..]] {
        let refused = status(&gateway, unknown).await;
        assert_eq!(refused.status(), 404, "{unknown}: {refused:?}");
    }
    let path = format!("/.mayfly/invocations/{id}");
    let refused = gateway.call(Method::POST, &path).send().await;
    assert_eq!(refused.problem(), (405, "method-not-allowed"));
    assert_eq!(gateway.get("/.mayfly/other").await.problem(), (404, "no-route"));
    // It survives a restart.
    gateway.restart().await;
    assert_eq!(status(&gateway, &id).await.json()["answer"]["status"], 200);
}

/// Case Q02.
#[tokio::test]
async fn the_functions_setting_says_whether_calls_are_enqueued() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    assert_eq!(gateway.get("/f/t-cgi-env/").await.status(), 200);

    gateway.patch("t-cgi-env", &json!({"settings": {"respond_async": "never"}})).await;
    assert_eq!(call(&gateway, "/f/t-cgi-env/").send().await.status(), 200);
    gateway.patch("t-cgi-env", &json!({"settings": {"respond_async": "always"}})).await;
    let answer = gateway.get("/f/t-cgi-env/").await;
    assert_eq!((answer.status(), answer.header("preference-applied")), (202, None));
    let wrong = gateway.patch("t-cgi-env", &json!({"settings": {"respond_async": "often"}})).await;
    assert_eq!(wrong.problem(), (422, "bad-settings"));
}

/// Case Q02.
#[tokio::test]
async fn a_call_goes_to_the_revision_that_its_address_names() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-cgi-env", &json!({"environment": {"WHICH": "first"}})).await;
    let second = json!({"settings": {"environment": {"WHICH": "second"}}});
    gateway.patch("t-cgi-env", &second).await;

    for (target, which) in [("/f/t-cgi-env@1/", "first"), ("/f/t-cgi-env/", "second")] {
        let id = enqueued(call(&gateway, target)).await;
        let ended = ended(&gateway, &id).await;
        assert!(body(&ended).contains(&format!("WHICH={which}\n")), "{target}: {ended}");
    }
}

/// Case Q05.
#[tokio::test]
async fn failures_are_tried_again_and_errors_of_the_caller_are_final() {
    let gateway = TestGateway::with(&QUICK).await;
    gateway.deploy("t-answers").await;
    gateway.deploy("t-trap").await;
    for (target, attempts, why) in [
        ("/f/t-answers/?status=503", 3, "503"),
        ("/f/t-answers/?status=429", 3, "429"),
        ("/f/t-answers/?status=404", 1, "404"),
        ("/f/t-trap/trap", 3, "function-failed"),
    ] {
        let id = enqueued(call(&gateway, target)).await;
        let ended = ended(&gateway, &id).await;
        assert_eq!(
            (&ended["state"], &ended["attempts"]),
            (&json!("dead"), &json!(attempts)),
            "{ended}"
        );
        let error = ended["error"].as_str().unwrap();
        assert!(error.contains(why), "{target}: {error}");
        assert!(!error.contains("wasm"), "the trap is for the owner alone: {error}");
    }
    gateway.patch("t-answers", &json!({"settings": {"queued_attempts": 1}})).await;
    let id = enqueued(call(&gateway, "/f/t-answers/?status=500")).await;
    assert_eq!(ended(&gateway, &id).await["attempts"], 1);
    let labels = [("cause", "http"), ("outcome", "retry")];
    assert_eq!(gateway.metric_with("mayfly_queue_attempts_total", &labels).await, 6.0);
}

/// Case Q04.
#[tokio::test]
async fn dead_calls_are_inspected_redriven_and_purged() {
    let gateway = TestGateway::with(&QUICK).await;
    gateway.deploy("t-answers").await;
    let sent =
        call(&gateway, "/f/t-answers/?status=500").header("authorization", "secret").body("kept");
    let id = enqueued(sent).await;
    ended(&gateway, &id).await;

    let listed = api(&gateway, Method::GET, "/v1/invocations?function=t-answers&state=dead").await;
    let listed = listed.json()["invocations"].as_array().unwrap().clone();
    assert_eq!(
        (listed.len(), &listed[0]["id"], &listed[0]["status"]),
        (1, &json!(id), &json!(500))
    );
    let shown = api(&gateway, Method::GET, &format!("/v1/invocations/{id}")).await;
    let request = &shown.json()["request"];
    assert_eq!((&request["body"], &request["method"]), (&json!("kept"), &json!("POST")));
    assert_eq!(request["headers"]["authorization"], "(hidden)");
    let request_id = shown.json()["request_id"].as_str().unwrap();
    assert_ne!(request_id, id, "logs do not tell the address of the answer");

    let redriven = api(&gateway, Method::POST, &format!("/v1/invocations/{id}/redrive")).await;
    assert_eq!(redriven.json()["count"], 1);
    let again = ended(&gateway, &id).await;
    assert_eq!(again["attempts"], 3, "{again}");
    let redriven = gateway.cli(&["invocations", "redrive", "--function", "t-answers"]).await;
    assert!(redriven.status.success());
    assert_eq!(String::from_utf8_lossy(&redriven.stdout), "due again: 1\n");
    ended(&gateway, &id).await;

    let list = gateway.cli(&["invocations", "list", "--state", "dead"]).await;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.contains(&id) && list.contains("t-answers"), "{list}");
    let purged = gateway.cli(&["invocations", "purge", "--function", "t-answers"]).await;
    assert_eq!(String::from_utf8_lossy(&purged.stdout), "removed: 1\n");
    assert_eq!(status(&gateway, &id).await.problem(), (404, "invocation-not-found"));
    let gone = api(&gateway, Method::POST, &format!("/v1/invocations/{id}/redrive")).await;
    assert_eq!(gone.problem(), (404, "invocation-not-found"));
    let wrong = api(&gateway, Method::GET, "/v1/invocations?state=lost").await;
    assert_eq!(wrong.status(), 400);
}

/// Case Q06.
#[tokio::test]
async fn a_call_that_its_client_sends_again_is_made_once() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    let named = |key: &str, body: &'static str| {
        call(&gateway, "/f/t-cgi-env/").header("idempotency-key", key).body(body)
    };
    let first = enqueued(named("order-17", "a")).await;
    assert_eq!(enqueued(named("order-17", "a")).await, first);
    ended(&gateway, &first).await;
    assert_eq!(enqueued(named("order-17", "a")).await, first, "its answer is kept");
    assert_ne!(enqueued(named("order-18", "a")).await, first);
    let other_caller = named("order-17", "a").header("authorization", "Bearer of another");
    assert_ne!(enqueued(other_caller).await, first, "an answer is not for those who guess the key");
    let other = named("order-17", "b").send().await;
    assert_eq!(other.problem(), (422, "idempotency-key-reused"));
    let long = named(&"x".repeat(256), "a").send().await;
    assert_eq!(long.problem(), (400, "bad-idempotency-key"));
    let guest = ended(&gateway, &first).await;
    assert!(body(&guest).contains(&format!("HTTP_IDEMPOTENCY_KEY={first}")), "{guest}");
}

/// Case Q03.
#[tokio::test]
async fn a_full_queue_refuses_and_a_waiting_call_can_be_cancelled() {
    let gateway = TestGateway::with(&["queue.body_bytes=10"]).await;
    let settings = json!({"queued": 2, "queued_concurrency": 1, "timeout_ms": 20_000});
    gateway.deploy_with("t-sleep", &settings).await;
    let slow = || call(&gateway, "/f/t-sleep/?ms=15000");
    let runs = enqueued(slow()).await;
    becomes(&gateway, &runs, "running").await;
    let waits = enqueued(slow()).await;

    let full = slow().send().await;
    assert_eq!(full.problem(), (429, "call-queue-full"));
    assert!(full.header("retry-after").is_some());
    let large = call(&gateway, "/f/t-sleep/").body("more than 10").send().await;
    assert_eq!(large.problem(), (413, "queued-body-too-large"));

    let delete = async |id: &str| {
        gateway.call(Method::DELETE, &format!("/.mayfly/invocations/{id}")).send().await
    };
    assert_eq!(delete(&runs).await.problem(), (409, "invocation-begun"));
    assert_eq!(delete(&waits).await.status(), 204);
    assert_eq!(status(&gateway, &waits).await.json()["state"], "cancelled");
    assert_eq!(delete(&waits).await.problem(), (409, "invocation-begun"));
    enqueued(slow()).await;
}

/// Case Q07.
#[tokio::test]
async fn a_queued_call_does_not_run_when_its_key_its_route_or_its_function_is_gone() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-sleep", &json!({"queued_concurrency": 1})).await;
    let hash = |key: &str| -> String {
        Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let route = |key: &str| {
        let keys = json!({"sha256": {"ci": hash(key)}});
        json!({"path": "/slow", "function": "t-sleep", "api_keys": keys})
    };
    let put = async |key: &str| {
        let put = gateway.control(Method::PUT, "/v1/routes/slow").json(&route(key)).send().await;
        assert!(put.status() < 300, "{put:?}");
    };
    put("first").await;
    let with_key = || call(&gateway, "/slow").header("x-api-key", "first");
    assert_eq!(ended(&gateway, &enqueued(with_key()).await).await["state"], "succeeded");

    // They wait behind a call that sleeps.
    let blocker = enqueued(call(&gateway, "/f/t-sleep/?ms=1500")).await;
    becomes(&gateway, &blocker, "running").await;
    let of_the_key = enqueued(with_key()).await;
    // Another key of the same name is another key.
    put("second").await;
    let ended_ = ended(&gateway, &of_the_key).await;
    assert_eq!(ended_["state"], "dead");
    assert!(ended_["error"].as_str().unwrap().contains("API key"), "{ended_}");

    let blocker = enqueued(call(&gateway, "/f/t-sleep/?ms=1500")).await;
    becomes(&gateway, &blocker, "running").await;
    let of_the_route = enqueued(call(&gateway, "/slow").header("x-api-key", "second")).await;
    assert_eq!(api(&gateway, Method::DELETE, "/v1/routes/slow").await.status(), 204);
    let ended_ = ended(&gateway, &of_the_route).await;
    assert!(ended_["error"].as_str().unwrap().contains("route"), "{ended_}");

    let blocker = enqueued(call(&gateway, "/f/t-sleep/?ms=1500")).await;
    becomes(&gateway, &blocker, "running").await;
    let of_the_function = enqueued(call(&gateway, "/f/t-sleep/?ms=1")).await;
    assert_eq!(api(&gateway, Method::DELETE, "/v1/functions/t-sleep").await.status(), 204);
    gateway.deploy("t-sleep").await;
    let ended_ = ended(&gateway, &of_the_function).await;
    assert!(ended_["error"].as_str().unwrap().contains("function is gone"), "{ended_}");
}

/// Case Q02.
#[tokio::test]
async fn a_call_through_a_route_has_the_time_of_its_route() {
    let gateway = TestGateway::with(&QUICK).await;
    gateway.deploy_with("t-sleep", &json!({"queued_attempts": 1})).await;
    let route = json!({"path": "/short", "function": "t-sleep", "timeout_ms": 300});
    let put = gateway.control(Method::PUT, "/v1/routes/short").json(&route).send().await;
    assert_eq!(put.status(), 201, "{put:?}");
    let id = enqueued(call(&gateway, "/short?ms=20000")).await;
    let ended = ended(&gateway, &id).await;
    assert_eq!(ended["state"], "dead", "{ended}");
    assert!(ended["error"].as_str().unwrap().starts_with("timeout"), "{ended}");
}

/// Case Q08.
#[tokio::test]
async fn another_function_is_told_of_the_end() {
    let gateway = TestGateway::with(&QUICK).await;
    gateway.deploy("echo-cgi").await;
    let told = json!({"on_success": "echo-cgi", "on_failure": "echo-cgi"});
    gateway.deploy_with("t-answers", &told).await;
    for (target, outcome, status) in [
        ("/f/t-answers/?status=201&bytes=3", "succeeded", 201),
        ("/f/t-answers/?status=404", "dead", 404),
    ] {
        let id = enqueued(call(&gateway, target)).await;
        let answer = eventually("the function was told", async || {
            let list = "/v1/invocations?function=echo-cgi&state=succeeded";
            let list = api(&gateway, Method::GET, list).await;
            let list = list.json()["invocations"].as_array().unwrap().clone();
            let told = list.iter().find(|call| call["source"] == id)?;
            let told = format!("/v1/invocations/{}", told["id"].as_str().unwrap());
            Some(api(&gateway, Method::GET, &told).await.json().clone())
        })
        .await;
        assert_eq!(answer["cause"], "callback");
        let document: Value = serde_json::from_str(body(&answer)).unwrap();
        assert_eq!(document["id"], id);
        assert_eq!((&document["outcome"], &document["status"]), (&json!(outcome), &json!(status)));
        assert_eq!(document["function"], "t-answers");
    }
    let wrong =
        gateway.patch("t-answers", &json!({"settings": {"on_failure": "https://x/"}})).await;
    assert_eq!(wrong.problem(), (422, "bad-settings"));
}

/// Case Q09.
#[tokio::test]
async fn a_gateway_that_stops_finishes_queued_calls_or_hands_them_back() {
    let mut gateway = TestGateway::with(&["server.drain_ms=20000"]).await;
    gateway.deploy("t-sleep").await;
    let short = enqueued(call(&gateway, "/f/t-sleep/?ms=700")).await;
    becomes(&gateway, &short, "running").await;
    gateway.restart().await;
    let done = status(&gateway, &short).await;
    assert_eq!(done.json()["state"], "succeeded", "{done:?}");
    assert_eq!(done.json()["attempts"], 1);

    gateway.terminate();
    assert!(gateway.exit().await.success());
    gateway.start_with(&["server.drain_ms=100"]).await;
    let long = enqueued(call(&gateway, "/f/t-sleep/?ms=3000")).await;
    becomes(&gateway, &long, "running").await;
    gateway.restart().await;
    let done = ended(&gateway, &long).await;
    assert_eq!((&done["state"], &done["attempts"]), (&json!("succeeded"), &json!(1)), "{done}");
}

/// The calls that told an address, when they have ended.
async fn delivery(gateway: &TestGateway, id: &str) -> Value {
    eventually("the address was told", async || {
        let list = api(gateway, Method::GET, "/v1/invocations").await;
        let list = list.json()["invocations"].as_array().unwrap().clone();
        let told = list.iter().find(|call| call["source"] == id)?;
        let told = format!("/v1/invocations/{}", told["id"].as_str().unwrap());
        let told = api(gateway, Method::GET, &told).await.json().clone();
        ["succeeded", "dead"].contains(&told["state"].as_str().unwrap()).then_some(told)
    })
    .await
}

async fn set_secret(gateway: &TestGateway, host: &str) {
    let secret = json!({"value": "the key", "hosts": [host]});
    let put = gateway.control(Method::PUT, "/v1/secrets/callbacks").json(&secret).send().await;
    assert!(put.status() < 300, "{put:?}");
}

/// Case Q10.
#[tokio::test]
async fn an_address_is_told_and_can_check_the_signature() {
    let settings = [&QUICK[..], &["outbound.allow_private=true"]].concat();
    let gateway = TestGateway::with(&settings).await;
    let server = Upstream::echo().await;
    set_secret(&gateway, &format!("http://{}", server.host())).await;
    let url = format!("http://{}/told?x=1", server.host());
    let told = json!({"on_success": url, "callback_secret": "callbacks"});
    gateway.deploy_with("t-answers", &told).await;

    let id =
        enqueued(call(&gateway, "/f/t-answers/?status=201").header("authorization", "own")).await;
    let told = delivery(&gateway, &id).await;
    assert_eq!((&told["state"], &told["status"]), (&json!("succeeded"), &json!(203)), "{told}");
    // The server answers with the head that it got.
    let head = body(&told);
    assert!(head.starts_with("post /told?x=1 http/1.1\r\n"), "{head}");
    let field = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name} in {head}")).to_owned()
    };
    assert_eq!(field("webhook-id"), told["id"].as_str().unwrap());
    assert_eq!(field("content-type"), "application/json");
    assert!(field("cdn-loop").contains("mayfly"), "{head}");
    assert!(!head.contains("authorization"), "{head}");
    assert!(field("webhook-timestamp").parse::<u64>().unwrap() > 1_600_000_000);
    assert!(field("webhook-signature").starts_with("v1,"), "{head}");
}

/// Case Q10.
#[tokio::test]
async fn an_address_that_may_not_be_called_is_refused_in_one_text() {
    // Private addresses are forbidden.
    let gateway = TestGateway::with(&QUICK).await;
    let server = Upstream::echo().await;
    set_secret(&gateway, &format!("http://{}", server.host())).await;
    gateway.deploy("t-answers").await;
    let mut texts = Vec::new();
    let closed = format!("127.0.0.1:{}", server.port() ^ 1);
    for host in [server.host(), closed.clone()] {
        let secret = json!({"value": "the key", "hosts": [format!("http://{host}")]});
        gateway.control(Method::PUT, "/v1/secrets/callbacks").json(&secret).send().await;
        let told = json!({"on_success": format!("http://{host}/"), "callback_secret": "callbacks"});
        let set = gateway.patch("t-answers", &json!({"settings": told})).await;
        assert_eq!(set.status(), 200, "{set:?}");
        let id = enqueued(call(&gateway, "/f/t-answers/")).await;
        let told = delivery(&gateway, &id).await;
        assert_eq!((&told["state"], &told["attempts"]), (&json!("dead"), &json!(3)), "{told}");
        texts.push(told["error"].clone());
    }
    assert_eq!(texts[0], texts[1], "an owner cannot tell what is there");
    assert_eq!(server.connections(), 0);

    // The secret may not be sent to that address: nothing is tried.
    let told = json!({"on_success": format!("http://{}/", server.host())});
    gateway.patch("t-answers", &json!({"settings": told})).await;
    let id = enqueued(call(&gateway, "/f/t-answers/")).await;
    let told = delivery(&gateway, &id).await;
    assert_eq!(told["attempts"], 1);
    assert!(told["error"].as_str().unwrap().contains("callback_secret"), "{told}");
    for (wrong, named) in [
        (json!({"on_success": "https://x/", "callback_secret": null}), "callback_secret"),
        (json!({"on_success": "ftp://x/"}), "on_success"),
        (json!({"on_success": "https://user:pass@x/"}), "on_success"),
    ] {
        let refused = gateway.patch("t-answers", &json!({"settings": wrong})).await;
        assert_eq!(refused.problem(), (422, "bad-settings"));
        assert!(refused.detail().contains(named), "{refused:?}");
    }
}
