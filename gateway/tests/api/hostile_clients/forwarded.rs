//! The address of a client whose requests come through a proxy.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{hostile_clients::said, test_gateway::TestGateway};

const CLAIMS: &str = "forwarded: for=203.0.113.7\r\nx-forwarded-for: 203.0.113.7\r\n\
                      x-forwarded-proto: https\r\nx-forwarded-host: evil\r\n\
                      x_forwarded_host: evil\r\nx-real-ip: 203.0.113.7\r\n\
                      mayfly-anything: 1\r\nmayfly-request-id: 1\r\n\
                      connection: close, x-named\r\nx-named: 1\r\nkeep-alive: 1\r\n\
                      true-client-ip: 203.0.113.7\r\nx-original-url: /other\r\n\
                      te: trailers\r\nproxy-authorization: Basic x\r\nupgrade: h2c\r\n";

async fn seen(gateway: &TestGateway, function: &str) -> String {
    let request = format!("GET /f/{function}/ HTTP/1.1\r\nhost: a\r\nx-one: 1\r\n{CLAIMS}\r\n");
    let said = said(gateway.data(), request.as_bytes()).await;
    let (_, body) = said.split_once("\r\n\r\n").unwrap();
    body.to_ascii_lowercase()
}

/// Case H17.
#[tokio::test]
async fn forwarding_headers_of_an_untrusted_client_do_not_reach_a_function() {
    let gateway = TestGateway::start().await;
    for function in ["t-headers", "t-cgi-env"] {
        gateway.deploy(function).await;
        let seen = seen(&gateway, function).await;
        for claim in [
            "203.0.113.7",
            "evil",
            "https",
            "mayfly-",
            "mayfly_a",
            "x-named",
            "x_named",
            "keep-alive",
            "trailers",
            "basic",
            "h2c",
        ] {
            assert!(!seen.contains(claim), "{function}: {claim}: {seen}");
        }
        assert!(seen.contains("127.0.0.1"), "{function}: {seen}");
    }
    let seen = seen(&gateway, "t-headers").await;
    assert!(seen.contains("\nx-forwarded-for: 127.0.0.1\n"), "{seen}");
    assert!(seen.contains("\nx-forwarded-proto: http\n"), "{seen}");
    assert!(seen.contains("\nx-one: 1\n"), "{seen}");
}

/// Case H17.
#[tokio::test]
async fn forwarding_headers_of_a_trusted_proxy_are_accepted() {
    let settings = ["server.trusted_proxies=127.0.0.0/8", "server.strip_headers=X-Original-URL"];
    let gateway = TestGateway::with(&settings).await;
    gateway.deploy("t-headers").await;
    gateway.deploy("t-cgi-env").await;
    let headers = seen(&gateway, "t-headers").await;
    for field in [
        "x-forwarded-for: 203.0.113.7, 127.0.0.1",
        "x-forwarded-proto: https",
        "x-forwarded-host: evil",
        "forwarded: for=203.0.113.7",
    ] {
        assert!(headers.contains(&format!("\n{field}\n")), "{field}: {headers}");
    }
    // Its clients must not pose as the gateway, nor through fields that it does not know.
    for claim in ["x-named", "mayfly-", "x_forwarded_host", "true-client-ip", "x-original-url"] {
        assert!(!headers.contains(claim), "{claim}: {headers}");
    }
    let environment = seen(&gateway, "t-cgi-env").await;
    assert!(environment.contains("remote_addr=203.0.113.7"), "{environment}");
}

/// A PROXY header of version 2 for a client at 203.0.113.7, port 4660.
fn header() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([203, 0, 113, 7, 127, 0, 0, 1, 0x12, 0x34, 0, 80]);
    header
}

/// Case H17.
#[tokio::test]
async fn the_proxy_header_of_a_trusted_proxy_names_the_client() {
    let settings = [
        "server.trusted_proxies=127.0.0.1",
        "server.proxy_protocol=true",
        "server.header_timeout_ms=1000",
    ];
    let gateway = TestGateway::with(&settings).await;
    gateway.deploy("t-headers").await;
    let get = b"GET /f/t-headers/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let named = said(gateway.data(), &[&header(), get.as_slice()].concat()).await;
    assert!(named.contains("\nx-forwarded-for: 203.0.113.7\n"), "{named}");

    // No header, an invalid one, and a part of one.
    for bytes in [get.as_slice(), b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", &header()[..20]] {
        assert_eq!(said(gateway.data(), bytes).await, "");
    }
    gateway.metric_becomes("mayfly_connections_ended_total", 3.0).await;
}

/// Case H17.
#[tokio::test]
async fn the_proxy_header_of_an_untrusted_client_is_an_invalid_request() {
    let settings = ["server.trusted_proxies=192.0.2.1", "server.proxy_protocol=true"];
    let gateway = TestGateway::with(&settings).await;
    gateway.deploy("c-hello").await;
    let get = b"GET /f/c-hello/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    assert!(said(gateway.data(), get).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let claimed = said(gateway.data(), &[&header(), get.as_slice()].concat()).await;
    assert!(claimed.starts_with("HTTP/1.1 400 "), "{claimed}");
}

/// Case H17.
#[tokio::test]
async fn a_trusted_proxy_is_exempt_from_the_connection_limit_per_address() {
    let settings = ["server.trusted_proxies=127.0.0.1", "server.connections_per_address=8"];
    let gateway = TestGateway::with(&settings).await;
    gateway.deploy("c-hello").await;
    let mut kept = Vec::new();
    for _ in 0..20 {
        let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
        socket.write_all(b"GET /f/c-hello/ HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut start = [0; 12];
        socket.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        kept.push(socket);
    }
}

/// Case H04.
#[tokio::test]
async fn the_addresses_of_one_ipv6_network_share_the_connection_limit() {
    let settings = [
        "server.trusted_proxies=127.0.0.1",
        "server.proxy_protocol=true",
        "server.connections_per_address=8",
    ];
    let gateway = TestGateway::with(&settings).await;
    gateway.deploy("sse").await;
    // Requests in progress: other connections would make room.
    let connect = async |network: u8, host: u8| {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
        header.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, network, 0, 0, 0, 0, 0, 0, 0, host]);
        header.extend([0; 16]);
        header.extend([0x12, 0x34, 0, 80]);
        let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
        header.extend(b"GET /f/sse/?n=2&ms=250000 HTTP/1.1\r\nhost: a\r\n\r\n");
        socket.write_all(&header).await.unwrap();
        let mut start = [0; 12];
        socket.read_exact(&mut start).await.is_ok().then_some(socket)
    };
    let mut kept = Vec::new();
    for host in 0..8 {
        kept.push(connect(1, host).await.expect("below the limit"));
    }
    for host in 8..12 {
        assert!(connect(1, host).await.is_none(), "{host}");
    }
    assert!(connect(2, 0).await.is_some(), "another network");
}
