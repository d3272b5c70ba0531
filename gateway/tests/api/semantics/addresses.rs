//! Addresses of requests: for the server itself, without a host, with unusual bytes, and their
//! scheme as functions see it.

use http::Request;

use super::{
    fields::{TOLD, told_over_http1, told_over_http2},
    with_each_kind,
};
use crate::{
    client::Http2,
    hostile_clients::{
        assert_problem,
        frames::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, RawHttp2, frame, request},
        said,
    },
    test_gateway::TestGateway,
};

#[tokio::test]
async fn options_without_a_function_are_for_the_server() {
    let gateway = with_each_kind(&[]).await;
    for address in [gateway.data(), gateway.control_address()] {
        for request in [
            "OPTIONS * HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nhost: t-answers.localhost\r\nconnection: close\r\n\r\n",
            "OPTIONS / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
            "OPTIONS * HTTP/1.0\r\n\r\n",
            // The check of haproxy.
            "OPTIONS / HTTP/1.0\r\n\r\n",
        ] {
            let said = said(address, request.as_bytes()).await.to_ascii_lowercase();
            let (head, body) = said.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(" 204 no content\r\n") && body.is_empty(), "{request}: {said}");
            for field in ["allow: get, head", "mayfly-outcome: platform", "mayfly-request-id: "] {
                assert!(head.contains(&format!("\r\n{field}")), "{request}: {said}");
            }
        }
        let said =
            said(address, b"GET * HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
        assert_problem(&said, 400, "bad-target", "GET *");
    }
    // A function answers for its own root.
    let own = "OPTIONS / HTTP/1.1\r\nhost: t-answers.localhost\r\nconnection: close\r\n\r\n";
    assert!(said(gateway.data(), own.as_bytes()).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let connection = Http2::open(gateway.data()).await;
    let request = Request::options(format!("http://{}/", gateway.data()));
    assert_eq!(connection.send(request, "").await.status(), 204);
}

#[tokio::test]
async fn a_client_of_http_1_0_need_not_name_a_host() {
    let gateway = with_each_kind(&[]).await;
    gateway.deploy("t-cgi-env").await;
    for path in TOLD {
        let said = said(gateway.data(), format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await;
        assert!(said.starts_with("HTTP/1.0 200 OK\r\n"), "{path}: {said}");
        let named = ["authority: localhost\n", "SERVER_NAME=localhost\n"];
        assert!(named.iter().any(|line| said.contains(line)), "{path}: {said}");
    }
    for path in ["/healthz", "/readyz"] {
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        let said = said(gateway.control_address(), request.as_bytes()).await;
        assert!(said.starts_with("HTTP/1.0 200 OK\r\n"), "{path}: {said}");
    }
}

/// What a function of any kind was told of the path and the query.
fn target(told: &str) -> String {
    let line = |name: &str| told.lines().find_map(|line| line.strip_prefix(name));
    match line("path: ") {
        Some(target) => target.to_owned(),
        None => format!("{}?{}", line("X_RAW_PATH_INFO=").unwrap(), line("QUERY_STRING=").unwrap()),
    }
}

#[tokio::test]
async fn targets_are_encoded_as_browsers_do() {
    let gateway = with_each_kind(&[]).await;
    gateway.deploy("t-cgi-env").await;
    for (sent, seen) in [
        (&b"a=\"<x>\""[..], "a=%22%3Cx%3E%22"),
        (b"a=|{b}", "a=|{b}"),
        (b"a=\xc3\xa9", "a=%C3%A9"),
        // Not UTF-8.
        (b"a=\xff\xe9`", "a=%FF%E9%60"),
        (b"a=%22'", "a=%22'"),
    ] {
        for path in TOLD {
            let get = |connection: &str| {
                let head =
                    format!(" HTTP/1.1\r\nhost: localhost\r\nconnection: {connection}\r\n\r\n");
                [format!("GET {path}?").as_bytes(), sent, head.as_bytes()].concat()
            };
            // Alone, and between others.
            let plain = format!("GET {path}?b HTTP/1.1\r\nhost: localhost\r\n\r\n");
            let three = [&get("keep-alive"), plain.as_bytes(), &get("close")].concat();
            for (bytes, answers) in [(get("close"), 1), (three, 3)] {
                let said = said(gateway.data(), &bytes).await;
                assert_eq!(said.matches("HTTP/1.1 200 OK").count(), answers, "{path}: {said}");
                let query = target(&said);
                assert!(query.ends_with(&format!("?{seen}")), "{path}: {said}");
            }
        }
    }
    let over_http2 = told_over_http2(&gateway, "/f/t-answers/told?a=\u{e9}", &[]).await;
    assert_eq!(target(&over_http2), "/told?a=%C3%A9");
    // A target that is too long once it is encoded has a problem with a body, too.
    let long = format!("GET /f/c-hello/?{:<<4000} HTTP/1.1\r\nhost: a\r\n\r\n", "");
    assert_problem(&said(gateway.data(), long.as_bytes()).await, 414, "target-too-long", "long");
}

#[tokio::test]
async fn over_http2_a_target_that_is_not_encoded_costs_one_stream() {
    const PROTOCOL_ERROR: u32 = 1;
    let gateway = with_each_kind(&[]).await;
    let mut raw = RawHttp2::open(gateway.data(), &[]).await;
    let mut stream = 1;
    for (target, expected) in [
        ("/f/t-answers/a<b", None),
        ("/f/t-answers/a`b", None),
        ("/f/t-answers/?a=\"b", None),
        ("/f/t-answers/?a=>b", None),
        ("/f/t-answers/told?a=|{b}^", Some("/told?a=|{b}^")),
        ("/f/t-answers/told?a#b", Some("/told?a")),
    ] {
        let head = request("GET", target);
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)).await;
        let wanted = if expected.is_some() { DATA } else { RST_STREAM };
        let said = raw.find(|frame| [DATA, RST_STREAM].contains(&frame.kind)).await.unwrap();
        assert_eq!((said.kind, said.stream), (wanted, stream), "{target}");
        match expected {
            None => assert_eq!(said.code(), PROTOCOL_ERROR, "{target}"),
            Some(seen) => {
                let text = String::from_utf8(said.payload).unwrap();
                assert_eq!(self::target(&text), seen, "{text}");
            }
        }
        stream += 2;
    }
}

/// The scheme that a function of any kind was told.
fn scheme(told: &str) -> &'static str {
    let https = ["scheme: Scheme::Https\n", "scheme: Https\n", "\nX_FULL_URL=https://"];
    let http = ["scheme: Scheme::Http\n", "scheme: Http\n", "\nX_FULL_URL=http://"];
    let tells = |lines: [&str; 3]| lines.iter().any(|line| told.contains(line));
    assert!(tells(https) != tells(http), "{told}");
    if told.contains("GATEWAY_INTERFACE=") {
        assert_eq!(tells(https), told.contains("\nHTTPS=on\n"), "{told}");
        let port = if tells(https) { "443" } else { "80" };
        assert!(told.contains(&format!("\nSERVER_PORT={port}\n")), "{told}");
        assert!(told.contains("\nHTTP_HOST=localhost\n"), "{told}");
    }
    if tells(https) { "https" } else { "http" }
}

#[tokio::test]
async fn the_scheme_is_the_clients_and_no_claim_of_it() {
    let gateway = with_each_kind(&[]).await;
    let behind = with_each_kind(&["server.trusted_proxies=127.0.0.1"]).await;
    for gateway in [&gateway, &behind] {
        gateway.deploy("t-cgi-env").await;
    }
    for path in TOLD {
        for (gateway, claim, expected) in [
            (&gateway, "https", "http"),
            (&gateway, "http", "http"),
            (&behind, "https", "https"),
            (&behind, "HTTPS, http", "https"),
            (&behind, "http", "http"),
            (&behind, "nonsense", "http"),
        ] {
            let field = format!("x-forwarded-proto: {claim}\r\n");
            let told = told_over_http1(gateway, path, &field).await;
            assert_eq!(scheme(&told), expected, "{path} {claim}");
            let told = told_over_http2(gateway, path, &[("x-forwarded-proto", claim)]).await;
            assert_eq!(scheme(&told), expected, "{path} {claim} over HTTP/2");
        }
    }
    // The pseudo-header is a claim like others.
    let connection = Http2::open(gateway.data()).await;
    for path in TOLD {
        let told = connection.send(Request::get(format!("https://localhost{path}")), "").await;
        assert_eq!(scheme(told.text()), "http", "{path}");
    }
}

async fn by_host(gateway: &TestGateway, host: &str, path: &str) -> String {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nx-forwarded-for: 203.0.113.7\r\n\
         connection: close\r\n\r\n"
    );
    said(gateway.data(), request.as_bytes()).await
}

#[tokio::test]
async fn a_host_names_a_function_only_for_those_who_may_name_hosts() {
    let proxy = "server.trusted_proxies=127.0.0.1";
    let gateway = with_each_kind(&[]).await;
    let behind = with_each_kind(&[proxy]).await;
    let open = with_each_kind(&[proxy, "server.host_routes=all"]).await;
    let closed = with_each_kind(&["server.host_routes=off"]).await;
    for gateway in [&gateway, &open] {
        let said = by_host(gateway, "t-answers.localhost", "/f/c-hello/").await;
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && !said.contains("hello"), "{said}");
    }
    for gateway in [&behind, &closed] {
        // A proxy that lets only `/f/c-hello/` through is not passed by.
        let said = by_host(gateway, "t-answers.localhost", "/f/c-hello/").await;
        assert!(said.ends_with("hello from c\n"), "{said}");
        let said = by_host(gateway, "t-answers.localhost", "/").await;
        assert_problem(&said, 404, "no-route", "by host");
        assert!(said.contains("server.host_routes"), "{said}");
    }
}
