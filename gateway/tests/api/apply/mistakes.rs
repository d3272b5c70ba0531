//! What is wrong with a manifest is said with its place, and nothing of it is applied.

use http::Method;
use serde_json::{Value, json};

use super::{digest, everything, mistakes};
use crate::{guests::guest, test_gateway::TestGateway};

/// Changes the manifest of everything at a place, as JSON pointers name it.
fn with(manifest: &Value, pointer: &str, value: Value) -> Value {
    let mut manifest = manifest.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    manifest.pointer_mut(parent).unwrap()[name] = value;
    manifest
}

/// Changes of the manifest of everything, each with the place of the mistake that it makes.
fn cases() -> Vec<(String, Value, &'static str)> {
    let hello = "/functions/hello";
    vec![
        ("/project".to_owned(), json!("No"), "project"),
        ("/functions/No".into(), json!({"artifact": digest(b"x")}), "functions.No"),
        (format!("{hello}/artifact"), json!("x"), "functions.hello.artifact"),
        (format!("{hello}/artifact"), json!(digest(b"unknown")), "functions.hello.artifact"),
        (format!("{hello}/version"), json!("1"), "functions.hello.version"),
        (format!("{hello}/labels"), json!({"a b": ""}), "functions.hello.labels"),
        (format!("{hello}/description"), json!("x".repeat(5_000)), "functions.hello.description"),
        (format!("{hello}/settings"), json!({"cpu_m": 1}), "functions.hello.settings.cpu_m"),
        (format!("{hello}/settings"), json!({"cpu_ms": 0}), "functions.hello.settings.cpu_ms"),
        (format!("{hello}/settings"), json!({"cpu_ms": "x"}), "functions.hello.settings.cpu_ms"),
        (
            format!("{hello}/settings"),
            json!({"outbound": ["a b"]}),
            "functions.hello.settings.outbound",
        ),
        (
            format!("{hello}/settings"),
            json!({"files": {"tree": digest(b"unknown")}}),
            "functions.hello.settings.files",
        ),
        (
            format!("{hello}/channels/prod"),
            json!({"range": "~2"}),
            "functions.hello.channels.prod.range",
        ),
        (format!("{hello}/channels/prod"), json!({"revision": 7}), "functions.hello.channels.prod"),
        (
            format!("{hello}/channels/prod"),
            json!({"revision": 1, "weights": [{"revision": 2, "percent": 60},
                {"revision": 3, "percent": 60}]}),
            "functions.hello.channels.prod.weights",
        ),
        (
            format!("{hello}/channels/prod/settings"),
            json!({"outbound": []}),
            "functions.hello.channels.prod.settings",
        ),
        ("/routes/users/path".into(), json!("x"), "routes.users.path"),
        ("/routes/users/function".into(), json!("missing"), "routes.users.function"),
        ("/routes/users/channel".into(), json!("beta"), "routes.users.channel"),
        ("/routes/buy/flow".into(), json!("missing"), "routes.buy.flow"),
        ("/routes/more".into(), json!({"path": "/buy", "function": "hello"}), "routes.more"),
        ("/schedules/nightly/cron".into(), json!("0 0 30 2 *"), "schedules.nightly.cron"),
        ("/schedules/nightly/function".into(), json!("missing"), "schedules.nightly.function"),
        ("/queues/orders/function".into(), json!("missing"), "queues.orders.function"),
        (
            "/queues/orders/dead_letter_queue".into(),
            json!("missing"),
            "queues.orders.dead_letter_queue",
        ),
        ("/flows/inner/steps".into(), json!([]), "flows.inner.steps"),
        ("/flows/inner/steps".into(), json!([{"function": "missing"}]), "flows.inner.function"),
        ("/flows/checkout/steps".into(), json!([{"flow": "missing"}]), "flows.checkout.flow"),
    ]
}

/// Case E11.
#[tokio::test]
async fn each_mistake_is_named_by_its_place_and_nothing_is_applied() {
    let gateway = TestGateway::start().await;
    let sound = everything(&gateway.artifact("c-hello").await);
    let circle = json!({"steps": [{"flow": "checkout"}]});
    for (pointer, value, place) in cases() {
        let wrong = with(&sound, &pointer, value);
        let dry = with(&wrong, "/dry_run", json!(true));
        for manifest in [dry, wrong] {
            let refused = gateway.apply(&manifest).await;
            assert_eq!(refused.problem(), (422, "bad-manifest"), "{place}: {refused:?}");
            assert_eq!(mistakes(&refused), [place], "{refused:?}");
            assert!(refused.detail().starts_with(place), "{refused:?}");
        }
    }
    let refused = gateway.apply(&with(&sound, "/flows/inner", circle)).await;
    assert_eq!(mistakes(&refused), ["flows.checkout.flow", "flows.inner.flow"], "{refused:?}");

    // Several at once.
    let several = with(&sound, "/routes/users/path", json!("x"));
    let several = with(&several, "/queues/orders/attempts", json!(0));
    let refused = gateway.apply(&several).await;
    assert_eq!(mistakes(&refused), ["queues.orders.attempts", "routes.users.path"]);
    assert_eq!(gateway.api("/v1/functions").await.json()["functions"], json!([]));
    for kind in ["routes", "schedules", "queues", "flows"] {
        assert_eq!(gateway.api(&format!("/v1/{kind}")).await.json()[kind], json!([]));
    }
}

/// Case E12.
#[tokio::test]
async fn what_does_not_compile_or_start_is_named_and_nothing_is_applied() {
    let gateway = TestGateway::start().await;
    let mut manifest = everything(&gateway.artifact("c-hello").await);
    let text = b"this is no wasm".to_vec();
    assert_eq!(gateway.put_artifact(text.clone()).await.status(), 201);
    manifest["functions"]["bad"] = json!({"artifact": digest(&text)});
    let refused = gateway.apply(&manifest).await;
    assert_eq!(refused.problem(), (422, "invalid-wasm"), "{refused:?}");
    assert_eq!(mistakes(&refused), ["functions.bad.artifact"]);
    manifest["functions"]["bad"]["artifact"] = json!(gateway.artifact("t-bad-import").await);
    let refused = gateway.apply(&manifest).await;
    assert_eq!(refused.problem(), (422, "unknown-imports"), "{refused:?}");
    assert_eq!(mistakes(&refused), ["functions.bad.artifact"]);
    manifest["functions"]["bad"]["artifact"] = json!(gateway.artifact("t-every").await);
    let refused = gateway.apply(&manifest).await;
    assert_eq!(refused.problem(), (422, "missing-grant"), "{refused:?}");
    assert_eq!(mistakes(&refused), ["functions.bad.settings"]);
    assert_eq!(gateway.show("hello").await.status(), 404);
    assert_eq!(gateway.api("/v1/routes").await.json()["routes"], json!([]));
}

/// Case E13.
#[tokio::test]
async fn a_document_that_is_no_manifest_is_refused() {
    let gateway = TestGateway::start().await;
    let post =
        async |body: String| gateway.control(Method::POST, "/v1/apply").body(body).send().await;
    let deep = format!("{{\"project\":\"a\",\"flows\":{}", "[".repeat(100_000));
    for body in ["", "[]", "null", "{}", "{\"project\":1}", "{\"project\":\"a\"} x", &deep] {
        let refused = post(body.to_owned()).await;
        assert_eq!(refused.problem(), (400, "bad-json"), "{refused:?}");
    }
    for (body, place) in [
        (json!({"project": "a", "rutes": {}}), "rutes"),
        (json!({"project": "a", "routes": {"b": {"path": "/", "metods": []}}}), "routes.b.metods"),
        (json!({"project": "a", "functions": {"b": {"artifact": 1}}}), "functions.b.artifact"),
        (
            json!({"project": "a", "flows": {"b": {"steps": [{"function": 1}]}}}),
            "flows.b.steps[0].function",
        ),
    ] {
        let refused = post(body.to_string()).await;
        assert_eq!(refused.problem(), (400, "bad-json"), "{refused:?}");
        assert_eq!(mistakes(&refused), [place], "{refused:?}");
    }
    let large = json!({"project": "a", "functions": {"b": {"artifact": "x".repeat(4 << 20)}}});
    assert_eq!(post(large.to_string()).await.problem(), (413, "document-too-large"));
    let many: serde_json::Map<String, Value> =
        (0..4_097).map(|n| (format!("r{n}"), json!({"path": format!("/{n}")}))).collect();
    let refused = post(json!({"project": "a", "routes": many}).to_string()).await;
    assert_eq!(refused.problem(), (422, "bad-manifest"));
    assert!(refused.detail().contains("4096"), "{refused:?}");
}

/// Case E14.
#[tokio::test]
async fn quotas_and_scopes_hold_for_manifests() {
    let gateway = TestGateway::with(&[
        "quotas.routes=1",
        "quotas.functions=2",
        "quotas.all_settings_bytes=4000",
        "quotas.channels_per_function=1",
    ])
    .await;
    let digest = gateway.artifact("c-hello").await;
    let functions = |names: &[&str]| -> Value {
        names.iter().map(|name| ((*name).to_owned(), json!({"artifact": digest}))).collect()
    };
    let answer = |body: &str| json!({"path": body, "answer": {"status": 204}});
    let large = json!({"A": "x".repeat(5_000)});
    for (manifest, slug, place) in [
        (json!({"functions": functions(&["a", "b", "c"])}), "function-quota", "functions.c"),
        (json!({"routes": {"a": answer("/a"), "b": answer("/b")}}), "route-quota", "routes.b"),
        (
            json!({"functions": {"a": {"artifact": digest, "channels": {
                "one": {"revision": 1}, "two": {"revision": 1}}}}}),
            "channel-quota",
            "functions.a.channels.two",
        ),
        (
            json!({"functions": {"a": {"artifact": digest, "settings": {"environment": large}}}}),
            "settings-quota",
            "",
        ),
    ] {
        let mut manifest = manifest;
        manifest["project"] = json!("shop");
        let refused = gateway.apply(&manifest).await;
        assert_eq!(refused.problem(), (409, slug), "{refused:?}");
        if !place.is_empty() {
            assert_eq!(mistakes(&refused), [place], "{refused:?}");
        }
    }
    assert_eq!(gateway.api("/v1/functions").await.json()["functions"], json!([]));
    // What goes makes room.
    let mut manifest =
        json!({"project": "shop", "functions": functions(&["a", "b"]), "prune": true});
    gateway.applied(&manifest).await;
    manifest["functions"] = functions(&["c", "d"]);
    assert_eq!(gateway.applied(&manifest).await.len(), 4);

    let wanted = json!({"name": "t", "scopes": ["read"]});
    let token = gateway.control(Method::POST, "/v1/tokens").json(&wanted).send().await;
    let token = format!("Bearer {}", token.json()["token"].as_str().unwrap());
    let manifest = json!({"project": "shop", "dry_run": true});
    let post = gateway.anonymous(Method::POST, "/v1/apply").header("authorization", &token);
    assert_eq!(post.json(&manifest).send().await.problem(), (403, "forbidden"));
}

/// Case E15.
#[tokio::test]
async fn a_damaged_artifact_is_uploaded_again() {
    let mut gateway = TestGateway::start().await;
    gateway.expect_errors();
    let manifest = everything(&gateway.artifact("c-hello").await);
    let [file] = &gateway.files("artifacts")[..] else { panic!() };
    std::fs::write(file, b"damaged").unwrap();
    let target = format!("/v1/artifacts/{}", digest(&guest("c-hello")));
    assert_eq!(gateway.control(Method::HEAD, &target).send().await.status(), 404);
    assert_ne!(gateway.apply(&manifest).await.status(), 200);
    gateway.artifact("c-hello").await;
    assert_eq!(gateway.apply(&manifest).await.status(), 200);
    assert_eq!(gateway.get("/users/1").await.plain(), (200, "hello from c\n"));
}
