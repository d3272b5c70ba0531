//! Manifests: all that a project has, applied at once.

mod artifacts;
mod crash;
mod mistakes;
mod swap;

use http::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{client::FullResponse, guests::guest, test_gateway::TestGateway};

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl TestGateway {
    async fn put_artifact(&self, bytes: Vec<u8>) -> FullResponse {
        let target = format!("/v1/artifacts/{}", digest(&bytes));
        self.control(Method::PUT, &target).body(bytes).send().await
    }

    /// Stores a guest, and returns its digest.
    async fn artifact(&self, name: &str) -> String {
        let wasm = guest(name);
        let digest = digest(&wasm);
        assert!(matches!(self.put_artifact(wasm).await.status(), 200 | 201));
        digest
    }

    async fn apply(&self, manifest: &Value) -> FullResponse {
        self.control(Method::POST, "/v1/apply").json(manifest).send().await
    }

    /// Applies a manifest, and returns its steps in short: `create function hello`.
    async fn applied(&self, manifest: &Value) -> Vec<String> {
        let applied = self.apply(manifest).await;
        assert_eq!(applied.status(), 200, "{applied:?}");
        steps(&applied)
    }
}

fn steps(answer: &FullResponse) -> Vec<String> {
    let steps = answer.json()["steps"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let step = |step: &Value| {
        format!("{} {} {}", text(&step["action"]), text(&step["kind"]), text(&step["name"]))
    };
    steps.map(step).collect()
}

/// The paths of the mistakes of a manifest.
fn mistakes(answer: &FullResponse) -> Vec<String> {
    let mistakes = answer.json()["mistakes"].as_array().unwrap_or_else(|| panic!("{answer:?}"));
    mistakes.iter().map(|mistake| mistake["path"].as_str().unwrap().to_owned()).collect()
}

/// A manifest with one of everything.
fn everything(digest: &str) -> Value {
    json!({
        "project": "shop",
        "functions": {"hello": {
            "artifact": digest, "description": "says hello", "version": "1.2.0",
            "labels": {"commit": "4be1f0c"}, "settings": {"timeout_ms": 5_000},
            "channels": {"prod": {"range": "~1.2"}},
        }},
        "routes": {
            "users": {"path": "/users/*rest", "function": "hello", "channel": "prod"},
            "buy": {"path": "/buy", "flow": "checkout"},
        },
        "schedules": {"nightly": {"function": "hello", "cron": "@yearly"}},
        "queues": {
            "orders": {"function": "hello", "dead_letter_queue": "dead"},
            "dead": {},
        },
        "flows": {
            "checkout": {"steps": [{"flow": "inner"}]},
            "inner": {"steps": [{"function": "hello"}]},
        },
    })
}

const ALL: [&str; 9] = [
    "function hello",
    "channel hello:prod",
    "queue dead",
    "queue orders",
    "flow checkout",
    "flow inner",
    "schedule nightly",
    "route buy",
    "route users",
];

fn all(action: &str) -> Vec<String> {
    ALL.iter().map(|item| format!("{action} {item}")).collect()
}

/// Case E06.
#[tokio::test]
async fn a_manifest_makes_everything_at_once_and_a_second_time_changes_nothing() {
    let mut gateway = TestGateway::start().await;
    let manifest = everything(&gateway.artifact("c-hello").await);
    let mut dry = manifest.clone();
    dry["dry_run"] = json!(true);
    let planned = gateway.apply(&dry).await;
    assert_eq!((planned.status(), steps(&planned)), (200, all("create")), "{planned:?}");
    assert_eq!(planned.json()["applied"], json!(false));
    assert_eq!(gateway.show("hello").await.problem(), (404, "function-not-found"));
    assert_eq!(gateway.api("/v1/routes").await.json()["routes"], json!([]));

    let mut asked = manifest.clone();
    asked["plan"] = planned.json()["plan"].clone();
    let applied = gateway.apply(&asked).await;
    assert_eq!((applied.status(), steps(&applied)), (200, all("create")), "{applied:?}");
    assert_eq!(applied.json()["steps"][0]["revision"], json!(1));
    assert_eq!(applied.json()["applied"], json!(true));
    for target in ["/f/hello/", "/users/7", "/f/hello@prod/", "/buy"] {
        assert_eq!(gateway.get(target).await.plain(), (200, "hello from c\n"), "{target}");
    }
    let shown = gateway.show("hello").await.json().clone();
    assert_eq!(shown["description"], "says hello");
    assert_eq!(shown["settings"], json!({"timeout_ms": 5_000}));
    let revisions = gateway.api("/v1/functions/hello/revisions").await.json().clone();
    assert_eq!(revisions["revisions"][0]["version"], "1.2.0");
    assert_eq!(revisions["revisions"][0]["labels"], json!({"commit": "4be1f0c"}));

    assert_eq!(gateway.applied(&manifest).await, all("keep"));
    gateway.kill();
    gateway.start_again().await;
    assert_eq!(gateway.get("/users/7").await.plain(), (200, "hello from c\n"));
    assert_eq!(gateway.get("/buy").await.plain(), (200, "hello from c\n"));
    assert_eq!(gateway.applied(&manifest).await, all("keep"));
    assert_eq!(gateway.show("hello").await.json()["revision"], json!(1));
    let orders = gateway.api("/v1/queues/orders").await;
    assert_eq!(orders.json()["queue"]["dead_letter_queue"], "dead");
    let nightly = gateway.api("/v1/schedules/nightly").await;
    assert_eq!(nightly.json()["next"].as_array().unwrap().len(), 5);
}

/// Case E07.
#[tokio::test]
async fn a_plan_says_what_changes_without_the_values_of_environments() {
    let gateway = TestGateway::start().await;
    let (c, rust) = (gateway.artifact("c-hello").await, gateway.artifact("hello").await);
    let mut manifest = everything(&c);
    manifest["functions"]["hello"]["settings"]["environment"] = json!({"A": "1", "B": "s3cr3t"});
    gateway.applied(&manifest).await;
    let function = &mut manifest["functions"]["hello"];
    function["artifact"] = json!(rust);
    function["version"] = json!("1.2.1");
    function["settings"] = json!({"timeout_ms": 6_000, "environment": {"A": "1", "B": "hunter2"}});
    function["channels"]["prod"]["sticky"] = json!("client");
    manifest["routes"]["users"]["timeout_ms"] = json!(9);
    let applied = gateway.apply(&manifest).await;
    let text = applied.text();
    assert!(!text.contains("s3cr3t") && !text.contains("hunter2"), "{text}");
    let changed: Vec<Value> = applied.json()["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|step| step["action"] == "change")
        .cloned()
        .collect();
    let change = |path: &str, from: Value, to: Value| json!({"path": path, "from": from, "to": to});
    assert_eq!(
        json!(changed),
        json!([
            {"action": "change", "kind": "function", "name": "hello", "revision": 2, "changes": [
                change("artifact", json!(c), json!(rust)),
                change("settings.environment.B", json!("***"), json!("***")),
                change("settings.timeout_ms", json!(5_000), json!(6_000)),
                change("version", json!("1.2.0"), json!("1.2.1")),
            ]},
            {"action": "change", "kind": "channel", "name": "hello:prod", "changes": [
                change("sticky", json!("none"), json!("client")),
            ]},
            {"action": "change", "kind": "route", "name": "users", "changes": [
                change("timeout_ms", Value::Null, json!(9)),
            ]},
        ])
    );
    assert_eq!(gateway.get("/users/1").await.status(), 200);
    assert_eq!(gateway.applied(&manifest).await, all("keep"));
    // What is left out has its default.
    manifest["functions"]["hello"].as_object_mut().unwrap().remove("settings");
    manifest["functions"]["hello"].as_object_mut().unwrap().remove("description");
    let applied = gateway.apply(&manifest).await;
    assert_eq!(applied.json()["steps"][0]["action"], "change", "{applied:?}");
    let shown = gateway.show("hello").await.json().clone();
    assert_eq!((&shown["settings"], &shown["description"]), (&json!({}), &json!("")));
}

/// Case E08.
#[tokio::test]
async fn only_what_the_project_has_made_is_pruned() {
    let gateway = TestGateway::start().await;
    let digest = gateway.artifact("c-hello").await;
    gateway.put("own", guest("c-hello")).send().await;
    let route = json!({"path": "/own", "function": "own"});
    gateway.control(Method::PUT, "/v1/routes/own").json(&route).send().await;
    let other = json!({"project": "other", "functions": {"other": {"artifact": digest}}});
    gateway.applied(&other).await;
    gateway.applied(&everything(&digest)).await;

    let empty = json!({"project": "shop"});
    assert_eq!(gateway.applied(&empty).await, [] as [&str; 0], "nothing goes unless it is asked");
    let mut fewer = everything(&digest);
    fewer["routes"].as_object_mut().unwrap().remove("users");
    fewer["functions"]["hello"]["channels"] = json!({});
    fewer["prune"] = json!(true);
    let applied = gateway.applied(&fewer).await;
    let gone: Vec<&str> = applied.iter().filter_map(|it| it.strip_prefix("delete ")).collect();
    assert_eq!(gone, ["channel hello:prod", "route users"]);
    assert_eq!(gateway.get("/f/hello/").await.status(), 200);
    assert_eq!(gateway.get("/f/hello@prod/").await.problem(), (404, "channel-not-found"));
    assert_eq!(gateway.get("/users/1").await.problem(), (404, "no-route"));

    // A message that was not delivered is not lost by a manifest.
    let send = gateway.control(Method::POST, "/v1/queues/dead/messages");
    send.json(&json!({"messages": [{"body": "x"}]})).send().await;
    let all = json!({"project": "shop", "prune": true});
    let refused = gateway.apply(&all).await;
    assert_eq!(
        (refused.problem(), mistakes(&refused)),
        ((422, "bad-manifest"), vec!["prune".into()])
    );
    gateway.control(Method::DELETE, "/v1/queues/dead?force=true").send().await;
    let gone = gateway.applied(&all).await;
    assert_eq!(gone.len(), 6, "{gone:?}");
    assert!(gone.iter().all(|step| step.starts_with("delete ")), "{gone:?}");
    let names = |answer: FullResponse, kind: &str| -> Vec<String> {
        let list = answer.json()[kind].as_array().unwrap().iter();
        list.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(gateway.api("/v1/functions").await, "functions"), ["other", "own"]);
    assert_eq!(names(gateway.api("/v1/routes").await, "routes"), ["own"]);
    for kind in ["schedules", "queues", "flows"] {
        assert_eq!(names(gateway.api(&format!("/v1/{kind}")).await, kind), [] as [&str; 0]);
    }
    assert_eq!(gateway.get("/own").await.plain(), (200, "hello from c\n"));
}

/// Case E08.
#[tokio::test]
async fn what_others_have_made_is_taken_over_if_it_is_named() {
    let gateway = TestGateway::start().await;
    let digest = gateway.artifact("c-hello").await;
    gateway.put("own", guest("c-hello")).send().await;
    let take =
        |project: &str| json!({"project": project, "functions": {"own": {"artifact": digest}}});
    let step = async |project: &str| gateway.apply(&take(project)).await.json()["steps"][0].clone();
    for (project, from) in [("shop", Value::Null), ("other", json!("shop"))] {
        let expected = json!({"action": "change", "kind": "function", "name": "own", "changes": [
            {"path": "project", "from": from, "to": project}]});
        assert_eq!(step(project).await, expected);
    }
    assert_eq!(step("other").await["action"], "keep");
    assert_eq!(gateway.show("own").await.json()["revision"], json!(1), "its bytes are the same");
    assert_eq!(gateway.applied(&json!({"project": "shop", "prune": true})).await.len(), 0);
    let gone = gateway.applied(&json!({"project": "other", "prune": true})).await;
    assert_eq!(gone, ["delete function own"]);
}

/// Case E09.
#[tokio::test]
async fn a_plan_that_is_another_one_now_is_not_applied() {
    let gateway = TestGateway::start().await;
    let mut manifest = everything(&gateway.artifact("c-hello").await);
    manifest["dry_run"] = json!(true);
    let first = gateway.apply(&manifest).await.json()["plan"].clone();
    assert_eq!(gateway.apply(&manifest).await.json()["plan"], first, "nothing has changed");
    gateway.control(Method::PUT, "/v1/queues/dead").json(&json!({"attempts": 9})).send().await;
    let second = gateway.apply(&manifest).await.json()["plan"].clone();
    assert_ne!(first, second);
    manifest["dry_run"] = json!(false);
    manifest["plan"] = first;
    assert_eq!(gateway.apply(&manifest).await.problem(), (409, "plan-changed"));
    assert_eq!(gateway.show("hello").await.status(), 404);
    manifest["plan"] = second;
    assert_eq!(gateway.apply(&manifest).await.status(), 200);
}

/// Case E09.
#[tokio::test(flavor = "multi_thread")]
async fn manifests_and_changes_at_the_same_time_exclude_each_other() {
    let gateway = TestGateway::start().await;
    let digest = gateway.artifact("c-hello").await;
    let manifest = |attempts: u32| {
        let mut manifest = everything(&digest);
        manifest["queues"]["dead"] = json!({"attempts": attempts});
        manifest["functions"]["hello"]["settings"] = json!({"timeout_ms": 1_000 + attempts});
        manifest
    };
    gateway.applied(&manifest(1)).await;
    let all = (2..10).map(|attempts| {
        let (gateway, manifest) = (&gateway, manifest(attempts));
        async move {
            let applied = gateway.apply(&manifest).await;
            assert!(matches!(applied.status(), 200 | 409), "{applied:?}");
            let put = json!({"attempts": 100 + attempts});
            gateway.control(Method::PUT, "/v1/queues/dead").json(&put).send().await;
            gateway.patch("hello", &json!({"settings": {"queue": attempts}})).await;
            applied.status()
        }
    });
    let statuses = futures_util::future::join_all(all).await;
    assert!(statuses.contains(&200), "{statuses:?}");
    gateway.applied(&manifest(5)).await;
    assert_eq!(gateway.applied(&manifest(5)).await, self::all("keep"));
    assert_eq!(gateway.show("hello").await.json()["settings"], json!({"timeout_ms": 1_005}));
}

/// Case E10.
#[tokio::test]
async fn a_revision_that_waits_for_its_owner_is_not_made_again() {
    let gateway = TestGateway::start().await;
    let (c, rust) = (gateway.artifact("c-hello").await, gateway.artifact("hello").await);
    let manifest = |digest: &str, default: u32| {
        json!({"project": "shop", "functions": {"f": {
            "artifact": digest, "channels": {"default": {"revision": default}}}}})
    };
    gateway.applied(&manifest(&c, 1)).await;
    gateway.applied(&manifest(&rust, 1)).await;
    assert_eq!(gateway.get("/f/f/").await.plain(), (200, "hello from c\n"));
    let again = gateway.applied(&manifest(&rust, 1)).await;
    assert_eq!(again, ["keep function f", "keep channel f:default"]);
    assert_eq!(gateway.applied(&manifest(&rust, 2)).await[1], "change channel f:default");
    assert_ne!(gateway.get("/f/f/").await.plain(), (200, "hello from c\n"));
}
