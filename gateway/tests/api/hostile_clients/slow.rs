//! Slow clients.

use std::time::Duration;

use http::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{self, Instant},
};

use crate::{
    client::eventually,
    hostile_clients::{
        assert_problem,
        frames::{END_HEADERS, END_STREAM, HEADERS, RawHttp2, SETTINGS, frame, request},
        until_closed,
    },
    test_gateway::TestGateway,
};

/// The beginnings of connections after which slow clients stop.
const STARTS: [&[u8]; 6] = [
    b"",
    b"G",
    b"GET /f/c-hello/ HTTP/1.1\r\nhost: a\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
];

/// Case H01.
#[tokio::test]
async fn silent_clients_and_unfinished_requests_time_out() {
    // The defaults are 10 s and 75 s; this tests that the timeouts hold for every client.
    let timeouts = [
        "server.header_timeout_ms=1000",
        "server.idle_timeout_ms=1000",
        "server.connections_per_address=0",
    ];
    let gateway = TestGateway::with(&timeouts).await;
    gateway.deploy("c-hello").await;
    let mut sockets = Vec::new();
    for n in 0..240 {
        let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
        socket.write_all(STARTS[n % STARTS.len()]).await.unwrap();
        sockets.push(socket);
    }
    // Also clients that have received a response.
    let get = b"GET /f/c-hello/ HTTP/1.1\r\nhost: a\r\n\r\n";
    for n in 0..60 {
        let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
        if n % 2 == 0 {
            socket.write_all(get).await.unwrap();
        } else {
            let head = frame(HEADERS, END_STREAM | END_HEADERS, 1, &request("GET", "/f/c-hello/"));
            let start = [STARTS[4], &frame(SETTINGS, 0, 0, &[]), &head].concat();
            socket.write_all(&start).await.unwrap();
        }
        sockets.push(socket);
    }
    let began = Instant::now();
    for socket in &mut sockets {
        until_closed(socket).await;
    }
    // On a quiet machine it takes two seconds longer than the timeout.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    gateway.metric_becomes("mayfly_connections_ended_total", 300.0).await;
    for address in [gateway.control_address()] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        assert_eq!(until_closed(&mut socket).await, "");
    }
}

/// Case H02.
#[tokio::test]
async fn other_clients_are_served_throughout_slow_heads_bodies_and_readers() {
    let settings = [
        "server.connections_per_address=0",
        "server.header_timeout_ms=3000",
        "server.body_grace_ms=3000",
        "server.stall_timeout_ms=3000",
    ];
    let gateway = TestGateway::with(&settings).await;
    gateway.deploy("c-hello").await;
    gateway.deploy("echo").await;
    gateway.deploy_with("t-big", &serde_json::json!({"timeout_ms": 60_000})).await;
    let count = if std::env::var_os("MAYFLY_LONG").is_some() { 1_000 } else { 300 };
    let mut slow = tokio::task::JoinSet::new();
    let address = gateway.data();
    for n in 0..count {
        slow.spawn(async move {
            let mut socket = TcpStream::connect(address).await.unwrap();
            let (start, drop) = match n % 3 {
                0 => ("GET / HTTP/1.1\r\nhost: a\r\n", "x: y\r\n"),
                1 => ("POST /f/echo/ HTTP/1.1\r\nhost: a\r\ncontent-length: 9999\r\n\r\n", "a"),
                _ => ("GET /f/t-big/?bytes=20000000 HTTP/1.1\r\nhost: a\r\n\r\n", ""),
            };
            socket.write_all(start.as_bytes()).await.unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            while Instant::now() < deadline {
                time::sleep(Duration::from_millis(500)).await;
                // A client that reads nothing notices the end by writing.
                let drop = if drop.is_empty() { "\r\n" } else { drop };
                if socket.write_all(drop.as_bytes()).await.is_err() {
                    return true;
                }
            }
            false
        });
    }
    let mut served = 0;
    while !slow.is_empty() {
        while let Some(ended) = slow.try_join_next() {
            assert!(ended.unwrap(), "a slow client was served for a minute");
        }
        assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
        served += 1;
        time::sleep(Duration::from_millis(20)).await;
    }
    assert!(served > 20, "{served}");
}

/// Case H02.
#[tokio::test]
async fn a_client_that_reads_nothing_of_a_response_times_out() {
    let gateway = TestGateway::with(&["server.stall_timeout_ms=1000"]).await;
    gateway.deploy_with("t-big", &serde_json::json!({"timeout_ms": 300_000})).await;
    // HTTP/1: the client reads nothing of the response.
    let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
    let get = "GET /f/t-big/?bytes=50000000 HTTP/1.1\r\nhost: a\r\n\r\n";
    socket.write_all(get.as_bytes()).await.unwrap();
    // HTTP/2: the client reads everything, and grants no window.
    let window = [0, 4, 0, 0, 0, 10];
    let mut raw = RawHttp2::open(gateway.data(), &window).await;
    let head = request("GET", "/f/t-big/?bytes=50000000");
    raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &head)).await;

    while raw.next().await.is_some() {}
    gateway.metric_becomes("mayfly_connections", 0.0 + 1.0).await;
    gateway.metric_becomes("mayfly_connections_ended_total", 2.0).await;
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
    drop(socket);
}

/// Case H02.
#[tokio::test]
async fn a_slow_reader_receives_the_whole_response() {
    let gateway = TestGateway::with(&["server.stall_timeout_ms=2000"]).await;
    gateway.deploy("t-big").await;
    let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
    let get = "GET /f/t-big/?bytes=8000000 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    socket.write_all(get.as_bytes()).await.unwrap();
    let (mut read, mut piece) = (0, vec![0; 400_000]);
    loop {
        match socket.read(&mut piece).await.unwrap() {
            0 => break,
            some => read += some,
        }
        time::sleep(Duration::from_millis(20)).await;
    }
    assert!(read > 8_000_000, "{read}");
}

/// Case H03.
#[tokio::test]
async fn a_body_below_the_minimum_rate_is_a_408() {
    let gateway = TestGateway::with(&["server.body_grace_ms=500"]).await;
    for guest in ["t-read", "echo", "echo-p3", "echo-cgi"] {
        gateway.deploy(guest).await;
        let head = format!("POST /f/{guest}/ HTTP/1.1\r\nhost: a\r\ncontent-length: 99999\r\n\r\n");
        let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        let said = until_closed(&mut socket).await;
        assert_problem(&said, 408, "request-too-slow", guest);
        assert!(said.contains("server.body_rate_bytes"), "{said}");
        // Once it has begun, a streaming response is aborted.
        let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
        socket.write_all(format!("{head}abc").as_bytes()).await.unwrap();
        let said = until_closed(&mut socket).await;
        if guest == "t-read" {
            assert_problem(&said, 408, "request-too-slow", guest);
        } else {
            assert!(said.starts_with("HTTP/1.1 200 ") && !said.ends_with("0\r\n\r\n"), "{said}");
        }
    }
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
}

/// Case H03.
#[tokio::test]
async fn a_steady_body_and_one_sent_at_once_meet_the_minimum_rate() {
    let settings = ["server.body_grace_ms=300", "server.body_rate_bytes=100"];
    let gateway = TestGateway::with(&settings).await;
    gateway.deploy("echo-cgi").await;
    let (pieces, call) = gateway.call(Method::POST, "/f/echo-cgi/").pieces();
    let answer = tokio::spawn(call.send());
    for _ in 0..20 {
        pieces.send(vec![7; 1_000].into()).await.unwrap();
        time::sleep(Duration::from_millis(100)).await;
    }
    drop(pieces);
    assert_eq!(answer.await.unwrap().bytes().len(), 20_000);
}

/// Case H03.
#[tokio::test]
async fn uploads_have_a_minimum_rate() {
    let gateway = TestGateway::with(&["server.body_grace_ms=500"]).await;
    let (pieces, put) = gateway.control(Method::PUT, "/v1/functions/slow").pieces();
    let answer = tokio::spawn(put.send());
    pieces.send(vec![0; 10].into()).await.unwrap();
    assert_eq!(answer.await.unwrap().problem(), (408, "request-too-slow"));
    eventually("no file of the upload is left", async || {
        gateway.files("tmp").is_empty().then_some(())
    })
    .await;
    drop(pieces);
}
