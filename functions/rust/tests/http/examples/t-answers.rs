//! Answers as its query asks, whatever that means for HTTP. All values are percent-decoded.
//!
//! - `status=404`; `header=NAME:VALUE` and `trailer=NAME:VALUE`, each as often as wanted;
//! - `bytes=5`: so many bytes of body, after `wait=` milliseconds;
//! - `end=exit`: exits with success after the body; `end=early`: before it has ended;
//!   `end=never`: goes on writing.
//!
//! The path `/told` answers with the request as the guest sees it, and `/grpc.Test/Echo` with the
//! messages that it gets, each as soon as it is there.

use tests_http::{decoded, number};
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

tests_http::serve!(handle);

fn handle(request: IncomingRequest, answer: ResponseOutparam) {
    match tests_http::path(&request).as_str() {
        "/told" => tests_http::text(answer, &told(&request)),
        "/grpc.Test/Echo" => echo(request, answer),
        _ => as_asked(&request, answer),
    }
}

fn as_asked(request: &IncomingRequest, answer: ResponseOutparam) {
    let response = OutgoingResponse::new(fields(request, "header"));
    response.set_status_code(number(request, "status").unwrap_or(200) as u16).unwrap();
    let body = response.body().unwrap();
    ResponseOutparam::set(answer, Ok(response));
    let stream = body.write().unwrap();
    if let Some(ms) = number(request, "wait") {
        wasip2::clocks::monotonic_clock::subscribe_duration(ms * 1_000_000).block();
    }
    let bytes = number(request, "bytes").unwrap_or(0) as usize;
    let _ = tests_http::write(&stream, &vec![b'x'; bytes]);
    let end = decoded(request, "end").unwrap_or_default();
    while end == b"never" && tests_http::write(&stream, &[b'y'; 1000]).is_ok() {}
    if end == b"early" {
        wasip2::cli::exit::exit(Ok(()));
    }
    drop(stream);
    let trailers = fields(request, "trailer");
    let trailers = (!trailers.entries().is_empty()).then_some(trailers);
    // The lengths may differ, and it is the gateway that is to say so.
    let _ = OutgoingBody::finish(body, trailers);
    if end == b"exit" {
        wasip2::cli::exit::exit(Ok(()));
    }
}

fn fields(request: &IncomingRequest, key: &str) -> Fields {
    let fields = Fields::new();
    for pair in tests_http::all(request, key) {
        let pair = String::from_utf8(pair).unwrap();
        let (name, value) = pair.split_once(':').unwrap();
        fields.append(name, value.as_bytes()).unwrap();
    }
    fields
}

fn told(request: &IncomingRequest) -> String {
    let mut lines = format!(
        "scheme: {:?}\nauthority: {}\npath: {}\n",
        request.scheme().unwrap(),
        request.authority().unwrap_or_default(),
        request.path_with_query().unwrap_or_default(),
    );
    for (name, value) in request.headers().entries() {
        lines.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(&value)));
    }
    lines
}

/// Frames are passed on as they are: a server that streams in both directions.
fn echo(request: IncomingRequest, answer: ResponseOutparam) {
    let (output, stream) = tests_http::open(answer, "application/grpc");
    let input = request.consume().unwrap();
    let messages = input.stream().unwrap();
    let mut count = 0_u32;
    while let Ok(piece) = messages.blocking_read(4 << 10) {
        count += 1;
        stream.blocking_write_and_flush(&piece).unwrap();
    }
    drop((messages, stream));
    drop(IncomingBody::finish(input));
    let trailers = Fields::new();
    trailers.append("grpc-status", b"0").unwrap();
    trailers.append("grpc-message", format!("read {}", count.min(1)).as_bytes()).unwrap();
    OutgoingBody::finish(output, Some(trailers)).unwrap();
}
