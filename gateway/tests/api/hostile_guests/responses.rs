//! Guests with invalid, endless or oversized responses.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::Method;
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{GuestWatch, raw::RawResponse, times};
use crate::{
    client::{Http2, eventually},
    hostile_clients::frames::{self, frame},
    test_gateway::TestGateway,
};

const MIB: u64 = 1 << 20;

/// Case G07.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_response_is_aborted() {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy_with("t-big", &json!({"cpu_ms": 30_000})).await;
    let target = format!("/f/t-big/?bytes={}", 10_u64 << 30);
    let both = async || {
        let raw = RawResponse::get(&gateway, &target).await;
        assert_eq!(raw.status(), 200);
        assert!(!raw.is_complete());
        let received = raw.body.len() as u64;
        assert!((99 * MIB..101 * MIB).contains(&received), "{received}");

        let connection = Http2::open(gateway.data()).await;
        let url = format!("http://{}{target}", gateway.data());
        let mut body = connection.open_stream(&url).await.into_body();
        let mut received = 0;
        let error = loop {
            match body.frame().await.expect("the stream ended without an error") {
                Ok(frame) => received += frame.data_ref().map_or(0, bytes::Bytes::len) as u64,
                Err(error) => break error,
            }
        };
        assert!(format!("{error:?}").contains("INTERNAL_ERROR"), "{error:?}");
        assert!((99 * MIB..=100 * MIB).contains(&received), "{received}");
    };
    // Memory that is allocated once is allocated here.
    both().await;
    let watch = GuestWatch::begin(&gateway).await;
    both().await;
    let grown = watch.grown_bytes();
    assert!(grown < 8 * MIB, "{grown} bytes for 200 MiB of response");
    // The heads were sent, so the outcome is `ok`; aborted responses are counted separately.
    watch.end(&[("ok", 2)]).await;
    assert_eq!(gateway.metric("mayfly_responses_aborted_total").await, 4.0);
}

/// Asserts that the response ends with an error for an HTTP/2 client that does not read and whose
/// window is smaller than the first part.
async fn is_aborted_unread(gateway: &TestGateway, target: &str) {
    let connection = Http2::open(gateway.data()).await;
    let url = format!("http://{}{target}", gateway.data());
    let response = connection.open_stream(&url).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let error = response.into_body().collect().await.unwrap_err();
    assert!(format!("{error:?}").contains("INTERNAL_ERROR"), "{error:?}");
}

/// Case G10.
#[tokio::test]
async fn endless_empty_writes_end_a_guest() {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy_with("t-hostile", &json!({"cpu_ms": 30_000})).await;
    let both = async || {
        assert!(gateway.call(Method::GET, "/f/t-hostile/empty").try_send().await.is_err());

        is_aborted_unread(&gateway, "/f/t-hostile/empty?n=5000000").await;
    };
    both().await;
    let watch = GuestWatch::begin(&gateway).await;
    both().await;
    let grown = watch.grown_bytes();
    assert!(grown < 8 * MIB, "{grown}");
    watch.end(&[("ok", 2)]).await;
    let metrics = gateway.api("/metrics").await;
    assert!(metrics.text().contains(r#"mayfly_limit_hits_total{limit="empty_writes"} 4"#));
}

/// Case G10.
#[tokio::test]
async fn empty_writes_of_wasi_0_3_count_as_computing() {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy_with("t-hostile-p3", &json!({"cpu_ms": 100, "timeout_ms": 5_000})).await;
    let both = async || {
        let answer = gateway.call(Method::GET, "/f/t-hostile-p3/nothing").try_send().await;
        assert!(!answer.is_ok_and(|answer| answer.status() == 200));

        is_aborted_unread(&gateway, "/f/t-hostile-p3/nothing?first=5000000").await;
    };
    both().await;
    let watch = GuestWatch::begin(&gateway).await;
    both().await;
    assert!(watch.grown_bytes() < 8 * MIB, "{}", watch.grown_bytes());
    watch.settles().await;
}

/// An HTTP/2 client that grants the largest window, opens as many streams as it may, and reads
/// nothing.
async fn ask_and_never_read(gateway: &TestGateway, path: &str, streams: u32) -> TcpStream {
    const MOST: u32 = (1 << 31) - 1;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE is number 4.
    let window = [&[0, 4][..], &MOST.to_be_bytes()].concat();
    bytes.extend(frame(4, 0, 0, &window));
    bytes.extend(frame(8, 0, 0, &(MOST - 65_535).to_be_bytes()));
    // `:method: GET` and `:scheme: http` are in the static table; `:path` and `:authority` follow
    // as literals.
    let mut head = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    head.extend(path.as_bytes());
    head.extend([0x01, 1, b'a']);
    for n in 0..streams {
        bytes.extend(frame(1, 0x5, 2 * n + 1, &head));
    }
    let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
    socket.write_all(&bytes).await.unwrap();
    socket
}

/// Case G11.
#[tokio::test]
async fn single_bytes_to_a_client_that_never_reads_take_little_memory() {
    let gateway = Arc::new(TestGateway::with(&["limits.timeout_ms=300000"]).await);
    gateway.deploy_with("t-hostile", &json!({"cpu_ms": 200, "concurrency": 100})).await;
    let watch = GuestWatch::begin(&gateway).await;
    let socket = ask_and_never_read(&gateway, "/f/t-hostile/bytes", 100).await;
    // On busy processors the guests run one after the other.
    let begun = async || {
        let labels = [("function", "t-hostile"), ("outcome", "ok")];
        (gateway.metric_with("mayfly_requests_total", &labels).await == 100.0).then_some(())
    };
    eventually("all guests have begun", begun).await;
    // Each guest has used up its CPU time or waits for the reader.
    let settled = async || {
        let used = gateway.metric("mayfly_cpu_seconds_total").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        (gateway.metric("mayfly_cpu_seconds_total").await - used < 0.05).then_some(())
    };
    eventually("all guests have been stopped or wait", settled).await;
    let grown = watch.grown_bytes();
    // Each instance has slightly more than a MiB of its own, and touches a part of it.
    assert!(grown < 32 * MIB, "{grown} bytes for one connection");
    drop(socket);
    watch.end(&[("ok", 100)]).await;
}

/// Case G11.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_bytes_are_sent_together() {
    let gateway = Arc::new(TestGateway::start().await);
    let kinds = [("t-hostile", "bytes?n=300000"), ("t-hostile-p3", "bytes?n=300000")];
    for (name, _) in kinds {
        gateway.deploy_with(name, &json!({"cpu_ms": 30_000})).await;
    }
    for (name, target) in kinds {
        let connection = Http2::open(gateway.data()).await;
        let url = format!("http://{}/f/{name}/{target}", gateway.data());
        let since = Instant::now();
        let mut body = connection.open_stream(&url).await.into_body();
        let (mut bytes, mut frames) = (0, 0);
        while let Some(frame) = body.frame().await {
            bytes += frame.unwrap().data_ref().map_or(0, bytes::Bytes::len);
            frames += 1;
        }
        assert_eq!(bytes, 300_000, "{name}");
        // Buffered bytes are also sent at each tick of 5 ms, because the guest computes all the
        // time.
        let ticks = since.elapsed().as_millis() / 5;
        assert!(frames <= 300_000 / 8_192 + ticks + 10, "{name}: {frames} frames, {ticks} ticks");
    }
}

/// Case G12.
#[tokio::test]
async fn an_unread_request_body_is_not_buffered() {
    // The rest is read and discarded up to a limit.
    let settings = ["limits.request_bytes=1GiB", "server.linger_bytes=4MiB"];
    let gateway = Arc::new(TestGateway::with(&settings).await);
    gateway.deploy("hello").await;
    gateway.get("/f/hello/").await;
    let watch = GuestWatch::begin(&gateway).await;
    let head = format!("POST /f/hello/ HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", 1 << 30);
    let (mut reader, mut writer) = TcpStream::connect(gateway.data()).await.unwrap().into_split();
    let answer = tokio::spawn(async move {
        let mut answer = Vec::new();
        drop(reader.read_to_end(&mut answer).await);
        String::from_utf8(answer).unwrap()
    });
    writer.write_all(head.as_bytes()).await.unwrap();
    let mut sent = 0_u64;
    let piece = vec![7; 64 << 10];
    while let Ok(Ok(())) = timeout(Duration::from_secs(30), writer.write_all(&piece)).await {
        sent += piece.len() as u64;
    }
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.ends_with("hello from rust\n") || answer.contains("hello from rust"),
        "{answer}"
    );
    // The kernels on both ends buffer a part of the body.
    assert!(sent < 32 * MIB, "{sent} bytes were sent");
    assert!(watch.grown_bytes() <= MIB, "{}", watch.grown_bytes());
    watch.end(&[("ok", 1)]).await;
}

/// Case G12.
#[tokio::test]
async fn an_unread_http2_request_body_is_not_buffered() {
    const BODIES: u32 = 40;
    let settings = ["limits.request_bytes=1GiB", "server.linger_bytes=0"];
    let gateway = Arc::new(TestGateway::with(&settings).await);
    gateway.deploy("hello").await;
    gateway.get("/f/hello/").await;
    let watch = GuestWatch::begin(&gateway).await;
    let mut connection = frames::RawHttp2::open(gateway.data(), &[]).await;
    let length = (1_u64 << 30).to_string();
    let head = [frames::request("POST", "/f/hello/"), frames::field("content-length", &length)];
    let head = head.concat();
    let piece = vec![7; 16 << 10];
    // All on one connection: discarded bytes must not use up its window.
    for stream in (0..BODIES).map(|n| 2 * n + 1) {
        connection.send(&frame(frames::HEADERS, frames::END_HEADERS, stream, &head)).await;
        // As many bytes as the stream's window allows, whether the gateway still wants them or not.
        for _ in 0..(64 << 10) / piece.len() - 1 {
            connection.send(&frame(frames::DATA, 0, stream, &piece)).await;
        }
        let (mut ended, mut wanted) = (false, 0);
        loop {
            let said = connection.next().await.expect("the connection must stay open");
            assert!(said.kind != frames::GOAWAY, "{said:?}");
            if said.stream != stream {
                continue;
            }
            match said.kind {
                frames::RST_STREAM => {
                    assert_eq!(said.code(), 0, "NO_ERROR");
                    break;
                }
                // The first frame is read before the function is called.
                frames::WINDOW_UPDATE => {
                    wanted += u32::from_be_bytes(said.payload.try_into().unwrap()) as usize;
                    assert!(wanted <= piece.len(), "the gateway wants more of {stream}: {wanted}");
                }
                _ => ended |= said.flags & frames::END_STREAM != 0,
            }
        }
        assert!(ended, "the complete response must come first");
    }
    drop(connection);
    assert!(watch.grown_bytes() <= 2 * MIB, "{}", watch.grown_bytes());
    watch.end(&[("ok", BODIES as usize)]).await;
}

/// Case G23.
#[tokio::test]
async fn a_trap_during_the_response_is_an_error_to_every_client() {
    let gateway = Arc::new(TestGateway::start().await);
    let targets = [
        "/f/t-hostile/trap?bytes=200000",
        "/f/t-hostile-p3/trap?n=200000",
        "/f/t-hostile-cgi/trap",
    ];
    for name in ["t-hostile", "t-hostile-p3", "t-hostile-cgi"] {
        gateway.deploy(name).await;
    }
    let watch = GuestWatch::begin(&gateway).await;
    let connection = Http2::open(gateway.data()).await;
    let calls = times(10, 1_000);
    for target in targets {
        for _ in 0..calls {
            let raw = RawResponse::get(&gateway, target).await;
            assert_eq!(raw.status(), 200, "{target}");
            assert!(!raw.is_complete(), "{target}");
            let url = format!("http://{}{target}", gateway.data());
            let broken = connection.open_stream(&url).await.into_body().collect().await;
            let error = broken.unwrap_err();
            assert!(format!("{error:?}").contains("INTERNAL_ERROR"), "{target}: {error:?}");
        }
    }
    drop(connection);
    watch.end(&[("ok", 2 * 3 * calls)]).await;
    let aborted = gateway.metric("mayfly_responses_aborted_total").await;
    assert_eq!(aborted, (2 * 3 * calls) as f64);
}
