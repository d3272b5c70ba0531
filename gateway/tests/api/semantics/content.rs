//! Which responses have content, and what their heads say about it.

use http::Request;
use serde_json::json;

use super::{asked, frames_of, with_each_kind};
use crate::{
    client::Http2,
    hostile_clients::{
        frames::{DATA, END_STREAM, HEADERS},
        said,
    },
};

/// The heads of the responses to two requests on one connection, if nothing stands between the two.
async fn heads(address: std::net::SocketAddr, method: &str, path: &str) -> (String, String) {
    let both = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n\
         HEAD /last HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    );
    let said = said(address, both.as_bytes()).await;
    let (first, second) = said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: {said}"));
    assert!(second.starts_with("HTTP/1.1 ") && second.ends_with("\r\n\r\n"), "{path}: {said}");
    (format!("{first}\r\n").to_ascii_lowercase(), second.to_owned())
}

#[tokio::test]
async fn nothing_follows_a_head_that_must_have_no_content() {
    let gateway = with_each_kind(&[]).await;
    let (data, control) = (gateway.data(), gateway.control_address());
    let mut cases = Vec::new();
    for bytes in [0, 5, 90] {
        for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 205), ("GET", 304)] {
            let paths = asked(status, None, bytes);
            cases.extend(paths.map(|path| (data, method, path, status)));
        }
    }
    cases.push((data, "HEAD", "/f/c-hello/".to_owned(), 200));
    cases.push((data, "HEAD", "/f/not-there/".to_owned(), 404));
    cases.push((data, "HEAD", "/not-there".to_owned(), 404));
    cases.push((control, "HEAD", "/not-there".to_owned(), 404));
    cases.push((control, "HEAD", "/v1/functions".to_owned(), 401));
    cases.push((control, "HEAD", "/healthz".to_owned(), 200));
    for (address, method, path, status) in cases {
        let (head, _) = heads(address, method, &path).await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{method} {path}: {head}");
        let found = frames_of(address, method, &path, &[]).await;
        let kinds: Vec<_> =
            found.iter().map(|frame| (frame.kind, frame.flags & END_STREAM)).collect();
        assert_eq!(kinds, [(HEADERS, END_STREAM)], "{method} {path} over HTTP/2");
    }
    // The same functions do send content where there may be some.
    for path in asked(200, None, 5) {
        let found = frames_of(data, "GET", &path, &[]).await;
        let data = found.iter().filter(|frame| frame.kind == DATA);
        assert_eq!(data.map(|frame| frame.payload.len()).sum::<usize>(), 5, "{path}");
        let (head, _) = heads(gateway.data(), "HEAD", &path).await;
        assert!(head.contains("\r\ncontent-length: 5\r\n"), "{path}: {head}");
    }
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
}

#[tokio::test]
async fn a_head_tells_the_length_of_content_that_it_leaves_out() {
    let gateway = with_each_kind(&[]).await;
    let connection = Http2::open(gateway.data()).await;
    for (method, status, told) in [
        ("HEAD", 200, Some("5")),
        ("HEAD", 404, Some("5")),
        ("GET", 304, Some("5")),
        ("GET", 204, None),
    ] {
        // Whether the function writes the content or not.
        for path in asked(status, Some(5), 0).into_iter().chain(asked(status, Some(5), 5)) {
            let (head, _) = heads(gateway.data(), method, &path).await;
            assert!(head.starts_with(&format!("http/1.1 {status} ")), "{method} {path}: {head}");
            let line = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            assert_eq!(line, told, "{method} {path}: {head}");
            let request =
                Request::builder().method(method).uri(format!("http://{}{path}", gateway.data()));
            let response = connection.send(request, "").await;
            assert_eq!(response.status(), status, "{method} {path}");
            assert_eq!(response.header("content-length"), told, "{method} {path}");
        }
    }
    // A length that is no number is none for a HEAD either.
    let (head, _) =
        heads(gateway.data(), "HEAD", "/f/t-status/?raw=Status:%20200%0AContent-Length:%20x%0A%0A")
            .await;
    assert!(head.starts_with("http/1.1 502 "), "{head}");
}

#[tokio::test]
async fn a_function_that_writes_on_after_the_answer_to_a_head_is_stopped() {
    let gateway = with_each_kind(&["guests.after_response_ms=20"]).await;
    for name in ["t-answers", "t-answers-p3"] {
        let path = format!("/f/{name}/?bytes=200000&end=never");
        let (head, _) = heads(gateway.data(), "HEAD", &path).await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        gateway.metric_becomes("mayfly_live_instances", 0.0).await;
        let line = gateway.log_lines(name, 1).await[0]["line"].as_str().unwrap().to_owned();
        assert!(line.contains("guests.after_response_ms"), "{line}");
    }
    // One that ends in time is no failure, whatever it has written.
    let (head, _) = heads(gateway.data(), "HEAD", "/f/t-answers/?bytes=200000").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
    let lines = gateway.log_lines("t-answers", 1).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    // What is dropped counts for the limit of the response.
    gateway.patch("t-answers", &json!({"settings": {"response_bytes": 300_000}})).await;
    heads(gateway.data(), "HEAD", "/f/t-answers/?bytes=200000&end=never").await;
    let lines = gateway.log_lines("t-answers", 2).await;
    let all: Vec<_> = lines.iter().map(|line| line["line"].as_str().unwrap()).collect();
    assert!(all.iter().any(|line| line.contains("response_bytes")), "{all:?}");
}

#[tokio::test]
async fn a_status_that_no_final_response_has_is_no_response() {
    let gateway = with_each_kind(&[]).await;
    let connection = Http2::open(gateway.data()).await;
    for status in [100, 101, 102, 103, 199, 600, 999] {
        // The engine for 0.3 refuses a status of more than 599 itself.
        let refused = |path: &String| status > 599 && path.contains("p3");
        for path in asked(status, None, 5).into_iter().filter(|path| !refused(path)) {
            let answer = gateway.get(&path).await;
            assert_eq!(answer.problem(), (502, "no-response"), "{path}");
            let url = format!("http://{}{path}", gateway.data());
            let answer = connection.send(Request::get(url), "").await;
            assert_eq!(answer.problem(), (502, "no-response"), "{path} over HTTP/2");
        }
    }
    for status in [200, 299, 418, 599] {
        for path in asked(status, None, 5) {
            assert_eq!(gateway.get(&path).await.status(), status, "{path}");
        }
    }
}

#[tokio::test]
async fn a_guest_may_exit_once_its_response_is_whole() {
    let gateway = with_each_kind(&[]).await;
    // Reuse: an instance that has exited is not used again.
    for name in ["t-answers", "t-answers-p3"] {
        let reuse = json!({"settings": {"isolation": {"mode": "reuse"}}});
        assert_eq!(gateway.patch(name, &reuse).await.status(), 200);
        // For 0.3 the end is known only when the client has read so far.
        let most = if name == "t-answers" { 300_000 } else { 5 };
        for bytes in [0, 5, 100_000, 300_000].into_iter().filter(|bytes| *bytes <= most) {
            for _ in 0..2 {
                let path = format!("/f/{name}/?bytes={bytes}&end=exit");
                let answer = gateway.get(&path).await;
                assert_eq!((answer.status(), answer.bytes().len()), (200, bytes), "{path}");
            }
            let path = format!("/f/{name}/?bytes={bytes}&end=early");
            let answer = gateway.call(http::Method::GET, &path).try_send().await;
            let is_whole = answer.is_ok_and(|answer| answer.status() != 502);
            assert!(!is_whole, "{path}");
        }
    }
}
