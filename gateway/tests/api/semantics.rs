//! HTTP as clients and functions of all kinds see it, over HTTP/1.1 and HTTP/2.

mod addresses;
mod content;
mod fields;
mod trailers;

use std::net::SocketAddr;

use crate::{
    hostile_clients::frames::{
        DATA, END_HEADERS, END_STREAM, Frame, HEADERS, RST_STREAM, RawHttp2, fields, frame,
    },
    test_gateway::TestGateway,
};

/// A gateway with a function of each kind that answers as its query asks.
async fn with_each_kind(settings: &[&str]) -> TestGateway {
    let gateway = TestGateway::with(settings).await;
    for name in ["t-answers", "t-answers-p3", "t-status", "c-hello"] {
        gateway.deploy(name).await;
    }
    gateway
}

/// The paths by which functions of each kind answer with a status, a `content-length`, and as many
/// bytes.
fn asked(status: u16, length: Option<u32>, bytes: usize) -> [String; 3] {
    let header = length.map_or(String::new(), |length| format!("&header=content-length:{length}"));
    let query = format!("status={status}&bytes={bytes}{header}");
    let line = length.map_or(String::new(), |length| format!("Content-Length:%20{length}%0A"));
    let body = "x".repeat(bytes);
    let raw = format!("Status:%20{status}%0AContent-Type:%20text/plain%0A{line}%0A{body}");
    [
        format!("/f/t-answers/?{query}"),
        format!("/f/t-answers-p3/?{query}"),
        format!("/f/t-status/?raw={raw}"),
    ]
}

/// The frames of the response to one HTTP/2 request.
async fn frames_of(
    address: SocketAddr,
    method: &str,
    path: &str,
    more: &[(&str, &str)],
) -> Vec<Frame> {
    let mut connection = RawHttp2::open(address, &[]).await;
    let base = [(":method", method), (":scheme", "http"), (":authority", "localhost")];
    // The length of a path has one byte in HPACK's integers only up to 126.
    let long = [&[0x04, 0x7f][..], &integer(path.len() - 127), path.as_bytes()].concat();
    let path = if path.len() < 127 { fields(&[(":path", path)]) } else { long };
    let block = [fields(&base), path, fields(more)].concat();
    connection.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)).await;
    let mut found = Vec::new();
    while let Some(frame) = connection.next().await {
        let is_last = frame.kind == RST_STREAM || frame.flags & END_STREAM != 0;
        if frame.stream == 1 {
            let ends = is_last && matches!(frame.kind, HEADERS | DATA | RST_STREAM);
            found.push(frame);
            if ends {
                break;
            }
        }
    }
    found
}

/// An integer of HPACK after its prefix.
fn integer(mut rest: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while rest >= 128 {
        bytes.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}
