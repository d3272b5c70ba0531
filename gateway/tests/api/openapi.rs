//! The OpenAPI document, compared with the running server.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use http::Method;
use serde_json::{Value, json};

use crate::{
    client::FullResponse,
    guests::{self, guest},
    test_gateway::{TestGateway, run},
};

async fn document(gateway: &TestGateway) -> Value {
    let answer = gateway.api("/openapi.json").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json().clone()
}

/// Every operation with its method, its path and its object in the document.
fn operations(document: &Value) -> Vec<(Method, String, Value)> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method = method.to_ascii_uppercase().parse().unwrap();
            operations.push((method, path.clone(), operation.clone()));
        }
    }
    operations
}

fn is_open(path: &str) -> bool {
    ["/healthz", "/readyz"].contains(&path)
}

#[tokio::test]
async fn the_document_is_consistent() {
    let gateway = TestGateway::start().await;
    let document = document(&gateway).await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id), "{method} {path}: its operationId is not unique");
        assert!(operation["summary"].is_string(), "{method} {path}");
        assert!(!operation["responses"].as_object().unwrap().is_empty(), "{method} {path}");
        let mut parameters = BTreeSet::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = (parameter["in"].as_str().unwrap(), parameter["name"].as_str().unwrap());
            assert!(parameters.insert(name), "{method} {path}: {name:?} is there twice");
            assert_ne!(parameter["schema"]["type"][1], "null", "{method} {path}: {name:?}");
        }
    }
    let mut references = Vec::new();
    find_references(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} cannot be resolved");
    }
}

fn find_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                found.push(reference.clone());
            }
            fields.values().for_each(|value| find_references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| find_references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn every_operation_in_the_document_exists() {
    let gateway = TestGateway::start().await;
    for (method, path, _) in operations(&document(&gateway).await) {
        let target = target(&path);
        let answer = gateway.control(method.clone(), &target).send().await;
        let said = String::from_utf8_lossy(answer.bytes());
        let missing = said.contains("resource-not-found") || answer.status() == 405;
        assert!(!missing, "{method} {target}: {answer:?}");
    }
}

/// The path with a name, a revision and an id that do not exist.
fn target(path: &str) -> String {
    path.replace("{name}", "missing")
        .replace("{revision}", "1")
        .replace("{id}", "x")
        .replace("{kind}", "keyvalue")
        .replace("{key}", "x")
}

/// The scope that the document asks for; none for an operation that is open to everyone.
fn needed(operation: &Value) -> Option<&str> {
    let security = operation.get("security")?;
    let scope = security[0]["token"][0].as_str().unwrap();
    assert_eq!(*security, json!([{"token": [scope]}]), "one scope is expected");
    Some(scope)
}

/// Case A03.
#[tokio::test]
async fn every_operation_but_the_probes_needs_a_token() {
    let gateway = TestGateway::start().await;
    for (method, path, operation) in operations(&document(&gateway).await) {
        let answer = gateway.anonymous(method.clone(), &target(&path)).send().await;
        if is_open(&path) {
            assert_eq!((needed(&operation), answer.status()), (None, 200), "{method} {path}");
            continue;
        }
        let needed = needed(&operation).unwrap();
        let reads = method == Method::GET
            && ["/v1/functions", "/metrics", "/openapi.json"].iter().any(|at| path.starts_with(at));
        assert!(needed != "read" || method == Method::GET, "{method} {path} is not read-only");
        let for_admins = ["/v1/tokens", "/v1/secrets"].iter().any(|start| path.starts_with(start));
        assert!(needed == "admin" || !for_admins, "{method} {path}");
        // An artifact may hold what its owner has built into it.
        let is_artifact = path.ends_with("/artifact");
        assert!((needed == "deploy") == is_artifact || !reads, "{method} {path} is read-only");
        for status in ["401", "403", "429"] {
            assert!(operation["responses"][status].is_object(), "{method} {path}: {status}");
        }
        assert_eq!(answer.problem(), (401, "unauthorized"), "{method} {path}");
    }
}

/// Case A03.
#[tokio::test]
async fn every_operation_refuses_every_scope_that_does_not_cover_it() {
    let gateway = TestGateway::start().await;
    let token = async |scopes: &[&str]| {
        let wanted = json!({"name": "t", "scopes": scopes});
        let made = gateway.control(Method::POST, "/v1/tokens").json(&wanted).send().await;
        made.json()["token"].as_str().unwrap().to_owned()
    };
    // Tokens with the scopes that they cover, alone and in combination.
    let tokens = [
        (token(&[]).await, vec![]),
        (token(&["read"]).await, vec!["read"]),
        (token(&["deploy"]).await, vec!["read", "deploy"]),
        (token(&["read", "deploy"]).await, vec!["read", "deploy"]),
        (token(&["admin"]).await, vec!["read", "deploy", "admin"]),
    ];
    let mut tried = 0;
    for (method, path, operation) in operations(&document(&gateway).await) {
        let Some(needed) = needed(&operation) else { continue };
        for (token, covers) in &tokens {
            let call = gateway.anonymous(method.clone(), &target(&path));
            let answer = call.header("authorization", &format!("Bearer {token}")).send().await;
            let (what, allowed) =
                (format!("{method} {path} with {covers:?}"), covers.contains(&needed));
            if allowed {
                assert!(![401, 403, 429].contains(&answer.status()), "{what}: {answer:?}");
            } else {
                assert_eq!(answer.problem(), (403, "forbidden"), "{what}");
                assert!(answer.detail().contains(&format!("{needed:?}")), "{what}");
            }
            tried += 1;
        }
    }
    assert!(tried >= 5 * 11, "{tried}");
}

/// Asserts that `value` has the properties that the document's schema requires, and no others.
fn fits(document: &Value, schema: &str, value: &Value) {
    let schema = &document["components"]["schemas"][schema];
    let listed: BTreeSet<&String> = schema["properties"].as_object().unwrap().keys().collect();
    let there: BTreeSet<&String> = value.as_object().unwrap().keys().collect();
    assert!(there.is_subset(&listed), "not in the document: {:?}", there.difference(&listed));
    for required in schema["required"].as_array().unwrap() {
        assert!(value.get(required.as_str().unwrap()).is_some(), "{required} is missing: {value}");
    }
}

#[tokio::test]
async fn responses_match_the_schemas_of_the_document() {
    let gateway = TestGateway::start().await;
    let document = document(&gateway).await;
    let settings = json!({"environment": {"A": "1"}, "cpu_ms": 100, "outbound": ["a.example"]});
    gateway.deploy_with("t-logs", &settings).await;
    let change = json!({"settings": {"queue": 3}, "description": "x"});
    let views: Vec<FullResponse> = vec![
        gateway.put("fresh", guest("c-hello")).send().await,
        gateway.put("fresh", guest("c-hello")).send().await,
        gateway.show("t-logs").await,
        gateway.patch("t-logs", &change).await,
        gateway.control(Method::POST, "/v1/functions/t-logs/revisions/1/activate").send().await,
    ];
    let list = gateway.api("/v1/functions").await.json().clone();
    fits(&document, "FunctionsView", &list);
    let listed = list["functions"].as_array().unwrap().iter();
    for view in views.iter().map(FullResponse::json).chain(listed) {
        let schema = &document["components"]["schemas"]["FunctionView"]["properties"];
        let properties: BTreeSet<&String> = schema.as_object().unwrap().keys().collect();
        assert_eq!(view.as_object().unwrap().keys().collect::<BTreeSet<_>>(), properties);
        fits(&document, "FunctionView", view);
        fits(&document, "LimitsView", &view["limits"]);
    }

    let revisions = gateway.api("/v1/functions/t-logs/revisions").await.json().clone();
    fits(&document, "RevisionsView", &revisions);
    fits(&document, "RevisionView", &revisions["revisions"][0]);
    let diff = gateway.api("/v1/functions/t-logs/revisions/1/diff/1").await;
    fits(&document, "RevisionDiff", diff.json());
    gateway.get("/f/t-logs/?n=1").await;
    let line = &gateway.log_lines("t-logs", 1).await[0];
    fits(&document, "LineView", line);
    let tokens = gateway.api("/v1/tokens").await.json().clone();
    fits(&document, "TokensView", &tokens);
    fits(&document, "TokenView", &tokens["tokens"][0]);
    fits(&document, "Problem", gateway.show("missing").await.json());
    fits(&document, "Problem", gateway.get("/").await.json());
}

#[tokio::test]
async fn every_status_that_is_returned_is_in_the_document() {
    let gateway = TestGateway::start().await;
    let document = document(&gateway).await;
    gateway.deploy("c-hello").await;
    let json = |method, target: &str, body: Value| gateway.control(method, target).json(&body);
    let function = "/v1/functions/{name}";
    for (call, method, path) in [
        (gateway.put("A", ""), "put", function),
        (gateway.put("a", ""), "put", function),
        (gateway.put("a", "").header("content-encoding", "gzip"), "put", function),
        (gateway.control(Method::GET, "/v1/functions/missing"), "get", function),
        (gateway.control(Method::GET, "/v1/functions/A"), "get", function),
        (gateway.control(Method::DELETE, "/v1/functions/A"), "delete", function),
        (json(Method::PATCH, "/v1/functions/c-hello", json!([])), "patch", function),
        (
            json(Method::PATCH, "/v1/functions/c-hello", json!({"settings": {"x": 1}})),
            "patch",
            function,
        ),
        (
            json(
                Method::PATCH,
                "/v1/functions/c-hello",
                json!({"description": "x".repeat(300_000)}),
            ),
            "patch",
            function,
        ),
        (json(Method::POST, "/v1/tokens", json!({})), "post", "/v1/tokens"),
        (
            gateway.control(Method::POST, "/v1/functions/c-hello/revisions/x/activate"),
            "post",
            "/v1/functions/{name}/revisions/{revision}/activate",
        ),
        (gateway.control(Method::GET, "/v1/functions?limit=x"), "get", "/v1/functions"),
    ] {
        let answer = call.send().await;
        let listed = &document["paths"][path][method]["responses"];
        let status = answer.status().to_string();
        assert!(listed[&status].is_object(), "{method} {path} answers {answer:?}");
    }
}

/// schemathesis makes requests from the document, right and wrong ones, and compares the answers with
/// it. `openapi/schemathesis.toml` lists what it tries, and says why it may find what it may find.
#[tokio::test]
async fn no_request_made_from_the_document_gets_an_answer_against_it() {
    // Guesses at tokens are among the requests, and each must be answered as a first one is.
    let gateway =
        TestGateway::with(&["server.auth_failures_per_minute=0", "logs.level=warn"]).await;
    gateway.put("a", guest("c-hello")).send().await;
    let dir = tempfile::tempdir().unwrap();
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/openapi");
    for name in ["schemathesis.toml", "hooks.py"] {
        fs::copy(ours.join(name), dir.path().join(name)).unwrap();
    }
    let document = document(&gateway).await;
    fs::write(dir.path().join("openapi.json"), document.to_string()).unwrap();
    let mut command = Command::new(schemathesis());
    command
        .args(["run", "openapi.json", "--no-color"])
        .args(["--url", &format!("http://{}", gateway.control_address())])
        .env("MAYFLY_TOKEN", gateway.token())
        .current_dir(dir.path())
        .stdin(Stdio::null());
    let output = run(command).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}{errors}");
    let all = operations(&document).len();
    assert!(said.contains(&format!("Tested: {all}\n")), "not all of {all} operations: {said}");
}

/// The program that `functions/build test` has installed.
pub(crate) fn schemathesis() -> PathBuf {
    let _ = guests::path("c-hello");
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions/.cache/schemathesis");
    let program = tools.join("bin/schemathesis");
    assert!(program.exists(), "this test needs {} (functions/build test)", program.display());
    program
}
