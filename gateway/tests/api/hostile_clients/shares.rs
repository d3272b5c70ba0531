//! One client that takes all it may, and others that must be served.

use std::net::{IpAddr, Ipv4Addr};

use http::Method;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    client::eventually,
    guests::guest,
    hostile_clients::{
        assert_problem,
        frames::{DATA, END_HEADERS, HEADERS, RawHttp2, frame, request},
        until_closed,
    },
    test_gateway::TestGateway,
};

const ANOTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

async fn problems(gateway: &TestGateway, slug: &str) -> f64 {
    gateway.metric_with("mayfly_problems_total", &[("type", slug)]).await
}

/// Case O05.
#[tokio::test]
async fn slow_bodies_of_one_client_keep_no_other_client_out() {
    const CONNECTIONS: u32 = 16;
    const STREAMS: u32 = 64;
    // The machine may be busy with other tests.
    let gateway = TestGateway::with(&["server.max_lag_ms=0"]).await;
    gateway.deploy("c-hello").await;
    let wasm = guest("t-read");
    for n in 0..CONNECTIONS {
        assert_eq!(gateway.put(&format!("slow-{n}"), wasm.clone()).send().await.status(), 201);
    }
    let mut connections = Vec::new();
    for n in 0..CONNECTIONS {
        let mut raw = RawHttp2::open(gateway.data(), &[]).await;
        let head = request("POST", &format!("/f/slow-{n}/"));
        for stream in (0..STREAMS).map(|n| 2 * n + 1) {
            let start = frame(HEADERS, END_HEADERS, stream, &head);
            raw.send(&[start, frame(DATA, 0, stream, b"a")].concat()).await;
        }
        connections.push(raw);
    }
    let refused = f64::from(CONNECTIONS * STREAMS) - 250.0;
    eventually("all requests have come", async || {
        (problems(&gateway, "address-limit").await == refused).then_some(())
    })
    .await;
    gateway.metric_becomes("mayfly_live_instances", 250.0).await;
    for _ in 0..10 {
        let other = gateway.call(Method::GET, "/f/c-hello/").from(ANOTHER).send().await;
        assert_eq!(other.plain(), (200, "hello from c\n"));
    }
    drop(connections);
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
    assert_eq!(gateway.get("/f/c-hello/").await.status(), 200);
}

/// Case O05.
#[tokio::test]
async fn requests_in_flight_of_one_client_are_limited() {
    let settings = ["server.in_flight_per_address=2", "server.trusted_proxies=127.0.0.9"];
    let gateway = TestGateway::with(&settings).await;
    gateway.deploy("sse").await;
    let stream = || gateway.call(Method::GET, "/f/sse/?n=2&ms=250000");
    let get = || gateway.call(Method::GET, "/f/sse/?n=1");
    let mut kept = Vec::new();
    for _ in 0..2 {
        kept.push(stream().open().await);
    }
    let refused = get().send().await;
    assert_eq!(refused.problem(), (429, "address-limit"));
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert!(refused.text().contains("server.in_flight_per_address"), "{}", refused.text());
    assert_eq!(get().from(ANOTHER).send().await.status(), 200);

    // A trusted proxy names its clients. All addresses of an IPv6 network are one.
    let proxy = IpAddr::from([127, 0, 0, 9]);
    let named = |client: &str| get().from(proxy).header("x-forwarded-for", client);
    for client in ["2001:db8::1", "2001:db8::2"] {
        kept.push(stream().from(proxy).header("x-forwarded-for", client).open().await);
    }
    assert_eq!(named("2001:db8::3").send().await.problem(), (429, "address-limit"));
    assert_eq!(named("2001:db8:0:1::1").send().await.status(), 200);
    for _ in 0..3 {
        // Its own requests have only the node's limit.
        kept.push(stream().from(proxy).open().await);
    }

    drop(kept);
    eventually("a call is admitted again", async || {
        (get().send().await.status() == 200).then_some(())
    })
    .await;
    eventually("a call is admitted again", async || {
        (named("2001:db8::3").send().await.status() == 200).then_some(())
    })
    .await;
}

/// Case O05.
#[tokio::test]
async fn the_last_requests_in_flight_are_for_clients_that_have_few() {
    let gateway = TestGateway::with(&["server.in_flight=16"]).await;
    gateway.deploy("sse").await;
    let stream = || gateway.call(Method::GET, "/f/sse/?n=2&ms=250000");
    let mut kept = Vec::new();
    for _ in 0..14 {
        kept.push(stream().open().await);
    }
    let get = || gateway.call(Method::GET, "/f/sse/?n=1");
    assert_eq!(get().send().await.problem(), (503, "overloaded"));
    kept.push(stream().from(ANOTHER).open().await);
    assert_eq!(get().from(ANOTHER).send().await.problem(), (503, "overloaded"));
    assert_eq!(get().from([127, 0, 0, 3].into()).send().await.status(), 200);
}

/// Case O05.
#[tokio::test]
async fn a_request_without_a_byte_of_its_body_takes_no_slot_and_no_instance() {
    let gateway = TestGateway::with(&["server.body_grace_ms=3000"]).await;
    let one = serde_json::json!({"concurrency": 1, "queue": 0});
    gateway.deploy_with("t-read", &one).await;
    let mut silent = TcpStream::connect(gateway.data()).await.unwrap();
    let head = "POST /f/t-read/ HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n";
    silent.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..10 {
        assert_eq!(gateway.get("/f/t-read/").await.status(), 200);
    }
    assert_problem(&until_closed(&mut silent).await, 408, "request-too-slow", "no byte");

    // A client that sends a body of unknown length may wait for the function to speak first.
    let mut chunked = TcpStream::connect(gateway.data()).await.unwrap();
    let head = "POST /f/t-read/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    chunked.write_all(head.as_bytes()).await.unwrap();
    gateway.metric_becomes("mayfly_live_instances", 1.0).await;
}

/// Case H04.
#[tokio::test]
async fn probes_are_answered_while_a_local_client_has_all_its_connections() {
    let gateway = TestGateway::start().await;
    let get = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let body = "POST /v1/functions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\na";
    for said in ["", get, "GET /healthz HTTP/1.1\r\n", body] {
        let mut kept = Vec::new();
        for _ in 0..300 {
            let mut socket = TcpStream::connect(gateway.control_address()).await.unwrap();
            // The gateway may have closed it to make room for the next.
            let _ = socket.write_all(said.as_bytes()).await;
            kept.push(socket);
        }
        for _ in 0..5 {
            let probe = gateway.anonymous(Method::GET, "/healthz").send().await;
            assert_eq!(probe.status(), 200, "{said}");
        }
    }
}
