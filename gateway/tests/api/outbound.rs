//! Outbound requests of guests: the servers that they may call, and the errors that they see.

mod addresses;
mod credentials;
mod limits;
mod name_server;
mod requests;
mod reuse;
mod upstream;

use serde_json::json;

pub(crate) use self::{
    name_server::NameServer,
    upstream::{Upstream, UpstreamConnection},
};
use crate::{client::FullResponse, test_gateway::TestGateway};

/// Guests that make requests as their query asks: WASI 0.2 and 0.3.
const GUESTS: [&str; 2] = ["t-outbound", "t-outbound-p3"];

/// The outcomes of the requests that `query` asks for.
pub(crate) async fn ask(gateway: &TestGateway, guest: &str, query: &str) -> String {
    let answer = gateway.get(&format!("/f/{guest}/?{query}")).await;
    assert_eq!(answer.status(), 200, "{guest}: {query}: {answer:?}");
    answer.text().trim_end().to_owned()
}

/// The number of a guest's requests with this outcome.
async fn outcomes(gateway: &TestGateway, guest: &str, outcome: &str) -> f64 {
    let labels = [("function", guest), ("outcome", outcome)];
    gateway.metric_with("mayfly_outbound_requests_total", &labels).await
}

async fn fetch(gateway: &TestGateway, url: &str) -> FullResponse {
    gateway.get(&format!("/f/fetch/?url={url}")).await
}

#[tokio::test]
async fn a_host_that_is_not_granted_is_denied() {
    // Even if the operator allows private addresses.
    let gateway = TestGateway::with(&["outbound.allow_private=true"]).await;
    let upstream = Upstream::echo().await;
    let port = upstream.port();
    let url = format!("http://127.0.0.1:{port}/");
    gateway.deploy("fetch").await;
    assert_eq!(fetch(&gateway, &url).await.plain(), (502, "HttpRequestDenied\n"));

    for named in [
        json!(["example.com"]),
        json!(["127.0.0.1"]),
        json!([format!("localhost:{port}")]),
        json!([format!("127.0.0.1:{}", port ^ 1)]),
        json!([format!("*.0.0.1:{port}")]),
    ] {
        let changed = gateway.patch("fetch", &json!({"settings": {"outbound": named}})).await;
        match changed.status() {
            200 => assert_eq!(fetch(&gateway, &url).await.plain(), (502, "HttpRequestDenied\n")),
            refused => assert_eq!((refused, changed.problem().1), (422, "bad-settings"), "{named}"),
        }
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn private_addresses_are_prohibited_even_if_they_are_granted() {
    let gateway = TestGateway::start().await;
    let upstream = Upstream::echo().await;
    let port = upstream.port();
    let hosts = ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"];
    let named: Vec<String> = hosts.iter().map(|host| format!("{host}:{port}")).collect();
    gateway.deploy_with("fetch", &json!({"outbound": named})).await;
    for host in hosts {
        let answer = fetch(&gateway, &format!("http://{host}:{port}/")).await;
        assert_eq!(answer.plain(), (502, "DestinationIpProhibited\n"), "{host}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn a_server_that_is_granted_and_permitted_is_called() {
    let gateway = TestGateway::with(&["outbound.allow_private=true"]).await;
    let upstream = Upstream::echo().await;
    let host = upstream.host();
    gateway.deploy_with("fetch", &json!({"outbound": [host]})).await;
    let answer = fetch(&gateway, &format!("http://{host}/some/path?x=1")).await;
    assert_eq!(answer.status(), 203);
    assert_eq!(answer.header("content-type"), Some("text/x"));
    assert!(answer.text().starts_with("get /some/path?x=1 http/1.1\r\n"), "{}", answer.text());
    assert!(answer.text().contains(&format!("\r\nhost: {host}\r\n")), "{}", answer.text());
    assert_eq!(upstream.connections(), 1);
}
