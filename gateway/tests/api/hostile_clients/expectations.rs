//! Clients that send the body of a request only when they are asked to: `Expect: 100-continue`.

use std::{collections::BTreeSet, future::poll_fn, net::SocketAddr};

use bytes::Bytes;
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{Request, Response};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time,
};

use crate::{
    client::DEADLINE,
    hostile_clients::{
        frames::{
            DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, RawHttp2, SETTINGS, WINDOW_UPDATE,
            fields, frame, request,
        },
        said, until_closed,
    },
    test_gateway::TestGateway,
};

/// Functions of each kind that read before they answer, and how they answer when they have read
/// `abc`. The last one fails, because that is no picture.
const READERS: [(&str, &str, u16, &str); 3] = [
    ("t-read", "", 200, "whole 3\n"),
    ("t-hostile-p3", "read", 200, "3"),
    ("t-image", "", 502, "{"),
];

/// Case H15.
#[tokio::test]
async fn over_http1_100_is_sent_when_the_guest_reads() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    gateway.deploy("t-read").await;
    let expects = |name| {
        format!(
            "POST /f/{name}/ HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n\
             content-length: 3\r\nconnection: close\r\n\r\n"
        )
    };
    // The guest responds without reading the body, so no 100 is sent.
    let said = said(gateway.data(), expects("c-hello").as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");

    let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
    socket.write_all(expects("t-read").as_bytes()).await.unwrap();
    let mut first = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    socket.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"abc").await.unwrap();
    let said = until_closed(&mut socket).await;
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.contains("whole 3\n"), "{said}");
}

async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    // Ends with the sender and its streams.
    tokio::spawn(connection);
    sender
}

/// Sends the head of a request that expects a 100.
fn expects(sender: &mut SendRequest<Bytes>, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
    let request = Request::post(format!("http://a/f/{path}"))
        .header("expect", "100-Continue")
        .header("content-length", "3");
    sender.send_request(request.body(()).unwrap(), false).unwrap()
}

async fn interim(response: &mut ResponseFuture) -> Option<Response<()>> {
    let interim = poll_fn(|cx| response.poll_informational(cx));
    time::timeout(DEADLINE, interim).await.expect("nothing comes").transpose().unwrap()
}

async fn whole(response: ResponseFuture) -> (u16, String) {
    let (head, mut body) = response.await.unwrap().into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        bytes.extend_from_slice(&data.unwrap());
    }
    (head.status.as_u16(), String::from_utf8(bytes).unwrap())
}

/// Case H15.
#[tokio::test]
async fn over_http2_100_is_sent_when_the_guest_reads() {
    let gateway = TestGateway::start().await;
    gateway.deploy("hello").await;
    let mut sender = connect(gateway.data()).await;
    for (name, path, status, begin) in READERS {
        gateway.deploy(name).await;
        let (mut response, mut body) = expects(&mut sender, &format!("{name}/{path}"));
        let interim = interim(&mut response).await.expect("an interim response");
        assert_eq!((interim.status().as_u16(), interim.headers().len()), (100, 0), "{name}");
        body.send_data(Bytes::from_static(b"abc"), true).unwrap();
        let (answered, text) = whole(response).await;
        assert!(answered == status && text.starts_with(begin), "{name}: {answered} {text}");
    }
    // These answer without reading.
    for (name, status) in [("hello", 200), ("none", 404)] {
        let (mut response, _body) = expects(&mut sender, &format!("{name}/"));
        assert!(interim(&mut response).await.is_none(), "{name}");
        assert_eq!(response.await.unwrap().status(), status, "{name}");
    }
}

/// The head of a request that expects a 100.
fn head(name: &str) -> Vec<u8> {
    let more = fields(&[("expect", "100-continue"), ("content-length", "3")]);
    [request("POST", &format!("/f/{name}/")), more].concat()
}

/// Case H15.
#[tokio::test]
async fn over_http2_100_comes_once_on_each_stream_and_before_its_response() {
    const STREAMS: u32 = 40;
    let gateway = TestGateway::start().await;
    gateway.deploy("t-read").await;
    let mut raw = RawHttp2::open(gateway.data(), &[]).await;
    let streams = (1_u32..).step_by(2).take(STREAMS as usize);
    for stream in streams.clone() {
        raw.send(&frame(HEADERS, END_HEADERS, stream, &head("t-read"))).await;
    }
    let mut asked = BTreeSet::new();
    while asked.len() < STREAMS as usize {
        let interim = raw.find(|frame| ![SETTINGS, WINDOW_UPDATE].contains(&frame.kind)).await;
        let interim = interim.expect("the connection stays open");
        // One field, and the stream goes on.
        assert_eq!((interim.kind, interim.flags), (HEADERS, END_HEADERS), "{interim:?}");
        assert!(interim.payload.len() < 8 && asked.insert(interim.stream), "{interim:?}");
    }
    assert!(asked.iter().copied().eq(streams.clone()));
    for stream in streams {
        raw.send(&frame(DATA, END_STREAM, stream, b"abc")).await;
        let response = raw.find(|frame| frame.kind == HEADERS).await.unwrap();
        assert!(response.stream == stream && response.payload.len() > 8, "{response:?}");
        let body = raw.find(|frame| frame.kind == DATA).await.unwrap();
        assert_eq!((body.stream, body.payload.as_slice()), (stream, b"whole 3\n".as_slice()));
    }
}

/// Case H15.
#[tokio::test]
async fn over_http2_nothing_is_sent_to_clients_that_do_not_wait_for_100() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-read").await;
    let mut raw = RawHttp2::open(gateway.data(), &[]).await;
    // The body comes with the head.
    let whole = [frame(HEADERS, END_HEADERS, 1, &head("t-read")), frame(DATA, 1, 1, b"abc")];
    raw.send(&whole.concat()).await;
    let response = raw.find(|frame| frame.kind == HEADERS).await.unwrap();
    assert!(response.payload.len() > 8, "{response:?}");
    // There is no body.
    let head = [request("POST", "/f/t-read/"), fields(&[("expect", "100-continue")])].concat();
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &head)).await;
    let response = raw.find(|frame| frame.kind == HEADERS).await.unwrap();
    assert!(response.stream == 3 && response.payload.len() > 8, "{response:?}");
    // The client leaves at once, and while the guest waits.
    for stream in (5..200).step_by(2) {
        let reset = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        let head = frame(HEADERS, END_HEADERS, stream, &self::head("t-read"));
        if stream % 4 == 1 {
            raw.send(&[head, reset].concat()).await;
        } else {
            raw.send(&head).await;
            let interim = raw.find(|frame| frame.kind == HEADERS && frame.stream == stream).await;
            assert!(interim.unwrap().payload.len() < 8);
            raw.send(&reset).await;
        }
    }
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 201, &request("GET", "/f/t-read/"))).await;
    let response = raw.find(|frame| frame.kind == HEADERS && frame.stream == 201).await;
    assert!(response.unwrap().payload.len() > 8);
}
