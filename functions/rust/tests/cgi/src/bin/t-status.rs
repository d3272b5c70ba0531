//! Answers as its query asks, to test the rules for CGI answers:
//!
//! - `status=404`: a document with that `Status` line;
//! - `location=/x`: a redirection; with `status=`, both lines;
//! - `raw=...`: these bytes, percent-decoded, are the whole of standard output.
//!
//! All values are percent-decoded.

use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    let query = std::env::var("QUERY_STRING").unwrap_or_default();
    let mut out = io::stdout().lock();
    if let Some(raw) = parameter(&query, "raw") {
        out.write_all(&raw)?;
        return out.flush();
    }

    let (status, location) = (parameter(&query, "status"), parameter(&query, "location"));
    if let Some(status) = &status {
        line(&mut out, "Status", status)?;
    }
    match &location {
        Some(location) => line(&mut out, "Location", location)?,
        None => line(&mut out, "Content-Type", b"text/plain")?,
    }
    out.write_all(b"\n")?;
    if location.is_none() {
        out.write_all(b"as asked\n")?;
    }
    out.flush()
}

fn line(out: &mut impl io::Write, name: &str, value: &[u8]) -> io::Result<()> {
    write!(out, "{name}: ")?;
    out.write_all(value)?;
    out.write_all(b"\n")
}

fn parameter(query: &str, key: &str) -> Option<Vec<u8>> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))?;
    let mut decoded = Vec::new();
    let mut rest = value.as_bytes();
    while let [byte, tail @ ..] = rest {
        let escape = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let escape = escape.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, escape) {
            (b'%', Some(escaped)) => {
                decoded.push(escaped);
                rest = &tail[2..];
            }
            _ => {
                decoded.push(*byte);
                rest = tail;
            }
        }
    }
    Some(decoded)
}
