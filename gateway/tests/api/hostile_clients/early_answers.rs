//! Answers that come before the client has sent the whole body.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr},
};

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    hostile_clients::{
        frames::{
            ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, RawHttp2,
            WINDOW_UPDATE, frame, request,
        },
        until_closed,
    },
    test_gateway::TestGateway,
};

const PIECE: usize = 16 << 10;

/// Sends requests with bodies of `bytes` on one connection, each whole before it reads the answer.
fn answers(address: SocketAddr, count: usize, bytes: usize) -> std::io::Result<()> {
    let mut socket = std::net::TcpStream::connect(address)?;
    let head = format!("POST /f/hello/ HTTP/1.1\r\nhost: a\r\ncontent-length: {bytes}\r\n\r\n");
    let body = vec![7; bytes];
    for _ in 0..count {
        socket.write_all(head.as_bytes())?;
        socket.write_all(&body)?;
        let mut said = Vec::new();
        while !said.ends_with(b"hello from rust\n") {
            let mut piece = [0; 1_000];
            let read = socket.read(&mut piece)?;
            assert!(read > 0, "closed after {said:?}");
            said.extend_from_slice(&piece[..read]);
        }
        assert!(said.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
    socket.shutdown(Shutdown::Both)
}

/// Case H14.
#[tokio::test]
async fn a_client_that_sends_its_whole_body_before_it_reads_gets_the_early_answer() {
    let gateway = TestGateway::start().await;
    gateway.deploy("hello").await;
    let address = gateway.data();
    for bytes in [300_000, 8 << 20] {
        let all = tokio::task::spawn_blocking(move || answers(address, 10, bytes));
        all.await.unwrap().unwrap_or_else(|error| panic!("{bytes}: {error}"));
    }
}

/// Case H14.
#[tokio::test]
async fn an_early_answer_over_http2_leaves_the_stream_open_for_the_rest_of_the_body() {
    const BYTES: usize = 20 * PIECE;
    let gateway = TestGateway::start().await;
    gateway.deploy("hello").await;
    let mut raw = RawHttp2::open(gateway.data(), &[]).await;
    raw.send(&frame(HEADERS, END_HEADERS, 1, &request("POST", "/f/hello/"))).await;
    let (mut sent, mut window, mut answered) = (0, 65_535, false);
    while sent < BYTES {
        while window >= PIECE && sent < BYTES {
            let last = if sent + PIECE == BYTES { END_STREAM } else { 0 };
            raw.send(&frame(DATA, last, 1, &[7; PIECE])).await;
            (sent, window) = (sent + PIECE, window - PIECE);
        }
        if sent < BYTES {
            let said = raw.next().await.expect("the connection stays open");
            assert!(![RST_STREAM, GOAWAY].contains(&said.kind), "after {sent} bytes: {said:?}");
            answered |= said.kind == HEADERS;
            if said.kind == WINDOW_UPDATE && said.stream == 1 {
                window += u32::from_be_bytes(said.payload.try_into().unwrap()) as usize;
            }
        }
    }
    raw.send(&frame(PING, 0, 0, &[7; 8])).await;
    loop {
        let said = raw.next().await.expect("the connection stays open");
        assert!(![RST_STREAM, GOAWAY].contains(&said.kind), "{said:?}");
        answered |= said.kind == HEADERS;
        if said.kind == PING && said.flags == ACK {
            break;
        }
    }
    assert!(answered);
}

/// Case H14.
#[tokio::test]
async fn the_rest_of_a_body_is_read_for_a_limited_time_after_the_answer() {
    let gateway = TestGateway::with(&["server.linger_ms=300"]).await;
    gateway.deploy("hello").await;
    let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
    let head = "POST /f/hello/ HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nabc";
    socket.write_all(head.as_bytes()).await.unwrap();
    assert!(until_closed(&mut socket).await.ends_with("hello from rust\n"));
    // HTTP/2: the stream alone.
    let mut raw = RawHttp2::open(gateway.data(), &[]).await;
    let head = frame(HEADERS, END_HEADERS, 1, &request("POST", "/f/hello/"));
    raw.send(&[head, frame(DATA, 0, 1, b"abc")].concat()).await;
    let end = raw.find(|frame| frame.kind == RST_STREAM).await.unwrap();
    assert_eq!((end.stream, end.code()), (1, 0), "NO_ERROR");
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &request("GET", "/f/hello/"))).await;
    assert!(raw.find(|frame| frame.kind == HEADERS && frame.stream == 3).await.is_some());
}
