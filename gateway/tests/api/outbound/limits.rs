//! Slow, endless and invalid servers, and guests with too many requests.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use http::Method;
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time,
};

use super::{GUESTS, NameServer, Upstream, UpstreamConnection, ask, outcomes};
use crate::{
    client::{DEADLINE, eventually},
    test_gateway::TestGateway,
};

/// Settings with a short timeout for each step.
const SHORT: [&str; 5] = [
    "outbound.permit=127.0.0.1",
    "outbound.connect_ms=300",
    "outbound.tls_ms=300",
    "outbound.first_byte_ms=300",
    "outbound.between_bytes_ms=300",
];
const SHORT_TIME: Duration = Duration::from_millis(300);

/// The number of sockets of the gateway. Its databases open and close files as they like.
fn sockets(gateway: &TestGateway) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap();
    descriptors
        .filter_map(|one| std::fs::read_link(one.unwrap().path()).ok())
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count()
}

/// Case G15.
#[tokio::test]
async fn of_ten_thousand_requests_fifty_are_sent_over_at_most_six_connections() {
    let gateway = TestGateway::with(&["outbound.permit=127.0.0.1"]).await;
    // Slow enough that requests overlap.
    let upstream = Upstream::serving(async |mut served: UpstreamConnection| {
        while served.head().await.is_some() {
            time::sleep(Duration::from_millis(2)).await;
            served.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let host = upstream.host();
    for guest in GUESTS {
        gateway.deploy_with(guest, &json!({"outbound": [host]})).await;
    }
    gateway.deploy("hello").await;
    gateway.get("/f/hello/").await;
    let before = sockets(&gateway);
    for (guest, at_once) in [("t-outbound", 1), ("t-outbound", 50), ("t-outbound-p3", 1)] {
        let query = format!("to={host}&times=10000&at_once={at_once}");
        let answer = ask(&gateway, guest, &query).await;
        assert_eq!(answer, "50 x 200 2\n9950 x ConnectionLimitReached", "{guest} {at_once}");
        assert!(upstream.most_open() <= 12, "{}", upstream.most_open());
    }
    // Six connections of one function, and two idle ones of the other.
    let most = upstream.most_open();
    assert!((6..=8).contains(&most), "{most} connections at once");
    let after = sockets(&gateway);
    assert!(after <= before + 8, "{before} sockets grew to {after}");
    gateway.metric_becomes("mayfly_outbound_connections", 0.0).await;
    assert_eq!(outcomes(&gateway, "t-outbound", "too-many").await, 2.0 * 9950.0);
    assert_eq!(limit_hits(&gateway, "outbound_requests").await, 3.0 * 9950.0);
    assert!(limit_hits(&gateway, "outbound_at_once").await >= 1.0);
    // The log reports it without being flooded.
    let lines = gateway.log_lines("t-outbound", 16).await;
    assert!(lines.len() <= 2 * 16, "{}", lines.len());
    let line = lines[0]["line"].as_str().unwrap();
    assert!(line.contains("outbound.per_invocation"), "{line}");
}

/// For an error within a body, guests of WASI 0.2 get a text instead of a code.
fn error_of(guest: &str, outcome: &str) -> String {
    let text = match outcome {
        "200 ConnectionReadTimeout" => "200 connection read timeout",
        "200 HttpResponseBodySize" => "200 HTTP response body size exceeds limit: 10485760 bytes",
        "200 HttpProtocolError" => "200 HTTP protocol error",
        "200 HttpResponseIncomplete" => "200 incomplete HTTP response",
        other => other,
    };
    if guest == "t-outbound" { text.to_owned() } else { outcome.to_owned() }
}

async fn limit_hits(gateway: &TestGateway, limit: &str) -> f64 {
    gateway.metric_with("mayfly_limit_hits_total", &[("limit", limit)]).await
}

/// A port whose connections are never accepted, with the connections that fill its queue.
async fn unaccepted() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    // Once the queue is full the kernel stops responding.
    while let Ok(stream) = time::timeout(SHORT_TIME, TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
    }
    (address, listener, queued)
}

/// Case G16.
#[tokio::test]
async fn a_server_that_stalls_times_out_at_each_step() {
    let gateway = TestGateway::with(&SHORT).await;
    let (unaccepted, _listener, _queued) = unaccepted().await;
    let silent =
        Upstream::serving(async |mut served: UpstreamConnection| served.wait_for_the_end().await)
            .await;
    let stuck = Upstream::serving(async |mut served: UpstreamConnection| {
        served.head().await;
        served.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab").await;
        served.wait_for_the_end().await;
    })
    .await;
    let (unaccepted, silent, stuck) = (unaccepted.to_string(), silent.host(), stuck.host());
    for guest in GUESTS {
        gateway.deploy_with(guest, &json!({"outbound": [unaccepted, silent, stuck]})).await;
        for (query, expected) in [
            (format!("to={unaccepted}"), "ConnectionTimeout"),
            (format!("to={silent}&scheme=https"), "ConnectionTimeout"),
            (format!("to={silent}"), "ConnectionReadTimeout"),
            (format!("to={stuck}"), "200 ConnectionReadTimeout"),
        ] {
            let since = Instant::now();
            let answer = ask(&gateway, guest, &query).await;
            assert_eq!(answer, format!("1 x {}", error_of(guest, expected)), "{guest}: {query}");
            assert!(since.elapsed() >= SHORT_TIME, "{:?}", since.elapsed());
        }
        for outcome in
            ["connect-timeout", "tls-timeout", "first-byte-timeout", "between-bytes-timeout"]
        {
            assert_eq!(outcomes(&gateway, guest, outcome).await, 1.0, "{guest}: {outcome}");
        }
    }
    gateway.metric_becomes("mayfly_outbound_connections", 0.0).await;
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
}

/// Case G17.
#[tokio::test]
async fn a_guest_can_shorten_timeouts_and_never_lengthen_them() {
    let gateway = TestGateway::with(&SHORT).await;
    let silent =
        Upstream::serving(async |mut served: UpstreamConnection| served.wait_for_the_end().await)
            .await;
    let host = silent.host();
    for guest in GUESTS {
        gateway.deploy_with(guest, &json!({"outbound": [host]})).await;
        for value in [0, 1, 999_999, 1_000_000, u64::MAX - 1, u64::MAX] {
            let times = format!("connect={value}&first={value}&between={value}");
            let answer = ask(&gateway, guest, &format!("to={host}&{times}")).await;
            let refused = ["1 x ConnectionReadTimeout", "1 x ConnectionTimeout", "1 x DnsTimeout"];
            assert!(refused.contains(&&*answer), "{guest}: {value}: {answer}");
        }
    }
    // The defaults are much longer than this test may take: the guest's own timeout applies.
    let gateway =
        TestGateway::with(&["outbound.permit=127.0.0.1", "outbound.first_byte_ms=3600000"]).await;
    gateway.deploy_with("t-outbound", &json!({"outbound": [host], "timeout_ms": 300_000})).await;
    let since = Instant::now();
    let answer = ask(&gateway, "t-outbound", &format!("to={host}&first=50000000")).await;
    assert_eq!(answer, "1 x ConnectionReadTimeout");
    assert!(since.elapsed() < DEADLINE / 2);
}

/// Responses that are invalid or exceed a limit, each with the error for the guest.
const HOSTILE: &[(&str, &str)] = &[
    ("declared", "HttpResponseBodySize"),
    ("endless", "200 HttpResponseBodySize"),
    ("fields", "HttpResponseHeaderSectionSize"),
    ("long-field", "HttpResponseHeaderSectionSize"),
    ("endless-head", "HttpResponseHeaderSectionSize"),
    ("garbage", "HttpProtocolError"),
    ("http2", "HttpProtocolError"),
    ("two-lengths", "HttpProtocolError"),
    ("bad-chunk", "200 HttpProtocolError"),
    ("cut-length", "200 HttpResponseIncomplete"),
    ("cut-chunk", "200 HttpResponseIncomplete"),
    ("nothing", "HttpResponseIncomplete"),
];

/// Responds as the path of the request says.
async fn hostile(mut served: UpstreamConnection) {
    let Some(head) = served.head().await else { return };
    let kind = head.split([' ', '/']).nth(2).unwrap().to_owned();
    let text = match kind.as_str() {
        "declared" => "HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\nabc".to_owned(),
        "fields" => format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(10_000)),
        "long-field" => format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(1 << 20)),
        "garbage" => "\u{1}\u{2}\u{3} this is no HTTP\r\n\r\n".to_owned(),
        "http2" => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "two-lengths" => {
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nabc".to_owned()
        }
        "bad-chunk" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n".to_owned(),
        "cut-length" => "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_owned(),
        "cut-chunk" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab".to_owned(),
        _ => String::new(),
    };
    served.write(text.as_bytes()).await;
    let piece = vec![b'x'; 64 << 10];
    match kind.as_str() {
        // A million fields, unless the client closes the connection first.
        "endless-head" => {
            served.write(b"HTTP/1.1 200 OK\r\n").await;
            for _ in 0..1_000 {
                served.write("abc: def\r\n".repeat(1_000).as_bytes()).await;
            }
        }
        "endless" => {
            served.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            for _ in 0..400 {
                served.write(b"10000\r\n").await;
                served.write(&piece).await;
                served.write(b"\r\n").await;
            }
        }
        _ => {}
    }
}

/// Case S09.
#[tokio::test]
async fn responses_have_limits_like_requests() {
    let gateway = TestGateway::with(&["outbound.permit=127.0.0.1"]).await;
    let upstream = Upstream::serving(hostile).await;
    let host = upstream.host();
    for guest in GUESTS {
        gateway.deploy_with(guest, &json!({"outbound": [host], "cpu_ms": 10_000})).await;
    }
    let all = async |count: u32| {
        for guest in GUESTS {
            for (kind, expected) in HOSTILE {
                let query = format!("to={host}&path=/{kind}&times={count}");
                let answer = ask(&gateway, guest, &query).await;
                let expected = format!("{count} x {}", error_of(guest, expected));
                assert_eq!(answer, expected, "{guest}: {kind}");
            }
        }
    };
    // Twice, so that memory that is allocated once is allocated.
    all(2).await;
    let before = gateway.resident_bytes();
    all(8).await;
    let after = gateway.resident_bytes();
    // Some 170 MiB have been received; threads keep a few buffers.
    assert!(after <= before + (8 << 20), "{before} bytes grew to {after}");
    gateway.metric_becomes("mayfly_outbound_connections", 0.0).await;
    assert!(limit_hits(&gateway, "outbound_response_bytes").await >= 40.0);
    assert!(limit_hits(&gateway, "outbound_response_head").await >= 60.0);
}

#[tokio::test]
async fn slow_names_of_one_function_delay_no_other() {
    let upstream = Upstream::echo().await;
    let names = NameServer::start_silent("slow.test", "127.0.0.1".parse().unwrap()).await;
    let gateway = TestGateway::with(&[
        &names.setting(),
        "outbound.permit=127.0.0.1",
        "outbound.connect_ms=60000",
        "outbound.lookups=4",
        "outbound.lookups_per_function=2",
    ])
    .await;
    let port = upstream.port();
    let named = json!({"outbound": [format!("slow.test:{port}"), format!("quick.test:{port}")]});
    gateway.deploy_with("t-outbound", &named).await;
    gateway.deploy_with("t-outbound-p3", &named).await;
    let slow = format!("/f/t-outbound/?to=slow.test:{port}");
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let request = gateway.call(Method::GET, &slow);
            tokio::spawn(async move { request.send().await })
        })
        .collect();
    eventually("the share is used up", async || {
        (limit_hits(&gateway, "outbound_lookups").await >= 6.0).then_some(())
    })
    .await;
    let answer = ask(&gateway, "t-outbound-p3", &format!("to=quick.test:{port}")).await;
    assert!(answer.starts_with("1 x 203 "), "{answer}");
    assert!(waiting.iter().all(|call| !call.is_finished()));
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}
