//! Secrets that the gateway puts into outbound requests.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use http::Method;
use serde_json::{Value, json};

use super::{GUESTS, NameServer, Upstream, ask, outcomes};
use crate::{
    client::FullResponse,
    test_gateway::{TestGateway, mayfly},
};

const VALUE: &str = "hunter2-of-the-gateway";

async fn put(gateway: &TestGateway, name: &str, secret: &Value) -> FullResponse {
    gateway.control(Method::PUT, &format!("/v1/secrets/{name}")).json(secret).send().await
}

/// The value of a header in the last request to a server.
fn last(upstream: &Upstream, header: &str) -> Option<String> {
    let head = upstream.heads().pop()?;
    let start = format!("{header}: ");
    let mut values = head.lines().filter_map(|line| line.strip_prefix(&start).map(str::to_owned));
    let value = values.next();
    assert_eq!(values.next(), None, "{header} is repeated");
    value
}

#[tokio::test]
async fn a_credential_is_in_the_request_and_never_in_the_guest() {
    let gateway = TestGateway::with(&["outbound.permit=127.0.0.1"]).await;
    let upstream = Upstream::echo().await;
    let host = upstream.host();
    let secret = |value: &str| json!({"value": value, "hosts": [format!("http://{host}")]});
    assert_eq!(put(&gateway, "api-token", &secret(VALUE)).await.status(), 201);
    let credentials = json!([{
        "host": format!("http://{host}"), "header": "Authorization", "secret": "api-token",
        "prefix": "Bearer ",
    }]);
    for guest in GUESTS {
        let settings = json!({"outbound": [host], "credentials": credentials});
        let deployed = gateway.deploy_with(guest, &settings).await;
        assert_eq!(deployed["settings"]["credentials"], credentials);
        // The credential replaces the headers of the guest.
        let query = format!("to={host}&header=authorization:mine&header=Authorization:and%20more");
        assert!(ask(&gateway, guest, &query).await.starts_with("1 x 203 "));
        assert_eq!(last(&upstream, "authorization"), Some(format!("bearer {VALUE}")), "{guest}");
    }
    // The next request carries the new value. Without a value no request is sent.
    assert_eq!(put(&gateway, "api-token", &secret("new")).await.status(), 200);
    ask(&gateway, "t-outbound", &format!("to={host}")).await;
    assert_eq!(last(&upstream, "authorization").as_deref(), Some("bearer new"));
    let delete = async || gateway.control(Method::DELETE, "/v1/secrets/api-token").send().await;
    assert_eq!(delete().await.status(), 204);
    assert_eq!(delete().await.problem(), (404, "secret-not-found"));
    let seen = upstream.heads().len();
    let answer = ask(&gateway, "t-outbound", &format!("to={host}")).await;
    assert_eq!(answer, "1 x ConfigurationError");
    assert_eq!(upstream.heads().len(), seen);
    assert_eq!(outcomes(&gateway, "t-outbound", "secret").await, 1.0);
    let lines = gateway.log_lines("t-outbound", 1).await;
    assert!(lines[0]["line"].as_str().unwrap().contains("\"api-token\""), "{lines:?}");
}

#[tokio::test]
async fn a_credential_is_sent_over_tls_unless_its_host_allows_http() {
    let (secure, certificate) = Upstream::echo_over_tls("api.test").await;
    let plain = Upstream::echo().await;
    let names = NameServer::start(|_, _| vec!["127.0.0.1".parse().unwrap()]).await;
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    fs::write(&ca_file, certificate).unwrap();
    let ca_file = format!("outbound.ca_file={}", ca_file.display());
    let settings = [names.setting(), ca_file, "outbound.permit=127.0.0.1".to_owned()];
    let settings = settings.each_ref().map(String::as_str);
    let gateway = TestGateway::with(&settings).await;
    let (s, p) = (secure.port(), plain.port());
    let hosts = [format!("*.test:{s}"), format!("http://*.test:{p}")];
    put(&gateway, "key", &json!({"value": VALUE, "hosts": hosts})).await;
    let deploy = async |host: &str| {
        let granted = [s, p].map(|port| format!("*.test:{port}"));
        let credentials = json!([{"host": host, "header": "x-key", "secret": "key"}]);
        let settings = json!({"outbound": granted, "credentials": credentials});
        gateway.deploy_with("t-outbound", &settings).await;
    };
    deploy(&format!("*.test:{s}")).await;
    let to = format!("to=api.test:{s}&scheme=https");
    assert_eq!(ask(&gateway, "t-outbound", &to).await, "1 x 200 2");
    assert_eq!(last(&secure, "x-key").as_deref(), Some(VALUE));
    // A server without a certificate for the name gets no request.
    let other = format!("to=other.test:{s}&scheme=https");
    assert_eq!(ask(&gateway, "t-outbound", &other).await, "1 x TlsCertificateError");
    assert_eq!(secure.heads().len(), 1);
    for (host, expected) in
        [(format!("*.test:{p}"), None), (format!("http://*.test:{p}"), Some(VALUE))]
    {
        deploy(&host).await;
        ask(&gateway, "t-outbound", &format!("to=api.test:{p}")).await;
        assert_eq!(last(&plain, "x-key").as_deref(), expected, "{host}");
    }
}

#[tokio::test]
async fn a_secret_is_sent_only_to_its_allowed_hosts() {
    let gateway = TestGateway::with(&["outbound.permit=127.0.0.1"]).await;
    let (right, wrong) = (Upstream::echo().await, Upstream::echo().await);
    let hosts = [right.host(), wrong.host()];
    let allowed = format!("http://{}", right.host());
    put(&gateway, "key", &json!({"value": VALUE, "hosts": [allowed]})).await;
    let credential = |host: &String| json!({"host": format!("http://{host}"), "header": "x-key", "secret": "key"});
    let credentials: Vec<Value> = hosts.iter().map(credential).collect();
    let settings = json!({"outbound": hosts, "credentials": credentials});
    gateway.deploy_with("t-outbound", &settings).await;
    assert!(ask(&gateway, "t-outbound", &format!("to={}", hosts[0])).await.contains("203"));
    assert_eq!(last(&right, "x-key").as_deref(), Some(VALUE));
    let elsewhere = ask(&gateway, "t-outbound", &format!("to={}", hosts[1])).await;
    assert_eq!(elsewhere, "1 x HttpRequestDenied");
    assert!(wrong.heads().is_empty());
}

/// Whoever may deploy chooses a credential's host and scheme, and never gets a secret by that.
#[tokio::test]
async fn a_function_cannot_take_a_secret_elsewhere_or_over_plain_http() {
    let gateway = TestGateway::with(&["outbound.permit=127.0.0.1"]).await;
    let upstream = Upstream::echo().await;
    let host = upstream.host();
    let credentials =
        json!([{"host": format!("http://{host}"), "header": "x-key", "secret": "key"}]);
    let settings = json!({"outbound": [host], "credentials": credentials});
    gateway.deploy_with("t-outbound", &settings).await;
    let plain = format!("http://{host}");
    for secret in [
        json!({"value": VALUE, "hosts": ["*"]}),
        json!({"value": VALUE, "hosts": [host]}),
        json!({"value": VALUE, "hosts": [plain], "functions": ["another"]}),
    ] {
        assert!(put(&gateway, "key", &secret).await.status() < 300, "{secret}");
        let answer = ask(&gateway, "t-outbound", &format!("to={host}")).await;
        assert_eq!(answer, "1 x HttpRequestDenied", "{secret}");
    }
    assert!(upstream.heads().is_empty());
    let lines = gateway.log_lines("t-outbound", 3).await;
    let line = |at: usize| lines[at]["line"].as_str().unwrap();
    assert!(lines.iter().any(|line| line["line"].as_str().unwrap().contains("http://")));
    assert!((0..3).any(|at| line(at).contains("by this function")), "{lines:?}");
    let ours = json!({"value": VALUE, "hosts": [plain], "functions": ["t-outbound"]});
    put(&gateway, "key", &ours).await;
    assert!(ask(&gateway, "t-outbound", &format!("to={host}")).await.contains("203"));
    assert_eq!(last(&upstream, "x-key").as_deref(), Some(VALUE));
}

/// A secret of a version that did not ask for hosts.
#[tokio::test]
async fn an_old_secret_without_hosts_goes_to_every_host_over_tls_and_says_so_at_the_start() {
    let mut gateway = TestGateway::with(&["outbound.permit=127.0.0.1"]).await;
    put(&gateway, "old", &json!({"value": VALUE, "hosts": ["a.example"]})).await;
    let change = "import sqlite3, sys; \
                  db = sqlite3.connect(sys.argv[1]); \
                  db.execute(\"UPDATE secrets SET hosts = '[]'\"); db.commit()";
    let database = gateway.data_dir().join("mayfly.db");
    let changed = Command::new("python3").args(["-c", change]).arg(database).status();
    assert!(changed.expect("this test needs python3 with sqlite3").success());
    gateway.restart().await;
    assert_eq!(gateway.api("/v1/secrets").await.json()["secrets"][0]["hosts"], json!(["*"]));
    assert!(gateway.log().contains("mayfly secret set old --host"), "{}", gateway.log());
}

#[tokio::test]
async fn a_secret_is_sealed_on_disk_never_shown_and_survives_a_restart() {
    let mut gateway = TestGateway::with(&["outbound.permit=127.0.0.1"]).await;
    let upstream = Upstream::echo().await;
    let host = upstream.host();
    let stored = put(&gateway, "key", &json!({"value": VALUE, "hosts": ["*.example"]})).await;
    let listed = gateway.api("/v1/secrets").await;
    for answer in [&stored, &listed] {
        assert!(!answer.text().contains(VALUE), "{answer:?}");
    }
    assert_eq!(listed.json()["secrets"], json!([stored.json()]));
    assert_eq!(stored.json()["hosts"], json!(["*.example"]));
    assert_eq!(stored.json()["functions"], json!(["*"]));
    let here = json!({"value": VALUE, "hosts": [format!("http://{host}")]});
    put(&gateway, "key", &here).await;
    let credentials =
        json!([{"host": format!("http://{host}"), "header": "x-key", "secret": "key"}]);
    let settings = json!({"outbound": [host], "credentials": credentials});
    gateway.deploy_with("t-outbound", &settings).await;
    gateway.restart().await;
    ask(&gateway, "t-outbound", &format!("to={host}")).await;
    assert_eq!(last(&upstream, "x-key").as_deref(), Some(VALUE));
    for path in gateway.files("") {
        let bytes = fs::read(&path).unwrap();
        let found = bytes.windows(VALUE.len()).any(|part| part == VALUE.as_bytes());
        assert!(!found, "{}", path.display());
    }
    assert!(!gateway.log().contains(VALUE));
    // With another key no secret can be opened, and everything else works.
    fs::write(gateway.data_dir().join("secrets.key"), [0; 32]).unwrap();
    gateway.expect_errors();
    gateway.restart().await;
    let answer = ask(&gateway, "t-outbound", &format!("to={host}")).await;
    assert_eq!(answer, "1 x ConfigurationError");
    assert_eq!(put(&gateway, "key", &here).await.status(), 200);
    assert!(ask(&gateway, "t-outbound", &format!("to={host}")).await.contains("203"));
}

#[tokio::test]
async fn invalid_secrets_and_credentials_are_refused() {
    let gateway = TestGateway::start().await;
    let long = "x".repeat(5_000);
    for (name, secret) in [
        ("key", json!({"value": "", "hosts": ["*"]})),
        ("key", json!({"value": "two\nlines", "hosts": ["*"]})),
        ("key", json!({"value": " blanks around ", "hosts": ["*"]})),
        ("key", json!({"value": long, "hosts": ["*"]})),
        ("key", json!({"value": "ü\u{7f}", "hosts": ["*"]})),
        ("key", json!({"value": "x"})),
        ("key", json!({"value": "x", "hosts": []})),
        ("key", json!({"value": "x", "hosts": ["no host"]})),
        ("key", json!({"value": "x", "hosts": vec!["a.example"; 65]})),
        ("key", json!({"value": "x", "hosts": ["*"], "functions": []})),
        ("key", json!({"value": "x", "hosts": ["*"], "functions": ["A b"]})),
        ("key", json!({"value": "x", "hosts": ["*"], "functions": vec!["f"; 65]})),
        ("Key", json!({"value": "x", "hosts": ["*"]})),
        ("a_b", json!({"value": "x", "hosts": ["*"]})),
    ] {
        let refused = put(&gateway, name, &secret).await;
        assert_eq!(refused.problem(), (422, "bad-secret"), "{name} {secret}");
        assert!(!refused.text().contains(&long));
    }
    let unknown = put(&gateway, "key", &json!({"value": "x", "host": "a.example"})).await;
    assert_eq!(unknown.problem(), (400, "bad-json"));
    assert_eq!(gateway.api("/v1/secrets").await.json()["secrets"], json!([]));
    gateway.deploy("c-hello").await;
    for credential in [
        json!({"host": "a/b", "header": "x-key", "secret": "key"}),
        json!({"host": "a.example", "header": "host", "secret": "key"}),
        json!({"host": "a.example", "header": "transfer-encoding", "secret": "key"}),
        json!({"host": "a.example", "header": "x-key", "secret": "key", "prefix": "a\r\nb"}),
        json!({"host": "a.example", "header": "x-key"}),
    ] {
        let settings = json!({"settings": {"credentials": [credential]}});
        let refused = gateway.patch("c-hello", &settings).await;
        assert_eq!(refused.problem(), (422, "bad-settings"), "{settings}");
    }
}

#[tokio::test]
async fn the_command_line_reads_a_secret_from_standard_input() {
    let gateway = TestGateway::with(&["outbound.permit=127.0.0.1"]).await;
    let upstream = Upstream::echo().await;
    let host = upstream.host();
    let allowed = format!("http://{host}");
    let set = ["secret", "set", "key", "--host", &allowed, "--function", "t-outbound"];
    let mut command = mayfly(&set);
    command
        .env("MAYFLY_DATA_DIR", gateway.data_dir())
        .env("MAYFLY_SERVER", format!("http://{}", gateway.control_address()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut set = command.spawn().unwrap();
    // With the line feed of `echo`.
    set.stdin.take().unwrap().write_all(format!("{VALUE}\n").as_bytes()).unwrap();
    let done = tokio::task::spawn_blocking(move || set.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "stored key\n");
    let listed = gateway.cli(&["secret", "list"]).await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    for shown in ["key", &allowed, "t-outbound"] {
        assert!(listed.contains(shown), "{listed}");
    }
    let anywhere = gateway.cli(&["secret", "set", "key"]).await;
    assert_eq!(anywhere.status.code(), Some(2), "hosts must be named: {anywhere:?}");
    assert!(!listed.contains(VALUE), "{listed}");
    gateway.deploy_with("t-outbound", &json!({"outbound": [host]})).await;
    let credentials =
        format!("credentials=[{{\"host\":\"{allowed}\",\"header\":\"x-key\",\"secret\":\"key\"}}]");
    assert!(gateway.cli(&["set", "t-outbound", &credentials]).await.status.success());
    ask(&gateway, "t-outbound", &format!("to={host}")).await;
    assert_eq!(last(&upstream, "x-key").as_deref(), Some(VALUE));
    assert!(gateway.cli(&["secret", "delete", "key"]).await.status.success());
    assert_eq!(gateway.api("/v1/secrets").await.json()["secrets"], json!([]));
}
