//! Requests that can be parsed in only one way, and are invalid or unusual all the same.

use http::Method;
use serde_json::json;

use crate::{
    client::{Http2, eventually},
    hostile_clients::{assert_problem, said},
    test_gateway::TestGateway,
};

/// Case H11.
#[tokio::test]
async fn a_request_names_one_valid_host_and_the_same_everywhere() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let hosts = [
        "",
        "host:\r\n",
        "host: a b\r\n",
        "host: a,b\r\n",
        "host: a/b\r\n",
        "host: a@b\r\n",
        "host: a:b\r\n",
        "host: a:65536\r\n",
        "host: a:1:2\r\n",
        "host: .a\r\n",
        "host: a..b\r\n",
        "host: [::1\r\n",
        "host: [x]\r\n",
        "host: ::1\r\n",
        "host: a%2eb\r\n",
        "host: \u{e9}\r\n",
        "host: a?b\r\n",
    ];
    for address in [gateway.data(), gateway.control_address()] {
        for host in hosts {
            let request = format!("GET /f/c-hello/ HTTP/1.1\r\n{host}\r\n");
            assert_problem(&said(address, request.as_bytes()).await, 400, "bad-host", host);
        }
        for (target, host) in [("http://a/f/c-hello/", "b"), ("http://a:1/f/c-hello/", "a:2")] {
            let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
            assert_problem(&said(address, request.as_bytes()).await, 400, "bad-host", target);
        }
    }
    for head in [
        "GET /f/c-hello/ HTTP/1.1\r\nhost: a:81",
        "GET http://A.:81/f/c-hello/ HTTP/1.1\r\nhost: a:81",
    ] {
        let request = format!("{head}\r\nconnection: close\r\n\r\n");
        let said = said(gateway.data(), request.as_bytes()).await;
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{head}: {said}");
    }
}

/// Case H12.
#[tokio::test]
async fn heads_and_targets_have_limits() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let many: String = (0..100).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("x-long: {}\r\n", "x".repeat(64 << 10));
    let get = "GET /f/c-hello/ HTTP/1.1\r\nhost: a\r\n";
    let target = format!("GET /f/c-hello/{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(70_000));
    for (request, status, slug, setting) in [
        (format!("{get}{many}\r\n"), 431, "too-many-headers", "server.headers"),
        (format!("{get}{long}\r\n"), 431, "head-too-large", "server.header_bytes"),
        (format!("{get}{}", &long[..long.len() - 2]), 431, "head-too-large", "server.header_bytes"),
        (target, 414, "target-too-long", "server.uri_bytes"),
    ] {
        let said = said(gateway.data(), request.as_bytes()).await;
        assert_problem(&said, status, slug, slug);
        assert!(said.contains(setting), "{said}");
    }
    let ended = r#"mayfly_connections_ended_total{plane="data",reason="malformed-request"} 4"#;
    let counted = async || {
        let metrics = gateway.api("/metrics").await;
        metrics.text().contains(ended).then_some(())
    };
    eventually("all four must be counted", counted).await;
    let fits = format!("{get}connection: close\r\nx: {:x<60000}\r\n\r\n", "");
    assert!(said(gateway.data(), fits.as_bytes()).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let connection = Http2::open(gateway.data()).await;
    let url = format!("http://a/f/c-hello/{:x<9000}", "");
    assert_eq!(connection.post(&url, "").await.problem(), (414, "target-too-long"));
}

/// Case H13.
#[tokio::test]
async fn a_thousand_pipelined_requests_are_answered_in_order_one_at_a_time() {
    const MEMORY: u64 = 1 << 20;
    let gateway = TestGateway::start().await;
    // A second request at the same time would get a 429.
    gateway.deploy_with("echo", &json!({"concurrency": 1, "queue": 0})).await;
    let mut grown = Vec::new();
    // Memory that is allocated once is allocated in the first rounds.
    while grown.last().is_none_or(|bytes| *bytes > MEMORY) {
        assert!(grown.len() < 5, "{grown:?} bytes of memory");
        let before = gateway.resident_bytes();
        a_thousand_pipelined(&gateway).await;
        grown.push(gateway.resident_bytes().saturating_sub(before));
    }
    assert_eq!(gateway.metric("mayfly_problems_total").await, 0.0);
}

async fn a_thousand_pipelined(gateway: &TestGateway) {
    use tokio::io::AsyncWriteExt as _;
    let mut socket = tokio::net::TcpStream::connect(gateway.data()).await.unwrap();
    let ask = |n: u32, close: &str| {
        format!("GET /f/echo/{n} HTTP/1.1\r\nhost: a\r\nconnection: {close}\r\n\r\n")
    };
    let all: String = (0..999).map(|n| ask(n, "keep-alive")).collect();
    let (mut reader, mut writer) = socket.split();
    let send =
        async move { writer.write_all((all + &ask(999, "close")).as_bytes()).await.unwrap() };
    let mut said = String::new();
    let read = tokio::io::AsyncReadExt::read_to_string(&mut reader, &mut said);
    let (_, read) = tokio::join!(send, read);
    read.unwrap();
    let paths: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix("x-echo-path: /")).collect();
    let expected: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    assert_eq!(paths, expected);
}

/// Case H15.
#[tokio::test]
async fn connect_and_trace_are_not_supported_and_upgrades_are_ignored() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    for request in [
        "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n",
        "TRACE /f/c-hello/ HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        for address in [gateway.data(), gateway.control_address()] {
            let said = said(address, request.as_bytes()).await;
            assert_problem(&said, 501, "method-not-supported", request);
        }
    }
    for upgrade in ["h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA", "websocket", "TLS/1.2"] {
        let request = format!(
            "GET /f/c-hello/ HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: {upgrade}\r\n\r\n"
        );
        let said = said(gateway.data(), request.as_bytes()).await;
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{upgrade}: {said}");
    }
    let version = said(gateway.data(), b"GET / HTTP/3.0\r\nhost: a\r\n\r\n").await;
    assert_problem(&version, 505, "version-not-supported", "a version");
}

/// Case H15.
#[tokio::test]
async fn only_one_expectation_is_known() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-read").await;
    let unknown = gateway.call(Method::POST, "/f/t-read/").header("expect", "200-ok").send().await;
    assert_eq!(unknown.problem(), (417, "expectation-failed"));
}

/// Case H16.
#[tokio::test]
async fn routing_functions_permissions_and_logs_use_one_canonical_address() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-headers").await;
    let raw = async |target: &str, host: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        said(gateway.data(), request.as_bytes()).await
    };
    for (target, path) in [
        ("/f/t-headers/a%2fb", "/a%2Fb"),
        ("/f/other/../t-headers/./a", "/a"),
        ("/f/other/%2e%2E/t-headers/a/..", "/"),
        ("/f/%74-headers/%7euser", "/~user"),
        ("/f/t-headers//a;b=c/..;/d", "//a;b=c/..;/d"),
        ("http://x/f/x/../t-headers/a?b=../c", "/a?b=../c"),
    ] {
        let said = raw(target, "x").await;
        assert!(said.contains(&format!("\npath: {path}\n")), "{target}: {said}");
    }
    for host in ["T-Headers.LOCALHOST", "t-headers.localhost.", "t-headers.localhost.:80"] {
        let said = raw("/a/../b", host).await;
        assert!(said.contains("\npath: /b\n"), "{host}: {said}");
    }
    for target in
        ["/f/t-headers/../../..", "/f/t-headers/%", "/f/t-headers/%00", "/f/t-headers/a\\b"]
    {
        assert_problem(&raw(target, "x").await, 400, "bad-target", target);
    }
    for target in
        ["/f%2Ft-headers/", "/f/t-headers%2f", "/f//t-headers/", "/F/t-headers/", "/f/t-headers;a/"]
    {
        assert_problem(&raw(target, "x").await, 404, "no-route", target);
    }
    // A token with a smaller scope would be enough for the path as it is written, but not for the
    // canonical path.
    for target in ["/v1/functions/../tokens", "/v1/functions/%2e%2e/tokens", "/v1/./tokens"] {
        let request =
            format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let said = said(gateway.control_address(), request.as_bytes()).await;
        assert_problem(&said, 401, "unauthorized", target);
    }
    assert!(gateway.log().contains(r#""path":"/v1/tokens""#), "{}", gateway.log());
}
