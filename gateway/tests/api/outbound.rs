//! Which servers a guest can call.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{client::Answer, test_gateway::TestGateway};

/// A server that counts its connections and answers each with what it was asked for.
struct Upstream {
    address: SocketAddr,
    connections: Arc<AtomicU32>,
}

impl Upstream {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&connections);
        // Ends with the test's runtime.
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Relaxed);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(socket.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
                    let length = head.len();
                    let answer = format!(
                        "HTTP/1.1 203 OK\r\ncontent-type: text/x\r\ncontent-length: {length}\r\n\
                         \r\n{head}"
                    );
                    socket.write_all(answer.as_bytes()).await.unwrap();
                });
            }
        });
        Self { address, connections }
    }

    fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }
}

async fn fetch(gateway: &TestGateway, url: &str) -> Answer {
    gateway.get(&format!("/f/fetch/?url={url}")).await
}

#[tokio::test]
async fn nothing_is_allowed_unless_it_is_named() {
    // Even where the operator allows private addresses.
    let gateway = TestGateway::with(&["outbound.allow_private=true"]).await;
    let upstream = Upstream::start().await;
    let port = upstream.address.port();
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
async fn private_addresses_are_prohibited_even_if_they_are_named() {
    let gateway = TestGateway::start().await;
    let upstream = Upstream::start().await;
    let port = upstream.address.port();
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
async fn a_server_that_is_named_and_allowed_is_called() {
    let gateway = TestGateway::with(&["outbound.allow_private=true"]).await;
    let upstream = Upstream::start().await;
    let host = upstream.address.to_string();
    gateway.deploy_with("fetch", &json!({"outbound": [host]})).await;
    let answer = fetch(&gateway, &format!("http://{host}/some/path?x=1")).await;
    assert_eq!(answer.status(), 203);
    assert_eq!(answer.header("content-type"), Some("text/x"));
    assert!(answer.text().starts_with("get /some/path?x=1 http/1.1\r\n"), "{}", answer.text());
    assert!(answer.text().contains(&format!("\r\nhost: {host}\r\n")), "{}", answer.text());
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn the_gateways_own_control_plane_is_out_of_reach() {
    let gateway = TestGateway::start().await;
    let control = gateway.control_address().to_string();
    gateway.deploy_with("fetch", &json!({"outbound": [control]})).await;
    let answer = fetch(&gateway, &format!("http://{control}/metrics")).await;
    assert_eq!(answer.plain(), (502, "DestinationIpProhibited\n"));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let limits = ["outbound.allow_private=true", "outbound.first_byte_ms=200"];
    let gateway = TestGateway::with(&limits).await;
    // Accepts, in the kernel's queue, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = silent.local_addr().unwrap().to_string();
    gateway.deploy_with("fetch", &json!({"outbound": [host]})).await;
    let answer = fetch(&gateway, &format!("http://{host}/")).await;
    assert_eq!(answer.plain(), (502, "ConnectionReadTimeout\n"));
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
}
