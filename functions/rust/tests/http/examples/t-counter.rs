//! Counts the requests that this instance has seen, and answers with the count.
//! A gateway that makes a new instance for each request always gets `1`.
//!
//! `?status=` answers with that status, `?length=` with that content-length, and `?more=` with as
//! many bytes after the count. `?keep` returns with its body open, and `?write` writes into the body
//! that is open. `?files` also tells what is in `/tmp`, and leaves a file there; `?open` keeps one open.

use std::cell::RefCell;
use std::fs::{self, File};
use std::sync::atomic::{AtomicU64, Ordering};

use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::OutputStream;

static SEEN: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static OPEN: RefCell<Option<(OutputStream, OutgoingBody)>> = const { RefCell::new(None) };
    static FILE: RefCell<Option<File>> = const { RefCell::new(None) };
}

tests_http::serve!(handle);

fn handle(request: IncomingRequest, answer: ResponseOutparam) {
    let count = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
    let query = request.path_with_query().unwrap_or_default();
    let fields = match tests_http::number(&request, "length") {
        Some(length) => vec![("content-length".to_owned(), length.to_string().into_bytes())],
        None => vec![],
    };
    let response = OutgoingResponse::new(Fields::from_list(&fields).unwrap());
    let status = tests_http::number(&request, "status").unwrap_or(200);
    // The host refuses some. Then the answer is a 200.
    let _ = response.set_status_code(status as u16);
    let body = response.body().unwrap();
    ResponseOutparam::set(answer, Ok(response));
    let stream = body.write().unwrap();
    if query.contains("write") {
        OPEN.with_borrow(|open| {
            if let Some((stream, _)) = open {
                let _ = stream.blocking_write_and_flush(b"of another request\n");
            }
        });
    }
    let _ = tests_http::write(&stream, format!("{count}\n").as_bytes());
    if query.contains("files") {
        let _ = tests_http::write(&stream, format!("{:?}\n", files(count)).as_bytes());
    }
    if query.contains("open") {
        FILE.set(Some(File::create("/tmp/open").unwrap()));
    }
    let more = tests_http::number(&request, "more").unwrap_or(0);
    let _ = tests_http::write(&stream, &vec![b'x'; more as usize]);
    if query.contains("keep") {
        let _ = stream.blocking_flush();
        OPEN.set(Some((stream, body)));
        return;
    }
    tests_http::close(body, stream);
}

/// The names in the directory. Then there is one more.
fn files(count: u64) -> std::io::Result<Vec<String>> {
    let names = fs::read_dir("/tmp")?.map(|entry| {
        Ok::<_, std::io::Error>(entry?.file_name().to_string_lossy().into_owned())
    });
    let names = names.collect();
    fs::write(format!("/tmp/{count}"), vec![b'x'; 100_000])?;
    names
}
