//! Makes the host keep as much as it can for the guest: resources of the kind that the last part of
//! the path names after `kept-`, each with the largest content, `?n=` of them and none closed. Then
//! waits for `?ms=` milliseconds.

use std::mem::forget;

use wasip2::clocks::monotonic_clock;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse,
    RequestOptions, ResponseOutparam,
};

/// A value that fills the fields of one resource.
const VALUE: usize = 63_000;

pub fn case(request: &IncomingRequest, answer: ResponseOutparam) {
    let path = tests_http::path(request);
    let make: fn(u64) = match path.rsplit('/').next().unwrap_or_default() {
        "kept-appended" => |n| forget(full(n)),
        "kept-set" => |n| {
            let fields = Fields::new();
            fields.set("x", &[value(n)]).unwrap();
            forget(fields);
        },
        "kept-listed" => |n| forget(Fields::from_list(&[("x".to_owned(), value(n))]).unwrap()),
        "kept-small" => |n| {
            let fields = Fields::new();
            for name in 0..700 {
                fields.append(&format!("{name}"), &n.to_le_bytes().map(|byte| byte % 32 + b'@')).unwrap();
            }
            forget(fields);
        },
        "kept-copied" => |n| {
            let copy = full(n).clone();
            copy.append("y", b"").unwrap();
            forget(copy);
        },
        // All exist before the first of them is filled.
        "kept-later" => later,
        "kept-paths" => |n| {
            let request = OutgoingRequest::new(Fields::new());
            request.set_path_with_query(Some(&format!("/{}", text(n)))).unwrap();
            request.set_authority(Some(&text(n))).unwrap();
            forget(request);
        },
        "kept-methods" => |n| {
            let request = OutgoingRequest::new(Fields::new());
            // A method of this length is refused.
            request.set_method(&Method::Other("M".repeat(1_000_000 + n as usize))).unwrap_err();
            forget(request);
        },
        "kept-requests" => |n| {
            let request = OutgoingRequest::new(full(n));
            forget(write(request.body().unwrap(), n));
            forget(request);
        },
        "kept-responses" => |n| {
            let response = OutgoingResponse::new(full(n));
            forget(write(response.body().unwrap(), n));
            forget(response);
        },
        "kept-trailers" => |n| {
            let response = OutgoingResponse::new(Fields::new());
            let body = write(response.body().unwrap(), n);
            OutgoingBody::finish(body, Some(full(n))).unwrap();
            forget(response);
        },
        "kept-headers" => |n| {
            let request = OutgoingRequest::new(full(n));
            forget(request.headers());
            forget(request);
        },
        "kept-options" => |_| forget(RequestOptions::new()),
        other => panic!("no kind {other}"),
    };
    for n in 0..tests_http::number(request, "n").unwrap_or(u64::MAX) {
        make(n);
    }
    let ms = tests_http::number(request, "ms").unwrap_or(0);
    monotonic_clock::subscribe_duration(ms * 1_000_000).block();
    tests_http::text(answer, "kept\n");
}

fn later(_: u64) {
    let all: Vec<_> = (0..10_000).map(|_| Fields::new()).collect();
    for (n, fields) in all.iter().enumerate() {
        fields.append("x", &value(n as u64)).unwrap();
    }
    forget(all);
}

fn value(n: u64) -> Vec<u8> {
    text(n).into_bytes()
}

/// A different text each time, so that nothing is shared.
fn text(n: u64) -> String {
    format!("{n}{}", "v".repeat(VALUE))
}

fn full(n: u64) -> Fields {
    let fields = Fields::new();
    fields.append("x", &value(n)).unwrap();
    fields
}

/// Writes as many chunks as the host takes.
fn write(body: OutgoingBody, n: u64) -> OutgoingBody {
    let stream = body.write().unwrap();
    while let Ok(room @ 1..) = stream.check_write() {
        if stream.write(&vec![n as u8; room as usize]).is_err() {
            break;
        }
    }
    body
}
