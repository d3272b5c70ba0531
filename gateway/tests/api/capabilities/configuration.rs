//! The configuration of a function, and secrets in it.

use std::fs;

use http::Method;
use serde_json::{Value, json};

use super::{ask, deploy_as, refused, told};
use crate::test_gateway::TestGateway;

const STORES: [&str; 4] = ["config-draft", "config-runtime", "config-2024", "config-rc"];

async fn put_secret(gateway: &TestGateway, name: &str, secret: &Value) {
    let put =
        gateway.control(Method::PUT, &format!("/v1/secrets/{name}")).json(secret).send().await;
    assert!([200, 201, 204].contains(&put.status()), "{put:?}");
}

/// Case I18.
#[tokio::test]
async fn values_are_read_by_each_interface_on_both_engines() {
    let gateway = TestGateway::start().await;
    let settings = json!({
        "ungranted": "deny", "config": {"greeting": "grüß dich", "a.b-c": "", "B": "2"},
    });
    for guest in ["t-every", "t-every-p3"] {
        assert_eq!(deploy_as(&gateway, guest, guest, &settings).await.status(), 201);
        for interface in STORES {
            let get = |key: &str| format!("{interface}/get?key={key}");
            assert_eq!(told(&gateway, guest, &get("greeting"), "").await, "grüß dich");
            assert_eq!(told(&gateway, guest, &get("a.b-c"), "").await, "");
            assert_eq!(ask(&gateway, guest, &get("b"), "").await.status(), 404);
            let all = told(&gateway, guest, &format!("{interface}/all"), "").await;
            assert_eq!(all, "B=2\na.b-c=\ngreeting=grüß dich");
        }
        assert_eq!(told(&gateway, guest, "variables/get?key=greeting", "").await, "grüß dich");
    }
    // A channel has other values, and a reader of the API sees none of them.
    let channel = json!({"revision": 1, "settings": {"config": {"greeting": "servus", "B": null}}});
    let set = gateway.control(Method::PUT, "/v1/functions/t-every/channels/at");
    assert!(set.json(&channel).send().await.status() < 300);
    let all = told(&gateway, "t-every@at", "config-rc/all", "").await;
    assert_eq!(all, "a.b-c=\ngreeting=servus");
    // Without any configuration there is nothing, and no error.
    let empty = deploy_as(&gateway, "none", "t-every", &json!({"ungranted": "deny"})).await;
    assert_eq!(empty.status(), 201);
    assert_eq!(told(&gateway, "none", "config-rc/all", "").await, "");
    assert!(refused(&gateway, "none", "variables/get?key=a", "").await.contains("Undefined"));
}

/// Case I19.
#[tokio::test]
async fn a_secret_is_read_as_it_is_now_by_functions_that_may() {
    let gateway = TestGateway::start().await;
    let secret = |value: &str, hosts: &Value| json!({"value": value, "hosts": hosts});
    put_secret(&gateway, "open", &secret("first", &json!(["*"]))).await;
    put_secret(&gateway, "bound", &secret("unseen", &json!(["api.example.com"]))).await;
    let others = json!({"value": "unseen", "hosts": ["*"], "functions": ["other"]});
    put_secret(&gateway, "others", &others).await;
    let settings = json!({
        "ungranted": "deny",
        "config": {
            "text": "t", "token": {"secret": "open"}, "bound": {"secret": "bound"},
            "others": {"secret": "others"}, "missing": {"secret": "missing"},
        },
    });
    assert_eq!(deploy_as(&gateway, "f", "t-every", &settings).await.status(), 201);
    assert_eq!(told(&gateway, "f", "config-rc/get?key=token", "").await, "first");
    assert_eq!(told(&gateway, "f", "variables/get?key=token", "").await, "first");
    for key in ["bound", "others", "missing"] {
        let error = refused(&gateway, "f", &format!("config-rc/get?key={key}"), "").await;
        assert!(error.contains("Upstream") && error.contains("may read"), "{error}");
        let error = refused(&gateway, "f", &format!("variables/get?key={key}"), "").await;
        assert!(error.contains("Provider"), "{error}");
    }
    assert_eq!(told(&gateway, "f", "config-rc/all", "").await, "text=t");

    // Another value is in force without a deploy.
    put_secret(&gateway, "open", &secret("second", &json!(["*"]))).await;
    assert_eq!(told(&gateway, "f", "config-rc/get?key=token", "").await, "second");
    assert_eq!(gateway.show("f").await.json()["revision"], 1);

    // All values show secrets only where the settings say so.
    let change = json!({"settings": {
        "config_lists_secrets": true, "config": {"bound": null, "others": null, "missing": null},
    }});
    assert_eq!(gateway.patch("f", &change).await.status(), 200);
    assert_eq!(told(&gateway, "f", "config-rc/all", "").await, "text=t\ntoken=second");
}

/// Case I20.
#[tokio::test]
async fn a_secret_is_in_the_environment_only_where_that_is_asked_for_and_nowhere_else() {
    let mut gateway = TestGateway::start().await;
    let value: String = format!("{:032x}", u128::from(std::process::id()) * 0x9e37_79b9_7f4a_7c15);
    put_secret(&gateway, "token", &json!({"value": value, "hosts": ["*"]})).await;
    let settings = json!({
        "environment": {"PLAIN": "1"},
        "config": {
            "TOKEN": {"secret": "token", "environment": true}, "hidden": {"secret": "token"},
            "password": format!("plain-{value}"),
        },
    });
    for (name, guest) in [("component", "t-env"), ("program", "t-cgi-env"), ("trap", "t-trap")] {
        let made = deploy_as(&gateway, name, guest, &settings).await;
        assert_eq!(made.status(), 201, "{made:?}");
    }
    let seen = gateway.get("/f/component/").await;
    assert_eq!(seen.text(), format!("PLAIN=1\nTOKEN={value}\n"));
    let seen = gateway.get("/f/program/").await;
    assert!(seen.text().contains(&format!("TOKEN={value}")), "{seen:?}");
    gateway.get("/f/trap/").await;

    let changed = format!("{value}-again");
    put_secret(&gateway, "token", &json!({"value": changed, "hosts": ["*"]})).await;
    assert!(gateway.get("/f/component/").await.text().contains(&changed));

    // No answer, no log and no file has it, but for the plain text, which is the owner's.
    let reader = gateway.control(Method::POST, "/v1/tokens");
    let reader = reader.json(&json!({"name": "reader", "scopes": ["read"]})).send().await;
    let bearer = format!("Bearer {}", reader.json()["token"].as_str().unwrap());
    for target in [
        "/v1/functions/component",
        "/v1/functions",
        "/v1/functions/component/revisions",
        "/v1/functions/component/history",
        "/metrics",
        "/v1/functions/trap/logs",
    ] {
        let answer = gateway.anonymous(Method::GET, target).header("authorization", &bearer);
        let answer = answer.send().await;
        assert_eq!(answer.status(), 200, "{target}");
        assert!(!answer.text().contains(&value), "{target}");
    }
    assert!(!gateway.log().contains(&value));
    gateway.terminate();
    gateway.exit().await;
    for file in gateway.files("") {
        let bytes = fs::read(&file).unwrap();
        let found =
            bytes.windows(value.len()).enumerate().filter(|(_, part)| *part == value.as_bytes());
        for (at, _) in found {
            let before = &bytes[at.saturating_sub(6)..at];
            assert_eq!(before, b"plain-", "{}", file.display());
        }
    }
}
