//! Streams `?bytes=` bytes: the lower-case alphabet repeatedly, so that the
//! byte at offset `n` is `b'a' + n % 26`.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

/// A multiple of 26, near 64 KiB.
const CHUNK_BYTES: usize = 26 * 2520;

tests_http::serve!(handle);

fn handle(request: IncomingRequest, answer: ResponseOutparam) {
    let mut left = tests_http::number(&request, "bytes").unwrap_or(0);
    let chunk: Vec<u8> = (b'a'..=b'z').cycle().take(CHUNK_BYTES).collect();

    let (body, stream) = tests_http::open(answer, "application/octet-stream");
    while left > 0 {
        let length = left.min(CHUNK_BYTES as u64);
        if tests_http::write(&stream, &chunk[..length as usize]).is_err() {
            return; // the client has gone
        }
        left -= length;
    }
    tests_http::close(body, stream);
}
