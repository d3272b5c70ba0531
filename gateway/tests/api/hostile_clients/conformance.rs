//! RFC 9113 and RFC 7541, frame by frame: what a client must not send, and what it may send.
//!
//! Where the RFCs name a specific code, the protocol library often sends PROTOCOL_ERROR. The
//! connection ends just the same, so both are accepted here.

use crate::{
    hostile_clients::frames::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PADDED, PING,
        PREFACE, PRIORITY, PUSH_PROMISE, RST_STREAM, RawHttp2, SETTINGS, WINDOW_UPDATE,
        WITH_PRIORITY, field, fields, frame, request,
    },
    test_gateway::TestGateway,
};

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;

/// The expected reaction of the gateway.
enum Expected {
    /// The connection ends with one of these codes.
    GoAway(&'static [u32]),
    /// The stream or the connection ends with one of these codes.
    Reset(&'static [u32]),
    /// The response has this status, and the connection stays open.
    Status(u16),
    /// No reaction, and the connection stays open.
    Nothing,
    /// The stream is reset, or the response has this status: both are correct.
    ResetOrStatus(u16),
    /// The connection ends or stays open, depending on how far the gateway has read.
    GoAwayOrServed,
    /// The connection stays open; the stream may be reset.
    ResetOrNothing,
}
use Expected::{GoAway, Nothing, Reset, Status};

/// The frames of a request to a function that ignores its body.
fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &request("GET", "/f/c-hello/"))
}

/// The same with additional header fields.
fn with(more: &[(&str, &str)]) -> Vec<u8> {
    let block = [request("GET", "/f/c-hello/"), fields(more)].concat();
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)
}

/// A request with exactly these fields.
fn only(block: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(block))
}

/// A request whose body has not ended.
fn open_post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &request("POST", "/f/echo/"))
}

fn block(block: &[u8]) -> Vec<u8> {
    frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        1,
        &[request("GET", "/f/c-hello/"), block.to_vec()].concat(),
    )
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[id.to_be_bytes().as_slice(), &value.to_be_bytes()].concat())
}

fn window(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

fn cat(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.concat()
}

type FrameCase = (&'static str, Vec<u8>, Expected);

fn frames_of_the_connection() -> Vec<FrameCase> {
    vec![
        ("unknown settings", setting(0xffff, 7), Nothing),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[]), GoAway(&[PROTOCOL])),
        ("settings of five bytes", frame(SETTINGS, 0, 0, &[0; 5]), GoAway(&[FRAME_SIZE, PROTOCOL])),
        (
            "an acknowledgement with settings",
            frame(SETTINGS, ACK, 0, &[0; 6]),
            GoAway(&[FRAME_SIZE, PROTOCOL]),
        ),
        ("push that is neither on nor off", setting(2, 2), GoAway(&[PROTOCOL])),
        ("a window beyond 31 bits", setting(4, 1 << 31), GoAway(&[FLOW_CONTROL, PROTOCOL])),
        ("frames that are too small", setting(5, 16_383), GoAway(&[PROTOCOL])),
        ("frames that are too large", setting(5, 1 << 24), GoAway(&[PROTOCOL])),
        (
            "no push, a small window, large frames",
            cat(&[setting(2, 0), setting(4, 1), setting(5, 1 << 20)]),
            Nothing,
        ),
        ("a ping of seven bytes", frame(PING, 0, 0, &[0; 7]), GoAway(&[FRAME_SIZE, PROTOCOL])),
        ("a ping of nine bytes", frame(PING, 0, 0, &[0; 9]), GoAway(&[FRAME_SIZE, PROTOCOL])),
        ("a ping on a stream", frame(PING, 0, 1, &[0; 8]), GoAway(&[PROTOCOL])),
        ("an acknowledgement without a ping", frame(PING, ACK, 0, &[7; 8]), Nothing),
        ("a ping with flags that mean nothing", frame(PING, 0xfe, 0, &[7; 8]), Nothing),
        ("a GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), GoAway(&[PROTOCOL])),
        (
            "a GOAWAY that is too short",
            frame(GOAWAY, 0, 0, &[0; 7]),
            GoAway(&[PROTOCOL, FRAME_SIZE]),
        ),
        ("a window update of zero", window(0, 0), GoAway(&[PROTOCOL])),
        (
            "a window that grows too far",
            cat(&[window(0, 0x7fff_ffff), window(0, 0x7fff_ffff)]),
            GoAway(&[FLOW_CONTROL, PROTOCOL]),
        ),
        (
            "a window of three bytes",
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1]),
            GoAway(&[FRAME_SIZE, PROTOCOL]),
        ),
        ("a window of an idle stream", window(1, 1), GoAway(&[PROTOCOL])),
        ("the reserved bit of a window", window(0, 1 << 31 | 1), Nothing),
        ("an unknown frame", frame(0x77, 0xff, 0, &[1; 100]), Nothing),
        ("an unknown frame on a stream", cat(&[open_post(1), frame(0x77, 0, 1, &[1])]), Nothing),
        (
            "a frame that is too long",
            frame(DATA, 0, 1, &[0; 16_385]),
            GoAway(&[FRAME_SIZE, PROTOCOL]),
        ),
        (
            "a ping that is much too long",
            frame(PING, 0, 0, &[0; 20_000]),
            GoAway(&[FRAME_SIZE, PROTOCOL]),
        ),
        (
            "a promise",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82]),
            GoAway(&[PROTOCOL]),
        ),
        (
            "a promise in the middle of a request",
            cat(&[open_post(1), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])]),
            GoAway(&[PROTOCOL]),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn frames_of_streams() -> Vec<FrameCase> {
    vec![
        ("a request", get(1), Status(200)),
        ("the reserved bit of a stream", get(1 << 31 | 1), Status(200)),
        (
            "a request with a priority",
            frame(
                HEADERS,
                END_STREAM | END_HEADERS | WITH_PRIORITY,
                1,
                &[vec![0, 0, 0, 0, 9], request("GET", "/f/c-hello/")].concat(),
            ),
            Status(200),
        ),
        (
            "a padded request",
            frame(
                HEADERS,
                END_STREAM | END_HEADERS | PADDED,
                1,
                &[vec![3], request("GET", "/f/c-hello/"), vec![0; 3]].concat(),
            ),
            Status(200),
        ),
        (
            "a request in three frames",
            {
                let head = request("GET", "/f/c-hello/");
                cat(&[
                    frame(HEADERS, END_STREAM, 1, &head[..5]),
                    frame(CONTINUATION, 0, 1, &head[5..9]),
                    frame(CONTINUATION, END_HEADERS, 1, &head[9..]),
                ])
            },
            Status(200),
        ),
        (
            "a body in padded frames",
            cat(&[
                open_post(1),
                frame(DATA, PADDED, 1, &[2, b'a', 0, 0]),
                frame(DATA, 0, 1, &[]),
                frame(DATA, END_STREAM, 1, b"b"),
            ]),
            Status(200),
        ),
        (
            "a body with a trailer",
            cat(&[
                open_post(1),
                frame(DATA, 0, 1, b"b"),
                frame(HEADERS, END_STREAM | END_HEADERS, 1, &field("x-a", "b")),
            ]),
            Status(200),
        ),
        ("data of no stream", frame(DATA, 0, 0, b"a"), GoAway(&[PROTOCOL])),
        ("data of an idle stream", frame(DATA, 0, 1, b"a"), GoAway(&[PROTOCOL])),
        (
            "data after the end",
            cat(&[get(1), frame(DATA, 0, 1, b"a")]),
            Reset(&[STREAM_CLOSED, PROTOCOL]),
        ),
        (
            "data with more padding than there is",
            cat(&[open_post(1), frame(DATA, PADDED, 1, &[4, 1, 1, 1])]),
            GoAway(&[PROTOCOL]),
        ),
        (
            "padded data of no length",
            cat(&[open_post(1), frame(DATA, PADDED, 1, &[])]),
            GoAway(&[PROTOCOL, FRAME_SIZE]),
        ),
        (
            "data beyond the window",
            cat(&[
                open_post(1),
                frame(DATA, 0, 1, &[0; 16_384]),
                frame(DATA, 0, 1, &[0; 16_384]),
                frame(DATA, 0, 1, &[0; 16_384]),
                frame(DATA, 0, 1, &[0; 16_384]),
                frame(DATA, 0, 1, &[0; 16_384]),
            ]),
            Expected::GoAwayOrServed,
        ),
        (
            "headers of no stream",
            frame(HEADERS, END_STREAM | END_HEADERS, 0, &request("GET", "/")),
            GoAway(&[PROTOCOL]),
        ),
        ("headers of a server stream", get(2), GoAway(&[PROTOCOL])),
        (
            "headers of an earlier stream",
            cat(&[get(5), get(3)]),
            GoAway(&[PROTOCOL, STREAM_CLOSED]),
        ),
        (
            "headers of the same stream after its end",
            cat(&[get(1), get(1)]),
            Reset(&[PROTOCOL, STREAM_CLOSED]),
        ),
        (
            "headers with more padding than there is",
            frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &[200, 0x82]),
            GoAway(&[PROTOCOL]),
        ),
        (
            "a priority on itself in headers",
            frame(
                HEADERS,
                END_STREAM | END_HEADERS | WITH_PRIORITY,
                1,
                &[vec![0, 0, 0, 1, 9], request("GET", "/f/c-hello/")].concat(),
            ),
            Reset(&[PROTOCOL]),
        ),
        (
            "something else before the end of headers",
            cat(&[frame(HEADERS, END_STREAM, 1, &request("GET", "/")), frame(PING, 0, 0, &[0; 8])]),
            GoAway(&[PROTOCOL]),
        ),
        (
            "data before the end of headers",
            cat(&[frame(HEADERS, 0, 1, &request("GET", "/")), frame(DATA, 0, 1, b"a")]),
            GoAway(&[PROTOCOL]),
        ),
        (
            "an unknown frame before the end of headers",
            cat(&[frame(HEADERS, END_STREAM, 1, &request("GET", "/")), frame(0x77, 0, 1, &[])]),
            GoAway(&[PROTOCOL]),
        ),
        (
            "other headers before the end of headers",
            cat(&[frame(HEADERS, END_STREAM, 1, &request("GET", "/")), get(3)]),
            GoAway(&[PROTOCOL]),
        ),
        (
            "a continuation of another stream",
            cat(&[
                frame(HEADERS, END_STREAM, 1, &request("GET", "/")),
                frame(CONTINUATION, END_HEADERS, 3, &[]),
            ]),
            GoAway(&[PROTOCOL]),
        ),
        (
            "a continuation of nothing",
            frame(CONTINUATION, END_HEADERS, 1, &[0x82]),
            GoAway(&[PROTOCOL]),
        ),
        (
            "a continuation after the end of headers",
            cat(&[open_post(1), frame(CONTINUATION, END_HEADERS, 1, &field("a", "b"))]),
            GoAway(&[PROTOCOL]),
        ),
        (
            "a continuation of no stream",
            frame(CONTINUATION, END_HEADERS, 0, &[]),
            GoAway(&[PROTOCOL]),
        ),
        (
            "a second head before the end",
            cat(&[open_post(1), frame(HEADERS, END_HEADERS, 1, &field("a", "b"))]),
            Reset(&[PROTOCOL]),
        ),
        ("a priority", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]), Nothing),
        ("a priority of no stream", frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 9]), GoAway(&[PROTOCOL])),
        (
            "a priority of four bytes",
            frame(PRIORITY, 0, 1, &[0; 4]),
            Reset(&[FRAME_SIZE, PROTOCOL]),
        ),
        ("a reset of no stream", frame(RST_STREAM, 0, 0, &[0; 4]), GoAway(&[PROTOCOL])),
        ("a reset of an idle stream", frame(RST_STREAM, 0, 1, &[0; 4]), GoAway(&[PROTOCOL])),
        (
            "a reset of three bytes",
            cat(&[open_post(1), frame(RST_STREAM, 0, 1, &[0; 3])]),
            GoAway(&[FRAME_SIZE, PROTOCOL]),
        ),
        (
            "a reset, then a window of the same stream",
            cat(&[open_post(1), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), window(1, 5)]),
            Nothing,
        ),
        (
            "data after a reset",
            cat(&[open_post(1), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), frame(DATA, 0, 1, b"a")]),
            Expected::ResetOrNothing,
        ),
        (
            "a stream's window update of zero",
            cat(&[open_post(1), window(1, 0)]),
            Reset(&[PROTOCOL]),
        ),
        (
            "a stream's window that grows too far",
            cat(&[open_post(1), window(1, 0x7fff_ffff)]),
            Reset(&[FLOW_CONTROL, PROTOCOL]),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn requests() -> Vec<FrameCase> {
    let base =
        [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/f/c-hello/")];
    let without = |name: &str| {
        let left: Vec<_> = base.into_iter().filter(|(field, _)| *field != name).collect();
        only(&left)
    };
    let replaced = |name: &str, value: &'static str| {
        let new: Vec<_> = base
            .into_iter()
            .map(|(field, old)| (field, if field == name { value } else { old }))
            .collect();
        only(&new)
    };
    let trailers = |block: &[u8]| {
        cat(&[
            open_post(1),
            frame(DATA, 0, 1, b"b"),
            frame(HEADERS, END_STREAM | END_HEADERS, 1, block),
        ])
    };
    let length = |length: &'static str, data: &[u8]| {
        let head = [request("POST", "/f/echo/"), field("content-length", length)].concat();
        cat(&[frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, END_STREAM, 1, data)])
    };
    vec![
        ("a name with a capital", with(&[("X-a", "b")]), Reset(&[PROTOCOL])),
        ("a name with a space", with(&[("x a", "b")]), Reset(&[PROTOCOL])),
        ("a name with a colon in it", with(&[("x:a", "b")]), Reset(&[PROTOCOL])),
        ("no name", with(&[("", "b")]), Reset(&[PROTOCOL])),
        ("a line feed in a value", with(&[("x-a", "b\nc: d")]), Reset(&[PROTOCOL])),
        ("a carriage return in a value", with(&[("x-a", "b\r")]), Reset(&[PROTOCOL])),
        ("a zero byte in a value", with(&[("x-a", "b\0")]), Reset(&[PROTOCOL])),
        ("connection", with(&[("connection", "close")]), Reset(&[PROTOCOL])),
        ("keep-alive", with(&[("keep-alive", "1")]), Reset(&[PROTOCOL])),
        ("proxy-connection", with(&[("proxy-connection", "close")]), Reset(&[PROTOCOL])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), Reset(&[PROTOCOL])),
        ("upgrade", with(&[("upgrade", "h2c")]), Reset(&[PROTOCOL])),
        ("te that is not trailers", with(&[("te", "gzip")]), Reset(&[PROTOCOL])),
        ("te that is trailers", with(&[("te", "trailers")]), Status(200)),
        ("no method", without(":method"), Reset(&[PROTOCOL])),
        ("no scheme", without(":scheme"), Reset(&[PROTOCOL])),
        ("no path", without(":path"), Reset(&[PROTOCOL])),
        ("an empty path", replaced(":path", ""), Reset(&[PROTOCOL])),
        ("a path without a slash", replaced(":path", "x"), Expected::ResetOrStatus(400)),
        ("two methods", only(&[base[0], base[0], base[1], base[2], base[3]]), Reset(&[PROTOCOL])),
        ("two paths", only(&[base[0], base[1], base[2], base[3], base[3]]), Reset(&[PROTOCOL])),
        (
            "an unknown pseudo-header",
            only(&[(":x", "y"), base[0], base[1], base[2], base[3]]),
            Reset(&[PROTOCOL]),
        ),
        (
            "an answer's pseudo-header",
            only(&[base[0], base[1], base[2], base[3], (":status", "200")]),
            Reset(&[PROTOCOL]),
        ),
        (
            "a pseudo-header after a field",
            only(&[base[0], base[1], base[2], ("x-a", "b"), base[3]]),
            Reset(&[PROTOCOL]),
        ),
        (
            "a pseudo-header after the body",
            trailers(&field(":path", "/")),
            Expected::ResetOrStatus(200),
        ),
        ("no host", without(":authority"), Status(400)),
        ("a host that differs", with(&[("host", "b")]), Status(400)),
        ("the same host twice", with(&[("host", "a")]), Status(200)),
        ("a tunnel", only(&[(":method", "CONNECT"), (":authority", "a:80")]), Status(501)),
        ("a trace", replaced(":method", "TRACE"), Status(501)),
        ("less than the length", length("3", b"ab"), Expected::ResetOrStatus(400)),
        ("more than the length", length("1", b"ab"), Expected::ResetOrStatus(400)),
        ("a length that is no number", length("x", b"ab"), Expected::ResetOrStatus(400)),
        ("a length with a sign", length("+2", b"ab"), Expected::ResetOrStatus(400)),
        ("the right length", length("2", b"ab"), Status(200)),
        (
            "two equal lengths",
            with(&[("content-length", "0"), ("content-length", "0")]),
            Expected::ResetOrStatus(400),
        ),
        ("a blank before a value", with(&[("x-a", " b")]), Status(400)),
        ("a blank after a value", with(&[("x-a", "b ")]), Status(400)),
        ("a tab before a value", with(&[("x-a", "\tb")]), Status(400)),
        ("a blank in a value", with(&[("x-a", "b c")]), Status(200)),
        ("a scheme that is not HTTP", replaced(":scheme", "ftp"), Status(400)),
        ("a scheme that a proxy has seen", replaced(":scheme", "https"), Status(200)),
    ]
}

fn compression() -> Vec<FrameCase> {
    vec![
        ("the index zero", block(&[0x80]), GoAway(&[COMPRESSION, PROTOCOL])),
        ("an index beyond the tables", block(&[0xff, 0x7f]), GoAway(&[COMPRESSION, PROTOCOL])),
        (
            "a name's index beyond the tables",
            block(&[0x7f, 0x50, 1, b'a']),
            GoAway(&[COMPRESSION, PROTOCOL]),
        ),
        (
            "an index that never ends",
            block(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            GoAway(&[COMPRESSION, PROTOCOL]),
        ),
        (
            "a table larger than allowed",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0x3f, 0xff, 0xff, 0x7f]),
            GoAway(&[COMPRESSION, PROTOCOL]),
        ),
        ("a table's size after a field", block(&[0x20]), GoAway(&[COMPRESSION, PROTOCOL])),
        ("text that ends too early", block(&[0x00, 0x05, b'a']), GoAway(&[COMPRESSION, PROTOCOL])),
        (
            "a code of more than 30 bits",
            block(&[0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 1, b'a']),
            GoAway(&[COMPRESSION, PROTOCOL]),
        ),
        (
            "a code that is padded with zeros",
            block(&[0x00, 0x81, 0x18, 1, b'a']),
            Expected::GoAwayOrServed,
        ),
    ]
}

/// The reaction that was observed on a stream or a connection.
#[derive(Debug, Default)]
struct Observed {
    go_away: Option<u32>,
    closed: bool,
    reset: Option<u32>,
    status: Option<u16>,
}

async fn observe(raw: &mut RawHttp2, expected: &Expected) -> Observed {
    const MARK: [u8; 8] = *b"the mark";
    let mut observed = Observed::default();
    raw.send(&frame(PING, 0, 0, &MARK)).await;
    let mut marked = false;
    let waits = |observed: &Observed| match expected {
        Status(_) => observed.status.is_none(),
        Reset(_) | Expected::ResetOrStatus(_) => {
            observed.reset.is_none() && observed.status.is_none()
        }
        GoAway(_) => true,
        Nothing | Expected::GoAwayOrServed | Expected::ResetOrNothing => false,
    };
    while !marked || waits(&observed) {
        let Some(frame) = raw.next().await else {
            observed.closed = true;
            break;
        };
        match frame.kind {
            GOAWAY => observed.go_away = Some(frame.code()),
            RST_STREAM if observed.reset.is_none() => observed.reset = Some(frame.code()),
            HEADERS => observed.status = Some(status(&frame)),
            PING if frame.flags & ACK != 0 && frame.payload == MARK => marked = true,
            _ => {}
        }
    }
    observed
}

/// The status is the first field of a response, as an index or as digits.
fn status(frame: &Frame) -> u16 {
    match frame.payload[..] {
        [0x88, ..] => 200,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        // Three digits in the Huffman code.
        [0x48 | 0x08, 0x82, 0x6c, 0x01, ..] => 501,
        _ => panic!("an unexpected status: {:x?}", &frame.payload[..8]),
    }
}

/// Case H09.
#[tokio::test]
async fn invalid_frames_are_answered_as_the_rfcs_require() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    gateway.deploy("echo").await;
    let cases: Vec<FrameCase> =
        [frames_of_the_connection(), frames_of_streams(), requests(), compression()]
            .into_iter()
            .flatten()
            .collect();
    assert!(cases.len() >= 90, "{}", cases.len());
    let mut wrong = Vec::new();
    for (name, frames, expected) in &cases {
        let mut raw = RawHttp2::open(gateway.data(), &[]).await;
        raw.send(frames).await;
        let observed = observe(&mut raw, expected).await;
        let gone = |codes: &[u32]| observed.go_away.is_some_and(|code| codes.contains(&code));
        let reset = |codes: &[u32]| observed.reset.is_some_and(|code| codes.contains(&code));
        let goes_on = observed.go_away.is_none() && !observed.closed;
        let right = match expected {
            GoAway(codes) => gone(codes) && observed.closed,
            Reset(codes) => reset(codes) || gone(codes),
            Status(status) => goes_on && observed.status == Some(*status),
            Expected::ResetOrStatus(status) => {
                observed.reset.is_some() || observed.status == Some(*status)
            }
            Expected::GoAwayOrServed => gone(&[FLOW_CONTROL, COMPRESSION, PROTOCOL]) || goes_on,
            Expected::ResetOrNothing => goes_on,
            Nothing => goes_on && observed.reset.is_none(),
        };
        if !right {
            wrong.push(format!("{name}: {observed:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(gateway.get("/f/c-hello/").await.status(), 200);
}

/// Case H09.
#[tokio::test]
async fn a_connection_begins_with_the_preface_and_settings() {
    let gateway = TestGateway::start().await;
    for start in [
        [PREFACE, &frame(PING, 0, 0, &[0; 8])].concat(),
        [PREFACE, &frame(SETTINGS, ACK, 0, &[])].concat(),
    ] {
        let mut raw =
            RawHttp2 { socket: tokio::net::TcpStream::connect(gateway.data()).await.unwrap() };
        raw.send(&start).await;
        let end = raw.find(|frame| frame.kind == GOAWAY).await;
        assert!(end.is_none_or(|frame| frame.code() == PROTOCOL));
    }
    let wrong = super::said(gateway.data(), b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
    assert!(wrong.starts_with("HTTP/1.1 505 "), "{wrong}");
}

/// Case H09.
#[tokio::test]
async fn settings_and_pings_are_acknowledged_and_streams_are_limited() {
    let gateway = TestGateway::with(&["server.http2_streams=3"]).await;
    gateway.deploy("echo").await;
    let mut raw = RawHttp2::open(gateway.data(), &[]).await;
    let is_ack = |frame: &Frame| frame.kind == SETTINGS && frame.flags == ACK;
    assert!(raw.find(is_ack).await.is_some());
    raw.send(&frame(PING, 0, 0, b"12345678")).await;
    let pong = raw.find(|frame| frame.kind == PING).await.unwrap();
    assert_eq!((pong.flags, pong.payload.as_slice()), (ACK, b"12345678".as_slice()));
    for stream in [1, 3, 5, 7] {
        raw.send(&open_post(stream)).await;
    }
    let refused = raw.find(|frame| frame.kind == RST_STREAM).await.unwrap();
    assert_eq!((refused.stream, refused.code()), (7, REFUSED));
}
