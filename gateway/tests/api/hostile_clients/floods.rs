//! Floods over HTTP/2 that cost the client little.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{self, Duration, Instant},
};

use crate::{
    client::DEADLINE,
    hostile_clients::frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM,
        RawHttp2, SETTINGS, field, frame, request,
    },
    test_gateway::TestGateway,
};

const ENHANCE_YOUR_CALM: u32 = 11;
/// The additional memory that one such connection may take after similar ones.
const MEMORY: u64 = 1 << 20;
/// The limit of rounds until then.
const ROUNDS: usize = 5;

/// Asserts that in some round the memory does not grow. Threads allocate memory when they do
/// something for the first time; a leak would show in every round.
async fn costs_no_memory(name: &str, gateway: &TestGateway, mut round: impl AsyncFnMut()) {
    let mut grown = Vec::new();
    while grown.last().is_none_or(|bytes| *bytes > MEMORY) {
        assert!(grown.len() < ROUNDS, "{name}: {grown:?} bytes of memory");
        let before = gateway.resident_bytes();
        round().await;
        grown.push(gateway.resident_bytes().saturating_sub(before));
    }
}

/// Sends `head` and then the frames of `flood` without an end. The connection must soon end with
/// ENHANCE_YOUR_CALM and without a cost for other clients.
async fn ends_with_calm(
    name: &str,
    head: Vec<u8>,
    flood: impl Fn(u32) -> Vec<u8> + Clone + Send + 'static,
) {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    gateway.deploy("echo").await;
    costs_no_memory(name, &gateway, async || flooded(&gateway, name, &head, flood.clone()).await)
        .await;
}

async fn flooded(
    gateway: &TestGateway,
    name: &str,
    head: &[u8],
    flood: impl Fn(u32) -> Vec<u8> + Send + 'static,
) {
    let mut raw = RawHttp2::open(gateway.data(), &[]).await;
    raw.send(head).await;
    let (mut reader, mut writer) = raw.socket.into_split();
    let began = Instant::now();
    let sender = tokio::spawn(async move {
        // The flood has a limit, in case it is never refused.
        for n in 0..500_000 {
            if writer.write_all(&flood(n)).await.is_err() {
                return true;
            }
        }
        false
    });
    let mut said = Vec::new();
    let _ = time::timeout(DEADLINE, reader.read_to_end(&mut said))
        .await
        .expect("the connection stays open");
    let took = began.elapsed();
    assert!(sender.await.unwrap(), "{name}: the gateway accepted the whole flood");
    let end = frames(&said).into_iter().find(|(kind, _)| *kind == GOAWAY);
    // The GOAWAY may be lost: a reset discards the bytes before it.
    if let Some((_, payload)) = end {
        assert_eq!(payload[4..8], ENHANCE_YOUR_CALM.to_be_bytes(), "{name}");
    }
    assert!(took < Duration::from_secs(30), "{name}: {took:?}");
    assert_eq!(gateway.get("/f/c-hello/").await.status(), 200);
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
}

/// The types and payloads of the complete frames in `bytes`.
fn frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut frames = Vec::new();
    while let [high, middle, low, kind, _, _, _, _, _, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        frames.push((*kind, payload));
        bytes = rest;
    }
    frames
}

/// Case H05.
#[tokio::test]
async fn rapid_resets_end_the_connection() {
    ends_with_calm("resets", Vec::new(), |n| {
        let stream = 2 * n + 1;
        let head = frame(HEADERS, END_STREAM | END_HEADERS, stream, &request("GET", "/f/c-hello/"));
        [head, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    })
    .await;
}

/// Case H06.
#[tokio::test]
async fn endless_headers_end_the_connection() {
    let head = || frame(HEADERS, END_STREAM, 1, &request("GET", "/f/c-hello/"));
    ends_with_calm("empty continuations", head(), |_| frame(CONTINUATION, 0, 1, &[])).await;
    let full = [field("x-a", &"b".repeat(100)).as_slice()].concat().repeat(100);
    ends_with_calm("full continuations", head(), move |_| frame(CONTINUATION, 0, 1, &full)).await;
}

/// Case H07.
#[tokio::test]
async fn a_flood_of_frames_without_content_ends_the_connection() {
    let post = frame(HEADERS, END_HEADERS, 1, &request("POST", "/f/echo/"));
    ends_with_calm("empty data", post, |_| frame(DATA, 0, 1, &[])).await;
    ends_with_calm("pings", Vec::new(), |_| frame(PING, 0, 0, &[7; 8])).await;
    ends_with_calm("settings", Vec::new(), |_| frame(SETTINGS, 0, 0, &[])).await;
    ends_with_calm("priorities", Vec::new(), |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9])).await;
    ends_with_calm("unknown frames", Vec::new(), |_| frame(0x77, 0, 0, &[])).await;
}

/// Case H07.
#[tokio::test]
async fn control_frames_are_limited_per_second() {
    let gateway = TestGateway::with(&["server.control_frames_per_s=10"]).await;
    let mut raw = RawHttp2::open(gateway.data(), &[]).await;
    for _ in 0..20 {
        raw.send(&frame(PING, 0, 0, &[7; 8])).await;
    }
    let end = raw.find(|frame| frame.kind == GOAWAY).await.unwrap();
    assert_eq!(end.code(), ENHANCE_YOUR_CALM);
    gateway.metric_becomes("mayfly_connections_ended_total", 1.0).await;
    let metrics = gateway.api("/metrics").await;
    let counted = r#"mayfly_connections_ended_total{plane="data",reason="control-frames"} 1"#;
    assert!(metrics.text().contains(counted));
}

/// Case H08.
#[tokio::test]
async fn small_headers_that_decompress_into_large_ones_cost_no_memory() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let mut rounds = 0.0;
    costs_no_memory("headers", &gateway, async || {
        decompressed(&gateway).await;
        rounds += 1.0;
    })
    .await;
    let served = gateway.metric("mayfly_requests_total").await;
    // The first request of each round is valid.
    assert!(served <= 2.0 * rounds, "more than the first of each round was served: {served}");
}

async fn decompressed(gateway: &TestGateway) {
    let mut raw = RawHttp2::open(gateway.data(), &[]).await;
    // 4,000 bytes go into the table once, and are then referenced a thousand times in each request.
    let long: Vec<u8> = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e], "a".repeat(4_000).as_bytes()].concat();
    let first = [request("GET", "/f/c-hello/"), long].concat();
    raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &first)).await;
    for n in 1..100 {
        let bomb = [request("GET", "/f/c-hello/"), vec![0xbe; 1_000]].concat();
        raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &bomb)).await;
    }
    // Each request is refused, or the connection is.
    let mut answers = 0;
    while let Some(frame) = raw.next().await {
        match frame.kind {
            GOAWAY => break,
            HEADERS | RST_STREAM => answers += 1,
            _ => {}
        }
        if answers == 100 {
            break;
        }
    }
    assert_eq!(gateway.get("/f/c-hello/").await.status(), 200);
}
