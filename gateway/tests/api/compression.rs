//! Compression of responses, by routes that ask for it.

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

use http::Method;
use serde_json::{Value, json};
use tokio::time;

use crate::{
    client::{FullResponse, TestRequest},
    test_gateway::TestGateway,
};

const HOST: &str = "text.example.com";

async fn put(
    gateway: &TestGateway,
    name: &str,
    function: &str,
    compression: Value,
) -> FullResponse {
    let route = json!({
        "host": HOST, "path": format!("/{name}/*rest"), "function": function,
        "compression": compression,
    });
    gateway.control(Method::PUT, &format!("/v1/routes/{name}")).json(&route).send().await
}

async fn gateway() -> TestGateway {
    let gateway = TestGateway::start().await;
    for guest in ["t-status", "echo", "sse"] {
        gateway.deploy(guest).await;
        assert_eq!(put(&gateway, guest, guest, json!(true)).await.status(), 201);
    }
    gateway
}

fn call(gateway: &TestGateway, method: Method, target: &str, accepts: &str) -> TestRequest {
    let request = gateway.call(method, target).header("host", HOST);
    if accepts.is_empty() { request } else { request.header("accept-encoding", accepts) }
}

/// Asks the guest that answers with what the query says.
async fn raw(gateway: &TestGateway, method: Method, accepts: &str, raw: &str) -> FullResponse {
    let escaped: String = raw.bytes().map(|byte| format!("%{byte:02x}")).collect();
    call(gateway, method, &format!("/t-status/?raw={escaped}"), accepts).send().await
}

fn decoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out),
        "zstd" => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut out),
        other => panic!("{other}"),
    }
    .unwrap();
    out
}

/// Case P17.
#[tokio::test]
async fn a_response_is_compressed_as_its_client_likes_best() {
    let gateway = gateway().await;
    // Half of it repeats, and half is as good as random.
    let noise = (0..200_000_u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8);
    let body: Vec<u8> = b"again ".repeat(30_000).into_iter().chain(noise).collect();
    for (accepts, coding) in [
        ("gzip, deflate, br, zstd", Some("br")),
        ("gzip, zstd;q=0.9", Some("gzip")),
        ("zstd", Some("zstd")),
        ("gzip;q=0, *", Some("br")),
        ("deflate", None),
        ("br;q=0", None),
        ("identity, gzip;q=0.5", None),
        ("", None),
    ] {
        let request = call(&gateway, Method::POST, "/echo/", accepts);
        let answer = request.header("content-type", "text/plain").body(body.clone()).send().await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(answer.header("content-encoding"), coding, "{accepts}");
        assert_eq!(answer.header("vary"), Some("accept-encoding"), "{accepts}");
        match coding {
            None => assert!(answer.bytes() == body, "{accepts}"),
            Some(coding) => {
                assert!(answer.bytes().len() < body.len() * 2 / 3, "{}", answer.bytes().len());
                assert!(decoded(coding, answer.bytes()) == body, "{accepts}");
            }
        }
    }
    assert_eq!(
        gateway.metric_with("mayfly_compressed_responses_total", &[("coding", "br")]).await,
        2.0
    );
    // An owner may choose, in the order of liking.
    assert_eq!(put(&gateway, "echo", "echo", json!(["gzip", "br"])).await.status(), 200);
    let request = call(&gateway, Method::POST, "/echo/", "br, gzip, zstd");
    let answer = request.header("content-type", "text/plain").body(body.clone()).send().await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    // Other addresses of the function stay as they are.
    let own = gateway.call(Method::POST, "/f/echo/").header("accept-encoding", "gzip");
    let own = own.header("content-type", "text/plain").body(body.clone()).send().await;
    assert_eq!((own.header("content-encoding"), own.header("vary")), (None, None));
    for wrong in [json!([]), json!(["deflate"]), json!(["gzip", "gzip"])] {
        let refused = put(&gateway, "echo", "echo", wrong).await;
        assert_eq!(refused.problem(), (422, "bad-route"));
        assert!(refused.detail().starts_with("compression: "), "{refused:?}");
    }
    assert_eq!(put(&gateway, "echo", "echo", json!("gzip")).await.problem(), (400, "bad-json"));
    assert_eq!(put(&gateway, "echo", "echo", json!(false)).await.status(), 200);
}

/// Case P17.
#[tokio::test]
async fn what_must_stay_as_it_is_does() {
    let gateway = gateway().await;
    let text = "text ".repeat(100);
    for (head, vary) in [
        ("Content-Type: image/png", None),
        ("Content-Type: application/octet-stream", None),
        ("Content-Type: text/plain\nContent-Encoding: gzip", None),
        ("Content-Type: text/plain\nContent-Encoding: identity", None),
        ("Content-Type: text/plain\nCache-Control: public, No-Transform", None),
        ("Content-Type: text/plain\nStatus: 206\nContent-Range: bytes 0-499/1000", None),
        ("Content-Type: text/plain\nStatus: 206", None),
        ("Content-Type: text/plain\nContent-Digest: sha-256=:AAAA:", None),
        (
            "Content-Type: text/plain\nVary: accept-encoding\nContent-Encoding: br",
            Some("accept-encoding"),
        ),
    ] {
        let answer = raw(&gateway, Method::GET, "gzip", &format!("{head}\n\n{text}")).await;
        assert_eq!(answer.text(), text, "{head}");
        assert_eq!(answer.header("vary"), vary, "{head}");
        assert_ne!(answer.header("mayfly-outcome"), Some("platform"), "{head}");
    }
    let short = raw(&gateway, Method::GET, "gzip", "Content-Type: text/plain\n\nshort").await;
    assert_eq!((short.header("content-encoding"), short.text()), (None, "short"));
    let none =
        raw(&gateway, Method::GET, "gzip", "Status: 204\nContent-Type: text/plain\n\n").await;
    assert_eq!((none.status(), none.header("content-encoding")), (204, None));

    // What is compressed is another form of the same.
    let tagged = format!(
        "Content-Type: text/plain\nETag: \"a\"\nVary: origin\nAccept-Ranges: bytes\n\n{text}"
    );
    let answer = raw(&gateway, Method::GET, "gzip", &tagged).await;
    assert_eq!(decoded("gzip", answer.bytes()), text.as_bytes());
    assert_eq!(answer.header("etag"), Some("W/\"a\""));
    let vary: Vec<_> = answer.headers().get_all("vary").iter().collect();
    assert_eq!(vary, ["origin", "accept-encoding"]);
    assert_eq!((answer.header("content-length"), answer.header("accept-ranges")), (None, None));
    let plain = raw(&gateway, Method::GET, "", &tagged).await;
    assert_eq!((plain.header("etag"), plain.text()), (Some("\"a\""), &*text));
    let head = raw(&gateway, Method::HEAD, "gzip", &tagged).await;
    assert_eq!((head.status(), head.bytes().len()), (200, 0));
    assert_eq!(head.header("content-encoding"), Some("gzip"), "{head:?}");
    assert_eq!((head.header("etag"), head.header("content-length")), (Some("W/\"a\""), None));
    let same = raw(&gateway, Method::GET, "gzip", "Status: 304\nETag: \"a\"\n\n").await;
    assert_eq!((same.status(), same.header("content-encoding")), (304, None));
    assert_eq!(same.header("vary"), Some("accept-encoding"));
}

/// Case P17. The guest makes the second event ten minutes after the first.
#[tokio::test]
async fn an_event_arrives_when_it_is_made() {
    let gateway = gateway().await;
    gateway.deploy_with("sse", &json!({"timeout_ms": 300_000})).await;
    for coding in ["gzip", "br", "zstd"] {
        let request = call(&gateway, Method::GET, "/sse/?n=2&ms=250000", coding);
        let mut stream = request.open().await;
        let mut bytes = Vec::new();
        let arrived = async {
            loop {
                bytes.extend(stream.read(1).await);
                if so_far(coding, &bytes) == b"data: 1\n\n" {
                    return;
                }
            }
        };
        time::timeout(Duration::from_secs(60), arrived).await.expect(coding);
    }
    // A stream that ends is whole.
    for coding in ["gzip", "br", "zstd"] {
        let answer = call(&gateway, Method::GET, "/sse/?n=3&ms=1", coding).send().await;
        assert_eq!(answer.header("content-encoding"), Some(coding));
        assert_eq!(decoded(coding, answer.bytes()), b"data: 1\n\ndata: 2\n\ndata: 3\n\n");
    }
}

/// What can be read of a body that has not ended.
fn so_far(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = match coding {
        "gzip" => {
            let mut decoder = flate2::write::GzDecoder::new(&mut out);
            decoder.write_all(bytes).and_then(|()| decoder.flush())
        }
        "br" => {
            let mut decoder = brotli::DecompressorWriter::new(&mut out, 4096);
            let written = decoder.write_all(bytes).and_then(|()| decoder.flush());
            drop(decoder);
            written
        }
        _ => {
            let mut decoder = zstd::stream::write::Decoder::new(&mut out).unwrap();
            decoder.write_all(bytes).and_then(|()| decoder.flush())
        }
    };
    out
}

/// Case P17.
#[tokio::test]
async fn a_large_response_costs_little_memory_and_fixed_answers_are_compressed_too() {
    let gateway = gateway().await;
    let route = json!({
        "host": HOST, "path": "/robots.txt", "compression": ["gzip"],
        "answer": {"status": 200, "headers": {"content-type": "text/plain"}, "body": "allow ".repeat(1_000)},
    });
    let made = gateway.control(Method::PUT, "/v1/routes/robots").json(&route).send().await;
    assert_eq!(made.status(), 201, "{made:?}");
    let answer = call(&gateway, Method::GET, "/robots.txt", "gzip").send().await;
    assert_eq!(decoded("gzip", answer.bytes()), "allow ".repeat(1_000).as_bytes());

    // It goes through while it arrives: neither end waits for all of it.
    gateway
        .deploy_with("echo", &json!({"request_bytes": 200 << 20, "response_bytes": 200 << 20}))
        .await;
    let (pieces, request) = call(&gateway, Method::POST, "/echo/", "zstd")
        .header("content-type", "text/plain")
        .pieces();
    let piece = bytes::Bytes::from(b"a line of text that repeats\n".repeat(10_000));
    let length = piece.len() * 300;
    gateway.reset_peak();
    let before = gateway.resident_bytes();
    let sent = tokio::spawn(async move {
        for _ in 0..300 {
            pieces.send(piece.clone()).await.unwrap();
        }
    });
    let answer = request.send().await;
    sent.await.unwrap();
    assert_eq!(decoded("zstd", answer.bytes()).len(), length);
    let grown = gateway.most_resident_bytes().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes for {length}");
}
