//! A guest that misbehaves in one of several ways. The last part of the path names
//! the way, which is also the name of a file here.

mod bytes;
mod clock;
mod empty;
mod exit;
mod fields;
mod fill;
mod forbidden;
mod hoard;
mod kept;
mod length;
mod list;
mod log;
mod operations;
mod panic;
mod pathless;
mod poll;
mod random;
mod resources;
mod scan;
mod trap;
mod unready;

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

tests_http::serve!(handle);

fn handle(request: IncomingRequest, answer: ResponseOutparam) {
    let path = tests_http::path(&request);
    let case = match path.rsplit('/').next().unwrap_or_default() {
        "bytes" => bytes::case,
        "clock" => clock::case,
        "empty" => empty::case,
        "exit" => exit::case,
        "fields" => fields::case,
        "fill" => fill::case,
        "forbidden" => forbidden::case,
        "hoard" => hoard::case,
        kept if kept.starts_with("kept-") => kept::case,
        "length" => length::case,
        "list" => list::case,
        "log" => log::case,
        "operations" => operations::case,
        "panic" => panic::case,
        "pathless" => pathless::case,
        "poll" => poll::case,
        "random" => random::case,
        "resources" => resources::case,
        "scan" => scan::case,
        "trap" => trap::case,
        "unready" => unready::case,
        _ => unknown,
    };
    case(&request, answer);
}

fn unknown(_request: &IncomingRequest, answer: ResponseOutparam) {
    tests_http::text(answer, "no such case\n");
}
