//! Flows, over HTTP and from the command line.

use std::fs;

use futures_util::{StreamExt as _, stream};
use http::Method;
use serde_json::{Value, json};

use crate::{
    asynchronous::{self, ended},
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

async fn put(gateway: &TestGateway, name: &str, flow: &Value) -> FullResponse {
    gateway.control(Method::PUT, &format!("/v1/flows/{name}")).json(flow).send().await
}

async fn set(gateway: &TestGateway, name: &str, flow: Value) {
    let made = put(gateway, name, &flow).await;
    assert!([200, 201].contains(&made.status()), "{made:?}");
}

/// Sets a flow, and a route of the same name that leads to it.
async fn set_at(gateway: &TestGateway, name: &str, flow: Value) {
    set(gateway, name, flow).await;
    let route = json!({"path": format!("/{name}/*rest"), "flow": name});
    let route = gateway.control(Method::PUT, &format!("/v1/routes/{name}")).json(&route);
    let made = route.send().await;
    assert!([200, 201].contains(&made.status()), "{made:?}");
}

async fn post(gateway: &TestGateway, target: &str, body: &'static str) -> FullResponse {
    let post = gateway.call(Method::POST, target).header("content-type", "application/json");
    post.body(body).send().await
}

/// Starts an asynchronous run, and returns its id.
async fn start(gateway: &TestGateway, name: &str, input: Value) -> String {
    let start = gateway.control(Method::POST, &format!("/v1/flows/{name}/runs"));
    let started = start.json(&json!({"input": input})).send().await;
    assert_eq!(started.status(), 202, "{started:?}");
    started.json()["id"].as_str().unwrap().to_owned()
}

async fn run(gateway: &TestGateway, name: &str, id: &str) -> Value {
    let run = api(gateway, Method::GET, &format!("/v1/flows/{name}/runs/{id}")).await;
    assert_eq!(run.status(), 200, "{run:?}");
    run.json().clone()
}

/// The places of steps with how they ended.
fn outcomes(run: &Value) -> Vec<String> {
    let steps = run["steps"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    steps.map(|step| format!("{} {}", text(&step["step"]), text(&step["outcome"]))).collect()
}

/// Case W03.
#[tokio::test]
async fn steps_see_the_state_and_the_last_answer_is_the_flow_s() {
    let gateway = TestGateway::start().await;
    for guest in ["echo-cgi", "t-cgi-env", "t-answers"] {
        gateway.deploy(guest).await;
    }
    set_at(
        &gateway,
        "order",
        json!({"steps": [
            // The first step gets the request itself.
            {"function": "echo-cgi", "as": "first"},
            {"function": "echo-cgi", "as": "chosen", "with": {"id": "first/order/id", "all": "input", "who": "params"}},
            {"function": "t-answers", "as": "text", "path": "/?bytes=3"},
            {"function": "echo-cgi", "as": "last"},
        ]}),
    )
    .await;
    let answer = post(&gateway, "/order/a?x=1", "{\"order\": {\"id\": 17}}").await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("mayfly-outcome"), Some("function"));
    assert!(answer.header("mayfly-request-id").is_some());
    let order = json!({"order": {"id": 17}});
    let expected = json!({
        "input": order, "params": {"rest": "a"}, "first": order,
        "chosen": {"id": 17, "all": order, "who": {"rest": "a"}},
        "text": "xxx",
    });
    assert_eq!(*answer.json(), expected);

    // What a function sees: the request, and in later steps a POST of the state with the same fields.
    set_at(&gateway, "env", json!({"steps": [{"function": "t-cgi-env"}]})).await;
    let first = gateway.call(Method::PUT, "/env/a/b?x=1").header("x-mine", "1").send().await;
    set_at(
        &gateway,
        "env",
        json!({"steps": [{"function": "echo-cgi"}, {"function": "t-cgi-env", "path": "/p?q"}]}),
    )
    .await;
    let later = gateway.call(Method::PUT, "/env/a/b?x=1").header("x-mine", "1").send().await;
    for (answer, lines) in [
        (
            first,
            [
                "REQUEST_METHOD=PUT",
                "PATH_INFO=/env/a/b",
                "QUERY_STRING=x=1",
                "HTTP_MAYFLY_FLOW_STEP=0",
            ],
        ),
        (
            later,
            ["REQUEST_METHOD=POST", "PATH_INFO=/p", "QUERY_STRING=q", "HTTP_MAYFLY_FLOW_STEP=1"],
        ),
    ] {
        let text = answer.text().to_owned();
        let both = [
            "HTTP_X_MINE=1",
            "HTTP_MAYFLY_FLOW=env",
            "HTTP_MAYFLY_ROUTE=env",
            "HTTP_MAYFLY_FLOW_PARAMS={\"rest\":\"a/b\"}",
        ];
        for line in lines.iter().chain(&both) {
            assert!(text.lines().any(|other| other == *line), "{line} is not in {text}");
        }
    }
    let shown = api(&gateway, Method::GET, "/v1/flows/order").await;
    let recent = &shown.json()["recent"][0];
    assert_eq!(outcomes(recent), ["0 done", "1 done", "2 done", "3 done"], "{recent}");
    let labels = [("flow", "order"), ("outcome", "done")];
    assert_eq!(gateway.metric_with("mayfly_flow_steps_total", &labels).await, 4.0);
    let labels = [("flow", "order"), ("outcome", "ok")];
    assert_eq!(gateway.metric_with("mayfly_flow_runs_total", &labels).await, 1.0);
}

/// Case W03.
#[tokio::test]
async fn members_of_a_group_run_at_once_and_see_the_state_before_it() {
    let gateway = TestGateway::start().await;
    for guest in ["echo-cgi", "t-sleep"] {
        gateway.deploy(guest).await;
    }
    let sleep = |key: &str| json!({"function": "t-sleep", "as": key, "path": "/?ms=1500", "with": {"a": "a"}});
    set_at(
        &gateway,
        "many",
        json!({"steps": [
            {"function": "echo-cgi", "as": "a"},
            {"group": [sleep("x"), sleep("y"), sleep("z"), {"function": "echo-cgi", "as": "seen"}]},
        ], "response": "seen"}),
    )
    .await;
    let began = std::time::Instant::now();
    let answer = post(&gateway, "/many/", "1").await;
    let took = began.elapsed();
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(*answer.json(), json!({"input": 1, "params": {"rest": ""}, "a": 1}));
    assert!(took.as_millis() >= 1_500, "it waits for the slowest: {took:?}");
    let shown = api(&gateway, Method::GET, "/v1/flows/many").await;
    let steps = shown.json()["recent"][0]["steps"].as_array().unwrap().clone();
    let begun: Vec<jiff::Timestamp> = steps
        .iter()
        .filter(|step| step["target"] == "t-sleep")
        .map(|step| step["started_at"].as_str().unwrap().parse().unwrap())
        .collect();
    let apart = begun.iter().max().unwrap().duration_since(*begun.iter().min().unwrap());
    assert!(apart.as_millis() < 1_000, "they began at once: {steps:?}");
}

/// Case W04.
#[tokio::test]
async fn errors_end_a_flow_or_become_a_part_of_its_state() {
    let gateway = TestGateway::start().await;
    for guest in ["echo-cgi", "t-answers", "t-trap"] {
        gateway.deploy(guest).await;
    }
    let flow = |path: &str, function: &str, on_error: Value| {
        json!({"steps": [
            {"function": "echo-cgi", "as": "a"},
            {"function": function, "as": "tried", "path": path, "on_error": on_error},
            {"function": "echo-cgi", "as": "last", "with": {"tried": "tried"}},
        ]})
    };
    let not_found = "/?status=404&bytes=3";
    for (on_error, goes_on) in [
        (json!({}), false),
        (json!({"any": "continue"}), true),
        (json!({"codes": {"404": "continue"}}), true),
        (json!({"codes": {"500": "continue"}}), false),
        (json!({"codes": {"404": "return"}, "other": "continue"}), false),
        (json!({"codes": {"500": "return"}, "other": "continue"}), true),
    ] {
        set_at(&gateway, "tries", flow(not_found, "t-answers", on_error.clone())).await;
        let answer = post(&gateway, "/tries/", "{}").await;
        if goes_on {
            assert_eq!(answer.status(), 200, "{on_error}: {answer:?}");
            let tried = json!({"tried": {"code": 404, "message": "xxx"}});
            assert_eq!(*answer.json(), tried, "{on_error}");
        } else {
            assert_eq!((answer.status(), answer.text()), (404, "xxx"), "{on_error}");
            assert_eq!(answer.header("mayfly-flow-step"), Some("1"));
        }
    }
    // A function without an answer, and one that is gone.
    set_at(&gateway, "tries", flow("/trap", "t-trap", json!({}))).await;
    let answer = post(&gateway, "/tries/", "{}").await;
    assert_eq!(answer.problem(), (502, "function-failed"));
    assert_eq!(answer.header("mayfly-flow-step"), Some("1"));
    set_at(&gateway, "tries", flow("/trap", "t-trap", json!({"codes": {"502": "continue"}}))).await;
    let answer = post(&gateway, "/tries/", "{}").await;
    assert_eq!(answer.json()["tried"]["code"], 502, "{answer:?}");
    assert_eq!(api(&gateway, Method::DELETE, "/v1/functions/t-trap").await.status(), 204);
    let shown = api(&gateway, Method::GET, "/v1/flows/tries").await;
    assert_eq!(outcomes(&shown.json()["recent"][0]), ["0 done", "1 continued", "2 done"]);
    set_at(&gateway, "tries", flow(not_found, "t-answers", json!({}))).await;
    let answer = post(&gateway, "/tries/", "{}").await;
    assert_eq!(answer.status(), 404);
}

/// Case W01.
#[tokio::test]
async fn what_cannot_be_a_flow_names_the_member_and_changes_nothing() {
    let gateway = TestGateway::with(&["quotas.flows=3"]).await;
    gateway.deploy("echo-cgi").await;
    let kept = json!({"steps": [{"function": "echo-cgi"}], "attempts": 7});
    set(&gateway, "kept", kept).await;
    for (flow, member) in [
        (json!({"steps": [{"function": "missing"}]}), "function: "),
        (json!({"steps": [{"function": "echo-cgi", "channel": "missing"}]}), "channel: "),
        (json!({"steps": [{"flow": "missing"}]}), "flow: "),
        (json!({"steps": [{"flow": "kept"}]}), "flow: "),
        (json!({"steps": []}), "steps: "),
        (json!({"steps": [{"function": "echo-cgi", "with": {"a": "later"}}]}), "steps[0].with"),
    ] {
        let refused = put(&gateway, "kept", &flow).await;
        assert_eq!(refused.problem(), (422, "bad-flow"), "{flow}: {refused:?}");
        assert!(refused.detail().starts_with(member), "{flow}: {refused:?}");
    }
    assert_eq!(put(&gateway, "kept", &json!({"steps": [{"unknown": 1}]})).await.status(), 400);
    let shown = api(&gateway, Method::GET, "/v1/flows/kept").await;
    assert_eq!(shown.json()["flow"]["attempts"], 7);

    // Circles are refused, whichever of them comes last.
    set(&gateway, "outer", json!({"steps": [{"flow": "kept"}]})).await;
    let circle = put(&gateway, "kept", &json!({"steps": [{"flow": "outer"}]})).await;
    assert_eq!(circle.problem(), (422, "bad-flow"));
    assert!(circle.detail().contains("kept → outer → kept"), "{circle:?}");
    set(&gateway, "third", json!({"steps": [{"function": "echo-cgi"}]})).await;
    let full = put(&gateway, "fourth", &json!({"steps": [{"function": "echo-cgi"}]})).await;
    assert_eq!(full.problem(), (409, "flow-quota"));
    let listed = api(&gateway, Method::GET, "/v1/flows?limit=1").await;
    assert_eq!(listed.json()["flows"][0]["name"], "kept");
    assert_eq!(listed.json()["next_cursor"], "kept");

    // What others need is not deleted.
    let used = api(&gateway, Method::DELETE, "/v1/flows/kept").await;
    assert_eq!(used.problem(), (409, "flow-in-use"));
    assert!(used.detail().contains("outer"), "{used:?}");
    set_at(&gateway, "third", json!({"steps": [{"function": "echo-cgi"}]})).await;
    let used = api(&gateway, Method::DELETE, "/v1/flows/third").await;
    assert!(used.detail().contains("route"), "{used:?}");
    assert_eq!(api(&gateway, Method::DELETE, "/v1/routes/third").await.status(), 204);
    for name in ["third", "outer", "kept"] {
        let deleted = api(&gateway, Method::DELETE, &format!("/v1/flows/{name}")).await;
        assert_eq!(deleted.status(), 204, "{name}");
    }
    for (method, target) in [
        (Method::GET, "/v1/flows/kept"),
        (Method::DELETE, "/v1/flows/kept"),
        (Method::GET, "/v1/flows/kept/runs"),
        (Method::GET, "/v1/flows/kept/runs/x"),
    ] {
        let missing = api(&gateway, method, target).await;
        assert_eq!(missing.problem(), (404, "flow-not-found"), "{target}");
    }
    let route = gateway.control(Method::PUT, "/v1/routes/r");
    let route = route.json(&json!({"path": "/r", "flow": "kept"})).send().await;
    assert_eq!(route.problem(), (422, "bad-route"));
}

/// Case W02.
#[tokio::test]
async fn a_flow_runs_within_another_and_its_time_and_state_are_bounded() {
    let gateway = TestGateway::with(&["flows.state_bytes=4096"]).await;
    for guest in ["echo-cgi", "t-sleep", "t-answers"] {
        gateway.deploy(guest).await;
    }
    let inner = json!({"steps": [
        {"function": "echo-cgi", "as": "got"},
        {"function": "echo-cgi", "as": "own", "with": {"x": "input/a"}},
    ]});
    set(&gateway, "inner", inner).await;
    let outer = json!({"steps": [
        {"function": "echo-cgi", "as": "first"},
        {"group": [{"flow": "inner", "as": "nested", "with": {"a": "first/b"}}]},
    ], "response": "nested"});
    set_at(&gateway, "outer", outer).await;
    let answer = post(&gateway, "/outer/", "{\"b\": [7]}").await;
    assert_eq!((answer.status(), answer.json()), (200, &json!({"x": [7]})), "{answer:?}");
    let shown = api(&gateway, Method::GET, "/v1/flows/outer").await;
    let recent = &shown.json()["recent"][0];
    let expected = ["0 done", "1.0/0 done", "1.0/1 done", "1.0 done"];
    assert_eq!(outcomes(recent), expected, "{recent}");

    set_at(
        &gateway,
        "slow",
        json!({"timeout_ms": 1_000, "steps": [
            {"function": "t-sleep", "path": "/?ms=700", "on_error": {"any": "continue"}},
            {"function": "t-sleep", "as": "more", "path": "/?ms=5000", "on_error": {"any": "continue"}},
            {"function": "echo-cgi"},
        ]}),
    )
    .await;
    let late = post(&gateway, "/slow/", "").await;
    assert_eq!(late.problem(), (504, "flow-timeout"));
    let shown = api(&gateway, Method::GET, "/v1/flows/slow").await;
    let recent = &shown.json()["recent"][0];
    assert_eq!(recent["outcome"], "timeout", "{recent}");
    assert_eq!(outcomes(recent), ["0 done", "1 continued"]);

    let large = json!({"steps": [
        {"function": "t-answers", "path": "/?bytes=3000"},
        {"function": "t-answers", "as": "b", "path": "/?bytes=3000"},
    ]});
    set_at(&gateway, "large", large).await;
    let large = post(&gateway, "/large/", "").await;
    assert_eq!(large.problem(), (502, "flow-state-too-large"));
    set_at(&gateway, "one", json!({"steps": [{"function": "t-answers", "path": "/?bytes=5000"}]}))
        .await;
    let one = post(&gateway, "/one/", "").await;
    assert_eq!(one.problem(), (502, "flow-state-too-large"));
    let body = gateway.call(Method::POST, "/one/").body("x".repeat(2_049)).send().await;
    assert_eq!(body.problem(), (413, "request-too-large"));
}

/// Case W05.
#[tokio::test]
async fn an_asynchronous_run_goes_on_at_the_step_that_has_failed_under_its_id() {
    let mut gateway = TestGateway::with(&QUICK).await;
    for guest in ["echo-cgi", "t-answers", "t-cgi-env"] {
        gateway.deploy(guest).await;
    }
    let flow = |status: u32| {
        json!({"attempts": 2, "steps": [
            {"function": "t-cgi-env", "as": "env", "path": "/?log"},
            {"function": "t-answers", "as": "tried", "path": format!("/?status={status}")},
            {"function": "echo-cgi", "as": "last", "with": {"input": "input", "tried": "tried"}},
        ]})
    };
    set_at(&gateway, "order", flow(503)).await;
    let id = start(&gateway, "order", json!({"order": 17})).await;
    let done = ended(&gateway, &id).await;
    assert_eq!((&done["state"], &done["attempts"]), (&json!("dead"), &json!(2)), "{done}");
    assert_eq!(done["error"], "step 1 (t-answers): the function answered with the status 503");
    assert_eq!(done["answer"]["status"], 503);
    let failed = run(&gateway, "order", &id).await;
    assert_eq!(outcomes(&failed), ["0 done", "1 failed"], "{failed}");
    assert_eq!(
        (&failed["steps"][0]["attempt"], &failed["steps"][1]["attempt"]),
        (&json!(1), &json!(2))
    );
    let lines = gateway.log_lines("t-cgi-env", 1).await;
    assert_eq!(lines.len(), 1, "the first step was not repeated: {lines:?}");

    // The function is repaired, the gateway restarted, and the run redriven: it goes on as it began.
    gateway.restart().await;
    gateway.put("t-answers", crate::guests::guest("echo-cgi")).send().await;
    let redriven = api(&gateway, Method::POST, &format!("/v1/invocations/{id}/redrive")).await;
    assert_eq!(redriven.status(), 200, "{redriven:?}");
    let done = ended(&gateway, &id).await;
    assert_eq!(done["state"], "succeeded", "{done}");
    let repaired = run(&gateway, "order", &id).await;
    assert_eq!(outcomes(&repaired), ["0 done", "1 done", "2 done"], "{repaired}");
    assert_eq!(repaired["steps"][1]["id"], failed["steps"][1]["id"], "the same id");
    let body: Value = serde_json::from_str(done["answer"]["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["input"], json!({"order": 17}), "{body}");
    assert_eq!(gateway.log_lines("t-cgi-env", 1).await.len(), 1, "nor was it then");

    // By a route, with a key of the client's.
    let call = |body: &'static str| {
        asynchronous::call(&gateway, "/order/").header("idempotency-key", "one").body(body)
    };
    let first = asynchronous::enqueued(call("{}")).await;
    assert_eq!(asynchronous::enqueued(call("{}")).await, first);
    assert_eq!(call("{\"a\":1}").send().await.problem(), (422, "idempotency-key-reused"));
    assert_eq!(ended(&gateway, &first).await["state"], "succeeded");
    let listed = api(&gateway, Method::GET, "/v1/flows/order/runs?state=succeeded").await;
    let listed = listed.json()["runs"].as_array().unwrap().clone();
    assert_eq!((listed.len(), &listed[0]["id"]), (2, &json!(first)));
    // A run of a route that is gone does not go on.
    let slow = json!({"steps": [{"function": "echo-cgi"}], "concurrency": 1});
    set_at(&gateway, "order", slow).await;
    let used = api(&gateway, Method::DELETE, "/v1/flows/order").await;
    assert_eq!(used.problem(), (409, "flow-in-use"));
    assert_eq!(api(&gateway, Method::DELETE, "/v1/routes/order").await.status(), 204);
    assert_eq!(api(&gateway, Method::DELETE, "/v1/flows/order").await.status(), 204);
    let missing = api(&gateway, Method::GET, &format!("/v1/invocations/{first}")).await;
    assert_eq!(missing.status(), 404, "its runs go with it");
}

/// The steps that a function has seen: flow step and idempotency key.
async fn keys(gateway: &TestGateway) -> Vec<(String, String)> {
    let log = gateway.api("/v1/functions/t-cgi-env/logs?limit=1000").await;
    let mut keys = Vec::new();
    for line in log.json()["lines"].as_array().unwrap() {
        let text = line["line"].as_str().unwrap();
        let field = |name: &str| {
            text.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        if let (Some(step), Some(attempt)) = (field("FLOW_STEP"), field("ATTEMPT")) {
            keys.push((step.to_owned(), attempt.to_owned()));
        }
    }
    keys
}

/// Kills a gateway at a system call on the queue's write-ahead log: while a run is stored, claimed, or a step
/// of it recorded.
async fn killed_at(call: &str, nth: u32) {
    let at = format!("{call} {nth}");
    let mut gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    gateway.deploy("echo-cgi").await;
    let step = |key: &str| json!({"function": "t-cgi-env", "as": key, "path": "/?log"});
    set(
        &gateway,
        "steps",
        json!({"attempts": 5, "steps": [
            step("a"),
            {"group": [step("b"), step("c")]},
            step("d"),
            {"function": "echo-cgi", "as": "last", "with": {"d": "d"}},
        ]}),
    )
    .await;
    let path = gateway.data_dir().join("queue.db-wal");
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    let what = [&*format!("trace={call}"), &*inject];
    let strace = Strace::attach(gateway.pid(), &what, Some(&path)).await;
    let start = async |gateway: &TestGateway, key: &str| {
        let start = gateway.control(Method::POST, "/v1/flows/steps/runs");
        let input = json!({"input": key, "idempotency_key": key});
        let started = start.json(&input).try_send().await.ok()?;
        assert_eq!(started.status(), 202, "{started:?}");
        Some(started.json()["id"].as_str().unwrap().to_owned())
    };
    let mut acknowledged = Vec::new();
    for nth in 0..50 {
        let Some(id) = start(&gateway, &nth.to_string()).await else { break };
        acknowledged.push(id);
    }
    assert!(!gateway.exit().await.success(), "{at}: it was not killed");
    drop(strace);
    gateway.start_again().await;
    // The client repeats what was not acknowledged.
    let key = acknowledged.len().to_string();
    acknowledged.push(start(&gateway, &key).await.unwrap());
    for id in &acknowledged {
        let done = ended(&gateway, id).await;
        assert_eq!(done["state"], "succeeded", "{at}: {done}");
        let run = run(&gateway, "steps", id).await;
        let mut steps = outcomes(&run);
        steps.sort();
        assert_eq!(steps, ["0 done", "1.0 done", "1.1 done", "2 done", "3 done"], "{at}: {run}");
        let answer = done["answer"]["body"].as_str().unwrap();
        let answer: Value = serde_json::from_str(answer).unwrap();
        // Each step has seen the id that the run records for it.
        let seen = answer["d"].as_str().unwrap();
        let recorded = run["steps"].as_array().unwrap().iter().find(|step| step["step"] == "2");
        let id = recorded.unwrap()["id"].as_str().unwrap();
        assert!(seen.contains(&format!("HTTP_IDEMPOTENCY_KEY={id}\n")), "{at}: {seen}");
    }
    let all = api(&gateway, Method::GET, "/v1/flows/steps/runs").await;
    assert_eq!(all.json()["runs"].as_array().unwrap().len(), acknowledged.len(), "{at}");
    // Only what was not recorded runs again, so there are not many more than there are steps.
    let seen = keys(&gateway).await.len();
    let most = acknowledged.len() * 4 + 8;
    assert!(seen <= most, "{at}: {seen} steps of {most}");
}

/// Case W06.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_loses_no_run_and_repeats_no_step_that_was_recorded() {
    let writes = (0..12).map(|nth| ("pwrite64", 1 + nth * 3));
    let flushes = (1..=6).map(|nth| ("fdatasync,fsync", nth));
    let all = (0..repetitions(1, 20)).flat_map(|_| writes.clone().chain(flushes.clone()));
    let steps = all.map(|(call, nth)| killed_at(call, nth));
    stream::iter(steps).buffer_unordered(2).collect::<()>().await;
}

/// Case W07.
#[tokio::test]
async fn flows_from_the_command_line() {
    let gateway = TestGateway::start().await;
    gateway.deploy("echo-cgi").await;
    let run = async |arguments: &[&str]| {
        let output = gateway.cli(&[&["flow"], arguments].concat()).await;
        let (out, errors) = (String::from_utf8(output.stdout).unwrap(), output.stderr);
        (output.status.code(), out, String::from_utf8(errors).unwrap())
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("flow.json");
    let flow = json!({"steps": [
        {"function": "echo-cgi", "as": "a"},
        {"group": [{"function": "echo-cgi", "as": "b"}, {"function": "echo-cgi", "as": "c"}]},
    ], "response": "b"});
    fs::write(&file, flow.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let (code, out, errors) = run(&["set", "twice", "--file", file]).await;
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(out, "twice runs echo-cgi, (echo-cgi, echo-cgi)\n");
    let (_, listed, _) = run(&["list"]).await;
    assert!(listed.contains("twice  echo-cgi, (echo-cgi, echo-cgi)  0"), "{listed}");
    let (_, started, _) =
        run(&["run", "twice", "-d", "{\"x\": 1}", "--idempotency-key", "k"]).await;
    let id = started.trim().strip_prefix("twice runs as ").unwrap().to_owned();
    assert_eq!(ended(&gateway, &id).await["state"], "succeeded");
    eventually("the run is listed", async || {
        run(&["runs", "twice", "--state", "succeeded"]).await.1.contains(&id).then_some(())
    })
    .await;
    let (_, shown, _) = run(&["runs", "twice", &id]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["steps"].as_array().unwrap().len(), 3);
    assert!(run(&["run", "twice", "-d", "no json"]).await.0 == Some(2));
    let (_, shown, _) = run(&["show", "twice"]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["flow"]["response"], "b");
    assert_eq!(run(&["delete", "twice"]).await.1, "deleted twice\n");
}
