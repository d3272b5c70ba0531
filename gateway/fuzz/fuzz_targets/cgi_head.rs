//! The head of a CGI program's output, and whether a field can add other fields to it.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../runtime-pool/src/executor/cgi/head.rs"]
mod cgi_head;

fuzz_target!(|data: &[u8]| {
    let Some((length, empty)) = cgi_head::HeadEnd::default().find(data) else {
        assert!(!data.ends_with(b"\n\n") && !data.starts_with(b"\n"));
        return;
    };
    assert!(length + empty <= data.len() && length < cgi_head::HEAD_BYTES.max(data.len()));
    let Ok(head) = cgi_head::parse(&data[..length]) else { return };
    assert!(!head.status.is_informational());
    for (name, value) in &head.headers {
        assert!(!["connection", "transfer-encoding", "upgrade"].contains(&name.as_str()));
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
});
