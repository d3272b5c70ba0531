//! Writes to standard output: `?bytes=` in lines of 100 bytes, `?nothing=` empty
//! writes, `?lines=` empty lines, and the value of `?raw=`, percent-decoded.

use wasip2::cli::stdout::get_stdout;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

pub fn case(request: &IncomingRequest, answer: ResponseOutparam) {
    let number = |key| tests_http::number(request, key).unwrap_or(0);
    let out = get_stdout();
    let mut line = [b'.'; 100];
    line[99] = b'\n';
    let some = line.repeat(40);
    for _ in 0..number("bytes") / 4_000 {
        let _ = out.write(&some);
    }
    for _ in 0..number("nothing") {
        let _ = out.write(b"");
    }
    for _ in 0..number("lines") {
        let _ = out.write(b"\n");
    }
    if let Some(raw) = tests_http::decoded(request, "raw") {
        let _ = out.write(&raw);
    }
    tests_http::text(answer, "logged\n");
}
