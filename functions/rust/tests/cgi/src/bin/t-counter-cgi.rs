//! Counts the requests that this instance has seen. An instance of a CGI program
//! serves one request, so the answer is always `1`.

use std::sync::atomic::{AtomicU64, Ordering};

static SEEN: AtomicU64 = AtomicU64::new(0);

fn main() {
    let count = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
    print!("Content-Type: text/plain\n\n{count}\n");
}
