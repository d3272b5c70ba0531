//! Access to the control plane: tokens, scopes and the throttling of guesses.

use std::{fs, net::IpAddr};

use http::Method;
use serde_json::{Value, json};

use crate::{
    client::{FullResponse, TestRequest},
    guests::guest,
    test_gateway::TestGateway,
};

/// Creates a token with these scopes. Returns its text and its id.
async fn token(gateway: &TestGateway, wanted: &Value) -> (String, String) {
    let made = gateway.control(Method::POST, "/v1/tokens").json(wanted).send().await;
    assert_eq!(made.status(), 201, "{made:?}");
    let text = |name: &str| made.json()[name].as_str().unwrap().to_owned();
    (text("token"), text("id"))
}

async fn list_with(gateway: &TestGateway, authorization: &str) -> FullResponse {
    let call = gateway.anonymous(Method::GET, "/v1/functions");
    call.header("authorization", authorization).send().await
}

#[tokio::test]
async fn requests_without_a_valid_token_learn_nothing() {
    let gateway = TestGateway::start().await;
    let good = gateway.token();
    let missing = gateway.anonymous(Method::GET, "/v1/functions").send().await;
    assert_eq!(missing.problem(), (401, "unauthorized"));
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    for wrong in [
        "Bearer".to_owned(),
        "Bearer x".to_owned(),
        format!("Basic {good}"),
        format!("Bearer {good}0"),
        format!("Bearer {}", &good[..good.len() - 1]),
        format!("Bearer mfy_0000000000000000_{}", "0".repeat(64)),
    ] {
        let refused = list_with(&gateway, &wrong).await;
        assert_eq!(refused.problem(), (401, "unauthorized"), "{wrong}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"), "{wrong}");
    }
    assert_eq!(list_with(&gateway, &format!("bearer {good}")).await.status(), 200);
    // Nor do they learn whether a function exists.
    gateway.deploy("c-hello").await;
    for name in ["c-hello", "missing"] {
        let refused = gateway.anonymous(Method::GET, &format!("/v1/functions/{name}")).send().await;
        assert_eq!(refused.status(), 401, "{name}");
    }
}

/// Case A09.
#[tokio::test]
async fn a_token_in_the_query_is_refused_even_if_it_is_valid() {
    let gateway = TestGateway::start().await;
    let token = gateway.token();
    for query in [format!("token={token}"), format!("access_token={token}"), format!("x={token}")] {
        let target = format!("/v1/functions?{query}");
        let refused = gateway.api(&target).await;
        assert_eq!(refused.problem(), (400, "token-in-query"), "{query}");
    }
    assert!(!gateway.log().contains(&token), "the log contains the token");
}

/// Case A03.
#[tokio::test]
async fn a_token_does_what_its_scopes_allow() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let (read, _) = token(&gateway, &json!({"name": "r", "scopes": ["read"]})).await;
    let (deploy, _) = token(&gateway, &json!({"name": "d"})).await;
    let as_token = |token: &str, method: Method, target: &str| {
        let call = gateway.anonymous(method, target);
        call.header("authorization", &format!("Bearer {token}")).body(guest("c-hello")).send()
    };
    let function = "/v1/functions/c-hello";
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        let refused = as_token(&read, method, function).await;
        assert_eq!(refused.problem(), (403, "forbidden"));
        assert!(refused.detail().contains("deploy"), "{refused:?}");
    }
    assert_eq!(as_token(&read, Method::GET, function).await.status(), 200);
    assert_eq!(as_token(&read, Method::GET, "/v1/tokens").await.problem(), (403, "forbidden"));
    assert_eq!(as_token(&deploy, Method::PUT, function).await.status(), 200);
    assert_eq!(as_token(&deploy, Method::GET, "/v1/tokens").await.problem(), (403, "forbidden"));
    assert_eq!(as_token(&deploy, Method::POST, "/v1/tokens").await.problem(), (403, "forbidden"));
    assert_eq!(as_token(&deploy, Method::DELETE, function).await.status(), 204);
}

/// Case A12.
#[tokio::test]
async fn who_may_only_read_sees_no_values_of_environments_and_no_artifacts() {
    let gateway = TestGateway::start().await;
    let settings = json!({"environment": {"PASSWORD": "s3cr3t"}, "cpu_ms": 100});
    gateway.deploy_with("t-env", &settings).await;
    let (read, _) = token(&gateway, &json!({"name": "r", "scopes": ["read"]})).await;
    let (deploy, _) = token(&gateway, &json!({"name": "d", "scopes": ["deploy"]})).await;
    let get = async |token: &str, target: &str| {
        let call = gateway.anonymous(Method::GET, target);
        call.header("authorization", &format!("Bearer {token}")).send().await
    };
    for target in ["/v1/functions", "/v1/functions/t-env", "/v1/functions/t-env/revisions"] {
        let shown = get(&deploy, target).await;
        assert!(shown.text().contains(r#""environment":{"PASSWORD":"s3cr3t"}"#), "{target}");
        let masked = get(&read, target).await;
        assert!(masked.text().contains(r#""environment":{"PASSWORD":"***"}"#), "{target}");
        assert!(!masked.text().contains("s3cr3t"), "{target}");
    }
    let artifact = "/v1/functions/t-env/artifact";
    assert_eq!(get(&read, artifact).await.problem(), (403, "forbidden"));
    assert!(get(&deploy, artifact).await.bytes() == guest("t-env"));
}

#[tokio::test]
async fn a_revoked_token_stops_working_at_once() {
    let mut gateway = TestGateway::start().await;
    let (text, id) = token(&gateway, &json!({"name": "ci", "scopes": ["read"]})).await;
    let bearer = format!("Bearer {text}");
    assert_eq!(list_with(&gateway, &bearer).await.status(), 200);

    let revoke = format!("/v1/tokens/{id}");
    assert_eq!(gateway.control(Method::DELETE, &revoke).send().await.status(), 204);
    assert_eq!(list_with(&gateway, &bearer).await.problem(), (401, "unauthorized"));
    gateway.restart().await;
    assert_eq!(list_with(&gateway, &bearer).await.problem(), (401, "unauthorized"));
    let unknown = gateway.control(Method::DELETE, "/v1/tokens/0000000000000000").send().await;
    assert_eq!(unknown.problem(), (404, "token-not-found"));
}

/// Case A01.
#[tokio::test]
async fn tokens_are_listed_without_their_secrets_and_stored_without_them() {
    let gateway = TestGateway::start().await;
    let wanted = json!({"name": "ci", "scopes": ["read"], "expires_in_s": 3600});
    let (text, id) = token(&gateway, &wanted).await;
    let secret = text.rsplit('_').next().unwrap();
    let listed = gateway.api("/v1/tokens").await;
    assert!(!listed.text().contains(secret));
    let tokens = listed.json()["tokens"].as_array().unwrap();
    let listed_token = tokens.iter().find(|token| token["id"] == id).unwrap();
    assert_eq!((&listed_token["name"], &listed_token["scopes"]), (&"ci".into(), &json!(["read"])));
    assert!(
        listed_token["expires_at"].is_string() && listed_token["revoked_at"].is_null(),
        "{listed_token}"
    );
    // The secret is in no file and not in the log, neither as text nor as the bytes that it
    // encodes.
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let bytes: Vec<u8> = secret.as_bytes().chunks(2).map(digits).collect();
    let mut kept: Vec<(String, Vec<u8>)> = gateway
        .files("")
        .iter()
        .map(|file| (file.display().to_string(), fs::read(file).unwrap()))
        .collect();
    kept.push(("the log".to_owned(), gateway.log().into_bytes()));
    for (place, kept) in kept {
        for form in [secret.as_bytes(), &bytes] {
            let found = kept.windows(form.len()).any(|window| window == form);
            assert!(!found, "{place} contains the secret");
        }
    }
}

#[tokio::test]
async fn a_token_with_invalid_fields_is_not_created() {
    let gateway = TestGateway::start().await;
    for (wanted, slug) in [
        (json!({"name": "x", "scopes": ["root"]}), "unknown-scope"),
        (json!({"name": "x", "colour": "red"}), "bad-json"),
        (json!({"scopes": ["read"]}), "bad-json"),
        (json!([]), "bad-json"),
    ] {
        let refused = gateway.control(Method::POST, "/v1/tokens").json(&wanted).send().await;
        assert_eq!(refused.problem(), (400, slug), "{wanted}");
    }
}

/// Case A10.
#[tokio::test]
async fn requests_for_another_host_or_of_another_hosts_page_are_refused() {
    let gateway = TestGateway::with(&["server.admin_hosts=admin.example"]).await;
    let ask = async |target: &str, fields: &[(&str, &str)]| {
        let call = gateway.control(Method::GET, target);
        let call = fields.iter().fold(call, |call, (name, value)| call.header(name, value));
        call.send().await
    };
    let own = gateway.control_address().to_string();
    let page = format!("http://{own}");
    for fields in [
        &[("host", "localhost")][..],
        &[("host", "127.0.0.1:1")],
        &[("host", "admin.example")],
        &[("host", "admin.example"), ("origin", "https://admin.example")],
        &[("origin", &page)],
    ] {
        for target in ["/v1/functions", "/metrics"] {
            assert_eq!(ask(target, fields).await.status(), 200, "{target} {fields:?}");
        }
    }
    let functions_page = format!("http://{}", gateway.data());
    let (host, origin) = ((421, "foreign-host"), (403, "foreign-origin"));
    for (fields, problem) in [
        (&[("host", "rebind.evil.example")][..], host),
        (&[("host", "192.0.2.1")], host),
        (&[("host", "evil.example"), ("origin", "http://evil.example")], host),
        (&[("origin", "http://evil.example")], origin),
        (&[("origin", "null")], origin),
        (&[("origin", &functions_page)], origin),
    ] {
        for target in ["/v1/functions", "/metrics", "/openapi.json", "/nowhere"] {
            assert_eq!(ask(target, fields).await.problem(), problem, "{target} {fields:?}");
        }
        // Probes tell nothing, and load balancers name any host.
        assert_eq!(ask("/healthz", fields).await.status(), 200, "{fields:?}");
    }
}

/// Lists the functions from another address of this machine.
async fn list_from(gateway: &TestGateway, address: IpAddr, token: &str) -> FullResponse {
    let call =
        TestRequest::new(gateway.control_address(), Method::GET, "/v1/functions").from(address);
    call.header("authorization", &format!("Bearer {token}")).send().await
}

const THROTTLED: (u16, &str) = (429, "too-many-attempts");

/// Case A06.
#[tokio::test]
async fn after_ten_failures_a_token_waits_and_no_other() {
    let gateway = TestGateway::start().await;
    let (here, elsewhere) = ("127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap());
    let wanted = json!({"name": "t", "scopes": ["read"]});
    let zeros = "0".repeat(64);
    let is_throttled = |refused: &FullResponse| {
        assert_eq!(refused.problem(), THROTTLED);
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
    };

    // Ids that no token has, and nonsense, count together, and for no token.
    let guesses = [format!("mfy_0123456789abcdef_{zeros}"), "x".into(), format!("mfy_1_{zeros}")];
    for guess in guesses.iter().cycle().take(10) {
        let refused = list_from(&gateway, here, guess).await;
        assert_eq!(refused.problem(), (401, "unauthorized"));
    }
    for guess in guesses.iter().cycle().take(5) {
        is_throttled(&list_from(&gateway, here, guess).await);
    }
    let (locked, id) = token(&gateway, &wanted).await;
    let (used, used_id) = token(&gateway, &wanted).await;
    assert_eq!(list_from(&gateway, here, &used).await.status(), 200, "it was never used before");

    // An id that exists is locked by failures against itself.
    for id in [&id, &used_id] {
        let guess = format!("mfy_{id}_{zeros}");
        for _ in 0..10 {
            let refused = list_from(&gateway, here, &guess).await;
            assert_eq!(refused.problem(), (401, "unauthorized"));
        }
        is_throttled(&list_from(&gateway, here, &guess).await);
    }
    is_throttled(&list_from(&gateway, here, &locked).await);
    // At other addresses it is served, and so is a token that was valid at this one before.
    assert_eq!(list_from(&gateway, elsewhere, &locked).await.status(), 200);
    assert_eq!(list_from(&gateway, here, &used).await.status(), 200);
    let (new, _) = token(&gateway, &wanted).await;
    assert_eq!(list_from(&gateway, here, &new).await.status(), 200);

    let metrics = gateway.api("/metrics").await;
    for line in ["unauthorized\"} 30", "too-many-attempts\"} 8"] {
        let line = format!("mayfly_unauthorized_total{{type=\"{line}\n");
        assert!(metrics.text().contains(&line), "{line}: {}", metrics.text());
    }
}

/// Case A06.
#[tokio::test]
async fn concurrent_guesses_are_throttled_like_sequential_ones() {
    let gateway = TestGateway::with(&["server.auth_failures_per_minute=3"]).await;
    let from = "127.0.0.1".parse().unwrap();
    let guesses = (0..40).map(|_| list_from(&gateway, from, "mfy_0_0"));
    let answers = futures_util::future::join_all(guesses).await;
    let unauthorized = answers.iter().filter(|answer| answer.problem().0 == 401).count();
    assert_eq!(unauthorized, 3);
    assert!(answers.iter().all(|answer| answer.status() == 401 || answer.problem() == THROTTLED));
}
