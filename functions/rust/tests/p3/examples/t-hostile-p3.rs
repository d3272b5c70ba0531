//! A component for WASI 0.3 that misbehaves in one of several ways. The last part of
//! the path selects the way.
//!
//! - `loop`: computes endlessly;
//! - `hoard`: allocates memory until there is none left;
//! - `clock`: like the case of that name of `t-hostile`, with `?n=` and `?ms=`;
//! - `bytes`: writes its body one byte at a time, `?n=` of them;
//! - `nothing`: writes `?first=` bytes, and then empty chunks without end;
//! - `trap`: sends `?n=` bytes, and then traps;
//! - `after`: answers, and then computes endlessly;
//! - `forbidden`: sets the header `transfer-encoding`;
//! - `random`: requests `?n=` random bytes, or 4 GiB, in one call; before that, answers with
//!   `?first=` bytes, so that the head leaves;
//! - `read`: reads the whole body of the request, and answers with its length;
//! - `wait`: sleeps `?ms=` milliseconds, after an answer of `?first=` bytes;
//! - `kept-…`: makes the host keep as much as it can, in resources of one kind;
//! - `ends`: writes `?n=` line ends to standard error in one piece;
//! - `log`: writes `?n=` lines of 100 bytes to standard output.

use std::mem::forget;

use wasip3::clocks::{monotonic_clock, system_clock};
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, RequestOptions, Response};
use wasip3::wit_bindgen::{self, StreamResult};
use wasip3::{wit_future, wit_stream};

struct Hostile;

wasip3::http::service::export!(Hostile);

impl Guest for Hostile {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let number = |key: &str| -> u64 {
            let value = query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            value.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        let n = number("n");
        match path.rsplit('/').next().unwrap_or_default() {
            "loop" => compute(),
            "hoard" => hoard(),
            "clock" => Ok(text(clock(n, number("ms")).await)),
            "bytes" => Ok(pieces(b"x".to_vec(), n, false)),
            "nothing" => Ok(nothing(number("first"))),
            "trap" => Ok(pieces(b"x".repeat(1000), n / 1000, true)),
            "after" => {
                wit_bindgen::spawn_local(async {
                    monotonic_clock::wait_for(1_000_000).await;
                    compute()
                });
                Ok(text("answered\n".to_owned()))
            }
            "forbidden" => {
                let list = [("transfer-encoding".to_owned(), b"chunked".to_vec())];
                Ok(text(format!("{:?}", Fields::from_list(&list).map(drop))))
            }
            "random" => {
                let bytes = if n == 0 { 4 << 30 } else { n };
                Ok(later(number("first"), async move { random(bytes).len() as u64 }).await)
            }
            "read" => Ok(text(read(request).await.to_string())),
            "wait" => {
                let ms = number("ms");
                let wait = async move {
                    monotonic_clock::wait_for(ms * 1_000_000).await;
                    ms
                };
                Ok(later(number("first"), wait).await)
            }
            "ends" => Ok(text(ends(n as usize).await)),
            kept if kept.starts_with("kept-") => {
                for n in 0_u64.. {
                    keep(kept, n).await;
                }
                Ok(text("kept\n".to_owned()))
            }
            "log" => Ok(text(format!("{}", log(n).await))),
            _ => Ok(text("no such case\n".to_owned())),
        }
    }
}

async fn read(request: Request) -> usize {
    let (_, result) = wit_future::new(|| Ok(()));
    let (mut input, _trailers) = Request::consume_body(request, result);
    let mut length = 0;
    loop {
        let (result, chunk) = input.read(Vec::with_capacity(64 * 1024)).await;
        length += chunk.len();
        let StreamResult::Complete(_) = result else { return length };
    }
}

fn compute() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

fn hoard() -> ! {
    let mut hoard = Vec::new();
    loop {
        hoard.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&hoard);
    }
}

async fn clock(n: u64, ms: u64) -> String {
    let (monotonic, wall) = (monotonic_clock::now(), wall());
    let mut moved = (0, 0);
    for _ in 0..n {
        moved.0 = moved.0.max(monotonic_clock::now() - monotonic);
        moved.1 = moved.1.max(self::wall().abs_diff(wall));
    }
    monotonic_clock::wait_for(ms * 1_000_000).await;
    let slept = (monotonic_clock::now() - monotonic, self::wall().abs_diff(wall));
    let resolution = monotonic_clock::get_resolution();
    format!("{} {} {} {} {resolution}", moved.0, moved.1, slept.0, slept.1)
}

fn wall() -> u64 {
    let now = system_clock::now();
    now.seconds as u64 * 1_000_000_000 + u64::from(now.nanoseconds)
}

fn random(bytes: u64) -> Vec<u8> {
    wasip3::random::random::get_random_bytes(bytes)
}

/// Answers with the result of `work`, after `first` bytes, which make the head leave at once.
async fn later(first: u64, work: impl Future<Output = u64> + 'static) -> Response {
    if first == 0 {
        return text(work.await.to_string());
    }
    respond(async move |mut body| {
        body.write_all(vec![b'x'; first as usize]).await;
        body.write_all(work.await.to_string().into_bytes()).await;
    })
}

async fn log(lines: u64) -> u64 {
    let (mut output, stream) = wit_stream::new();
    let written = wasip3::cli::stdout::write_via_stream(stream);
    let mut line = [b'.'; 100];
    line[99] = b'\n';
    for _ in 0..lines {
        output.write_all(line.to_vec()).await;
    }
    drop(output);
    let _ = written.await;
    lines
}

async fn ends(n: usize) -> String {
    let (mut output, stream) = wit_stream::new();
    let written = wasip3::cli::stderr::write_via_stream(stream);
    // Filled in pieces, because one large fill is not interrupted.
    let mut ends = Vec::with_capacity(n);
    while ends.len() + 4096 <= n {
        ends.extend_from_slice(std::hint::black_box(&[b'\n'; 4096]));
    }
    let rest = output.write_all(ends).await;
    drop(output);
    let _ = written.await;
    format!("{} left", rest.len())
}

/// Makes the host keep one more resource of a kind, with the largest content.
async fn keep(kind: &str, n: u64) {
    let text = format!("{n}{}", "v".repeat(63_000));
    let full = || Fields::from_list(&[("x".to_owned(), text.clone().into_bytes())]).unwrap();
    let request = |headers| {
        let (_, trailers) = wit_future::new(|| Ok(None));
        Request::new(headers, None, trailers, None)
    };
    match kind {
        "kept-fields" => forget(full()),
        "kept-copied" => {
            let copy = full().clone();
            copy.append("y", b"").unwrap();
            forget(copy);
        }
        "kept-paths" => {
            let request = request(Fields::new());
            request.0.set_path_with_query(Some(&format!("/{text}"))).unwrap();
            request.0.set_authority(Some(&text)).unwrap();
            forget(request);
        }
        "kept-methods" => {
            let request = request(Fields::new());
            // A method of this length is refused.
            request.0.set_method(&Method::Other("M".repeat(1_000_000))).unwrap_err();
            forget(request);
        }
        "kept-requests" => forget(request(full())),
        "kept-responses" => {
            let (_, trailers) = wit_future::new(|| Ok(None));
            forget(Response::new(full(), None, trailers));
        }
        "kept-options" => forget(RequestOptions::new()),
        // The error waits for the other end of the request, which nobody reads.
        "kept-errors" => {
            let (request, sent) = request(Fields::new());
            let (result, read) = wit_future::new(|| Ok(()));
            let body = Request::consume_body(request, read);
            let error = ErrorCode::InternalError(Some("e".repeat(1_000_000)));
            let _ = result.write(Err(error)).await;
            drop(body);
            forget(sent);
        }
        // Calls that have not returned.
        "kept-calls" => {
            let mut call = Box::pin(monotonic_clock::wait_for(100_000_000_000));
            std::future::poll_fn(|cx| {
                let _ = call.as_mut().poll(cx);
                std::task::Poll::Ready(())
            })
            .await;
            forget(call);
        }
        other => panic!("no kind {other}"),
    }
}

/// Writes the same piece repeatedly, and then ends, or traps.
fn pieces(piece: Vec<u8>, n: u64, then_trap: bool) -> Response {
    respond(async move |mut body| {
        for _ in 0..n {
            if !body.write_all(piece.clone()).await.is_empty() {
                return; // the client has gone
            }
        }
        if then_trap {
            core::arch::wasm32::unreachable();
        }
    })
}

fn nothing(first: u64) -> Response {
    respond(async move |mut body| {
        body.write_all(vec![b'x'; first as usize]).await;
        while body.write_all(Vec::new()).await.is_empty() {}
    })
}

fn text(text: String) -> Response {
    respond(async move |mut body| {
        body.write_all(text.into_bytes()).await;
    })
}

fn respond(
    write: impl AsyncFnOnce(wit_bindgen::StreamWriter<u8>) + 'static,
) -> Response {
    let headers =
        Fields::from_list(&[("content-type".to_owned(), b"text/plain".to_vec())]).unwrap();
    let (body, stream) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, Some(stream), trailers);
    wit_bindgen::spawn_local(async move { write(body).await });
    response
}
