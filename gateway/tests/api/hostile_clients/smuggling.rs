//! Requests that two parsers could frame differently.

use crate::{
    client::Http1,
    hostile_clients::{assert_problem, said},
    test_gateway::TestGateway,
};

/// The bytes after `POST /f/echo/ HTTP/1.1`, or the whole request where they begin with `!`. A
/// second request follows each, which must not be seen as a request of its own.
pub(super) const AMBIGUOUS: &[(&str, &str)] = &[
    (
        "both framings",
        "host: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "both, the other way",
        "host: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
    ),
    (
        "both, no body",
        "host: a\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("two lengths", "host: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd"),
    ("two equal lengths", "host: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc"),
    ("a list of lengths", "host: a\r\ncontent-length: 3, 3\r\n\r\nabc"),
    ("a length with a sign", "host: a\r\ncontent-length: +3\r\n\r\nabc"),
    ("a negative length", "host: a\r\ncontent-length: -3\r\n\r\nabc"),
    ("a hexadecimal length", "host: a\r\ncontent-length: 0x3\r\n\r\nabc"),
    ("a length with a space in it", "host: a\r\ncontent-length: 1 0\r\n\r\nabc"),
    ("a length with a fraction", "host: a\r\ncontent-length: 3.0\r\n\r\nabc"),
    ("no length in the field", "host: a\r\ncontent-length:\r\n\r\nabc"),
    ("a length that overflows", "host: a\r\ncontent-length: 18446744073709551619\r\n\r\nabc"),
    ("a quoted length", "host: a\r\ncontent-length: \"3\"\r\n\r\nabc"),
    ("two codings", "host: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked twice", "host: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    (
        "chunked in two fields",
        "host: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked, then identity",
        "host: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    ("identity", "host: a\r\ntransfer-encoding: identity\r\n\r\n"),
    ("an unknown coding", "host: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("a quoted coding", "host: a\r\ntransfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    ("a coding with a parameter", "host: a\r\ntransfer-encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
    ("a coding with a comma", "host: a\r\ntransfer-encoding: chunked,\r\n\r\n0\r\n\r\n"),
    ("no coding in the field", "host: a\r\ntransfer-encoding:\r\n\r\n0\r\n\r\n"),
    (
        "a vertical tab before the coding",
        "host: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding in HTTP/1.0",
        "!POST /f/echo/ HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("a space before the colon", "host: a\r\ncontent-length : 3\r\n\r\nabc"),
    ("a tab before the colon", "host: a\r\ntransfer-encoding\t: chunked\r\n\r\n0\r\n\r\n"),
    ("a space before the name", "host: a\r\n content-length: 3\r\n\r\nabc"),
    ("a space before the first name", " host: a\r\ncontent-length: 3\r\n\r\nabc"),
    ("a folded line", "host: a\r\nx: 1\r\n content-length: 3\r\n\r\nabc"),
    ("a folded line with a tab", "host: a\r\ntransfer-encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n"),
    ("a bare LF after a field", "host: a\ncontent-length: 3\r\n\r\nabc"),
    ("a bare LF after the request line", "!POST /f/echo/ HTTP/1.1\nhost: a\r\n\r\n"),
    ("bare LFs at the end", "host: a\r\ncontent-length: 3\r\n\nabc"),
    ("bare LFs only", "!POST /f/echo/ HTTP/1.1\nhost: a\n\n"),
    ("a bare CR in a value", "host: a\r\nx: 1\rcontent-length: 3\r\n\r\nabc"),
    ("a bare CR before the end of a line", "host: a\r\nx: 1\r\r\n\r\n"),
    ("a zero byte in a value", "host: a\r\nx: 1\0\r\n\r\n"),
    ("a zero byte in a name", "host: a\r\nx\0: 1\r\n\r\n"),
    ("a control byte in a value", "host: a\r\nx: \x01\r\n\r\n"),
    ("a control byte in a name", "host: a\r\ncontent-length\x7f: 3\r\n\r\nabc"),
    ("a field without a colon", "host: a\r\ncontent-length\r\n\r\n"),
    ("a field without a name", "host: a\r\n: 3\r\n\r\n"),
    ("a name in brackets", "host: a\r\n[x]: 3\r\n\r\n"),
    ("two hosts", "host: a\r\nhost: b\r\n\r\n"),
    ("two equal hosts", "host: a\r\nhost: a\r\n\r\n"),
    ("two spaces after the method", "!POST  /f/echo/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("two spaces after the target", "!POST /f/echo/  HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a space in the target", "!POST /f/echo/ x HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a tab after the method", "!POST\t/f/echo/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a space before the method", "! POST /f/echo/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a space after the version", "!POST /f/echo/ HTTP/1.1 \r\nhost: a\r\n\r\n"),
    ("a version in small letters", "!POST /f/echo/ http/1.1\r\nhost: a\r\n\r\n"),
    ("a version that is too long", "!POST /f/echo/ HTTP/1.10\r\nhost: a\r\n\r\n"),
    ("no version", "!POST /f/echo/\r\nhost: a\r\n\r\n"),
    ("a fragment", "!POST /f/echo/#a HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a chunk of a negative size", "host: a\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n\r\n"),
    (
        "a chunk's size with a prefix",
        "host: a\r\ntransfer-encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    ),
    (
        "a chunk's size that overflows",
        "host: a\r\ntransfer-encoding: chunked\r\n\r\n10000000000000000\r\na\r\n0\r\n\r\n",
    ),
    (
        "a space after a chunk's size",
        "host: a\r\ntransfer-encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n",
    ),
    (
        "a space before a chunk's size",
        "host: a\r\ntransfer-encoding: chunked\r\n\r\n 1\r\na\r\n0\r\n\r\n",
    ),
    (
        "a bare LF after a chunk's size",
        "host: a\r\ntransfer-encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
    ),
    (
        "a bare LF in a chunk's extension",
        "host: a\r\ntransfer-encoding: chunked\r\n\r\n1;\na\r\n0\r\n\r\n",
    ),
    (
        "a bare CR after a chunk's size",
        "host: a\r\ntransfer-encoding: chunked\r\n\r\n1\ra\r\n0\r\n\r\n",
    ),
    ("a bare LF after a chunk", "host: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n"),
    (
        "a chunk that is longer than it says",
        "host: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    ),
    ("no chunk's size", "host: a\r\ntransfer-encoding: chunked\r\n\r\n\r\n\r\n"),
    ("a bare LF at the end of the chunks", "host: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\n"),
    (
        "a folded line after the chunks",
        "host: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n x: 1\r\n\r\n",
    ),
];

/// The smuggled request.
const SMUGGLED: &str = "GET /f/c-hello/smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

pub(super) fn request(case: &str) -> String {
    match case.strip_prefix('!') {
        Some(whole) => format!("{whole}{SMUGGLED}"),
        None => format!("POST /f/echo/ HTTP/1.1\r\n{case}{SMUGGLED}"),
    }
}

/// Case H10.
#[tokio::test]
async fn every_ambiguous_request_is_refused_and_none_reaches_a_guest() {
    let gateway = TestGateway::start().await;
    gateway.deploy("echo").await;
    gateway.deploy("c-hello").await;
    for (name, case) in AMBIGUOUS {
        for address in [gateway.data(), gateway.control_address()] {
            let said = said(address, request(case).as_bytes()).await;
            assert_problem(&said, 400, "malformed-request", name);
            assert!(said.contains("\r\nconnection: close\r\n"), "{name}: {said}");
        }
    }
    assert!(AMBIGUOUS.len() >= 42);
    assert_eq!(gateway.metric("mayfly_requests_total").await, 0.0);
    assert_eq!(gateway.metric("mayfly_problems_total").await, AMBIGUOUS.len() as f64);
    let ended = r#"mayfly_connections_ended_total{plane="data",reason="malformed-request"}"#;
    let metrics = gateway.api("/metrics").await;
    assert!(metrics.text().contains(&format!("{ended} {}\n", AMBIGUOUS.len())));
}

/// Case H10.
#[tokio::test]
async fn earlier_requests_are_answered_first_and_fragmentation_makes_no_difference() {
    use tokio::io::AsyncWriteExt as _;
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let good = "GET /f/c-hello/ HTTP/1.1\r\nhost: a\r\n\r\n";
    for (name, case) in AMBIGUOUS.iter().step_by(5) {
        let both = said(gateway.data(), format!("{good}{}", request(case)).as_bytes()).await;
        let (first, second) = both.split_once("hello from c\n").expect(name);
        assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{name}: {both}");
        assert_problem(second, 400, "malformed-request", name);
    }
    // Single bytes, of an ambiguous request and of a valid one.
    let case = "host: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n";
    for (bytes, expected) in
        [(format!("GET / HTTP/1.1\r\n{case}"), "400"), (good.to_owned(), "200")]
    {
        let mut socket = tokio::net::TcpStream::connect(gateway.data()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        for byte in bytes.as_bytes() {
            socket.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        socket.shutdown().await.unwrap();
        if expected == "400" {
            let said = super::until_closed(&mut socket).await;
            assert_problem(&said, 400, "malformed-request", "bytes");
        }
    }
    assert_eq!(Http1::open(gateway.data()).await.get("/f/c-hello/").await.status(), 200);
}

/// Similar requests that are unambiguous: header fields and a body.
pub(super) const CLEAR: [(&str, &str, &str); 7] = [
    ("a tab before a length", "content-length:\t3 \r\n", "abc"),
    ("a length with zeros before it", "Content-Length: 0003\r\n", "abc"),
    ("capitals", "TRANSFER-ENCODING: CHUNKED\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ("zeros before a size", "transfer-encoding: chunked\r\n", "003\r\nabc\r\n00\r\n\r\n"),
    ("an extension", "transfer-encoding: chunked\r\n", "3;a=\"b\"\r\nabc\r\n0\r\n\r\n"),
    ("a trailer", "transfer-encoding: chunked\r\n", "3\r\nabc\r\n0\r\nx: 1\r\n\r\n"),
    ("bytes beyond ASCII", "x: \u{e9}\r\ncontent-length: 3\r\n", "abc"),
];

/// Case H10.
#[tokio::test]
async fn unambiguous_requests_are_served() {
    let gateway = TestGateway::start().await;
    gateway.deploy("echo").await;
    for (name, head, body) in CLEAR {
        let request = format!(
            "\r\nPOST /f/echo/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{head}\r\n{body}"
        );
        let said = said(gateway.data(), request.as_bytes()).await;
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{name}: {said}");
        assert!(said.contains("abc"), "{name}: {said}");
    }
}
