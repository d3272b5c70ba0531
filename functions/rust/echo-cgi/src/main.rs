//! Sends the request's body back while it arrives, by the rules of CGI, with
//! 64 KiB of memory whatever the body's size.
//!
//! The response also has `x-echo-method`, `x-echo-path`, and a copy of every
//! request header whose name starts with `x-test-`.
//!
//! Kind: core module for WASI preview 1.
//! Build: `cargo build --release --target wasm32-wasip1`

use std::env;
use std::io::{self, Read as _, Write as _};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();

    let content_type = variable("CONTENT_TYPE").unwrap_or("application/octet-stream".to_owned());
    let mut path = variable("PATH_INFO").unwrap_or_default();
    if let Some(query) = variable("QUERY_STRING") {
        path = format!("{path}?{query}");
    }
    writeln!(out, "Content-Type: {content_type}")?;
    writeln!(out, "x-echo-method: {}", variable("REQUEST_METHOD").unwrap_or_default())?;
    writeln!(out, "x-echo-path: {path}")?;
    for (name, value) in env::vars() {
        // CGI spells the header `x-test-a` as the variable `HTTP_X_TEST_A`.
        if let Some(rest) = name.strip_prefix("HTTP_X_TEST_") {
            writeln!(out, "x-test-{}: {value}", rest.to_ascii_lowercase().replace('_', "-"))?;
        }
    }
    writeln!(out)?;
    out.flush()?;

    let mut input = io::stdin().lock();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = input.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        out.write_all(&buffer[..length])?;
        out.flush()?;
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
