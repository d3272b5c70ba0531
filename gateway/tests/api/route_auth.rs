//! Who may call a route.

mod issuer;
mod passwords;
mod signatures;
mod tokens;

use http::Method;
use serde_json::{Value, json};

use crate::{
    client::{FullResponse, TestRequest},
    test_gateway::TestGateway,
};

const HOST: &str = "api.example.com";
/// A guest that shows its environment, and thereby the header fields that it sees.
const GUEST: &str = "t-cgi-env";

async fn put(gateway: &TestGateway, name: &str, route: &Value) -> FullResponse {
    gateway.control(Method::PUT, &format!("/v1/routes/{name}")).json(route).send().await
}

/// Sets a route to the guest, with `more` members.
async fn set(gateway: &TestGateway, name: &str, more: Value) {
    let made = put(gateway, name, &route(name, more)).await;
    assert!([200, 201].contains(&made.status()), "{made:?}");
}

fn route(name: &str, more: Value) -> Value {
    let mut route = json!({"host": HOST, "path": format!("/{name}/*rest"), "function": GUEST});
    let Value::Object(more) = more else { panic!("{more} is no object") };
    route.as_object_mut().unwrap().extend(more);
    route
}

fn call(gateway: &TestGateway, target: &str) -> TestRequest {
    gateway.call(Method::GET, target).header("host", HOST)
}

/// What the guest says about one variable.
fn variable<'a>(response: &'a FullResponse, name: &str) -> Option<&'a str> {
    response.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

/// All challenges of an answer.
fn challenges(response: &FullResponse) -> Vec<&str> {
    let values = response.headers().get_all("www-authenticate").iter();
    values.map(|value| value.to_str().unwrap()).collect()
}

/// Case P14.
#[tokio::test]
async fn a_page_can_read_why_its_request_was_refused() {
    let gateway = TestGateway::start().await;
    gateway.deploy(GUEST).await;
    let app = "https://app.example.com";
    let hash = "0".repeat(64);
    let cors = json!({"origins": [app], "credentials": true});
    set(&gateway, "key", json!({"cors": cors, "api_keys": {"sha256": {"k": hash}}})).await;
    set(&gateway, "rate", json!({"cors": cors, "rate": {"requests": 1, "window_s": 3_600}})).await;
    set(&gateway, "small", json!({"cors": cors, "request_bytes": 3})).await;
    let ask = |target: &str, origin| call(&gateway, target).header("origin", origin);
    let may_read = |answer: &FullResponse| {
        let allowed = |name| answer.header(name).map(ToOwned::to_owned);
        (
            allowed("access-control-allow-origin"),
            allowed("access-control-allow-credentials"),
            allowed("vary"),
        )
    };
    let yes = (Some(app.to_owned()), Some("true".to_owned()), Some("origin".to_owned()));
    let no = (None, None, Some("origin".to_owned()));
    assert_eq!(ask("/rate/", app).send().await.status(), 200);
    for (target, problem) in
        [("/key/", (401, "api-key-required")), ("/rate/", (429, "rate-limited"))]
    {
        let refused = ask(target, app).send().await;
        assert_eq!((refused.problem(), may_read(&refused)), (problem, yes.clone()), "{target}");
        let refused = ask(target, "https://evil.example.com").send().await;
        assert_eq!((refused.problem(), may_read(&refused)), (problem, no.clone()), "{target}");
    }
    let refused = ask("/small/", app).body("four").send().await;
    assert_eq!((refused.problem(), may_read(&refused)), ((413, "request-too-large"), yes.clone()));
    // The function is gone: the gateway answers for it.
    assert_eq!(
        gateway.control(Method::DELETE, "/v1/functions/t-cgi-env").send().await.status(),
        204
    );
    let gone = ask("/small/", app).send().await;
    assert_eq!((gone.problem(), may_read(&gone)), ((404, "function-not-found"), yes));
    // A route without `cors` says nothing about it.
    let other = gateway.get("/f/absent/").await;
    assert_eq!(may_read(&other), (None, None, None));
}

/// Case P15.
#[tokio::test]
async fn a_route_has_limits_of_its_own_and_cannot_raise_those_of_the_function() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("echo", &json!({"request_bytes": 10})).await;
    gateway.deploy_with("t-sleep", &json!({"timeout_ms": 20_000})).await;
    let put_to = async |name: &str, function: &str, more: Value| {
        let mut route = route(name, more);
        route["function"] = json!(function);
        let made = put(&gateway, name, &route).await;
        assert!([200, 201].contains(&made.status()), "{made:?}");
    };
    put_to("three", "echo", json!({"request_bytes": 3})).await;
    put_to("large", "echo", json!({"request_bytes": 1_000})).await;
    put_to("none", "echo", json!({"request_bytes": 0})).await;
    let send = async |target: &str, bytes: usize| {
        let request = gateway.call(Method::POST, target).header("host", HOST);
        request.body("x".repeat(bytes)).send().await
    };
    for (target, bytes, taken) in [
        ("/three/", 3, true),
        ("/three/", 4, false),
        ("/large/", 10, true),
        ("/large/", 11, false),
        ("/none/", 0, true),
        ("/none/", 1, false),
    ] {
        let answer = send(target, bytes).await;
        if taken {
            assert_eq!(answer.status(), 200, "{target} {bytes}: {answer:?}");
        } else {
            assert_eq!(answer.problem(), (413, "request-too-large"), "{target} {bytes}");
            let hint = answer.json()["hint"].as_str().unwrap();
            assert!(hint.contains("`request_bytes` of the route"), "{hint}");
        }
    }
    put_to("quick", "t-sleep", json!({"timeout_ms": 50})).await;
    put_to("slow", "t-sleep", json!({"timeout_ms": 3_600_000})).await;
    let late = call(&gateway, "/quick/?ms=10000").send().await;
    assert_eq!(late.problem(), (504, "timeout"), "{late:?}");
    assert!(late.detail().contains("50"), "{late:?}");
    assert!(late.json()["hint"].as_str().unwrap().contains("`timeout_ms` of the route"));
    assert_eq!(call(&gateway, "/slow/?ms=1").send().await.status(), 200);
    for wrong in [json!({"timeout_ms": 0}), json!({"timeout_ms": 3_600_001})] {
        let refused = put(&gateway, "x", &route("x", wrong)).await;
        assert_eq!(refused.problem(), (422, "bad-route"));
        assert!(refused.detail().starts_with("timeout_ms: "), "{refused:?}");
    }
}
