//! Searches all of its memory for a secret, then leaves the secret there for the next
//! request. The secret comes as `?secret=`, percent-encoded, with each byte changed,
//! so that memory does not contain it before it is planted. Grows the memory by
//! `?grow=` MiB, which must be zeros, and searches and plants there as well.
//!
//! Answers with the number of requests that this instance has seen, how often it
//! found the secret, and how many of the grown bytes were not zero.

use core::arch::wasm32::{memory_grow, memory_size};
use std::sync::atomic::{AtomicU64, Ordering};

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

const PAGE_BYTES: usize = 64 << 10;
const MASK: u8 = 0x5a;

static SEEN: AtomicU64 = AtomicU64::new(0);

pub fn case(request: &IncomingRequest, answer: ResponseOutparam) {
    let seen = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
    let masked = tests_http::decoded(request, "secret").unwrap_or_default();
    let grow = tests_http::number(request, "grow").unwrap_or(0) as usize;

    let before = memory_size::<0>() * PAGE_BYTES;
    let grown = if memory_grow::<0>(grow << 4) == usize::MAX { 0 } else { grow << 20 };
    let dirty = (before..before + grown).filter(|&at| byte(at) != 0).count();
    let first = masked.first().map_or(0, |byte| byte ^ MASK);
    let end = before + grown - masked.len();
    let is_secret = |at: usize| masked.iter().zip(at..).all(|(b, at)| b ^ MASK == byte(at));
    let found = (8..end).filter(|&at| byte(at) == first && is_secret(at)).count();

    plant(&masked, before, before + grown);
    tests_http::text(answer, &format!("{seen} {found} {dirty}\n"));
}

/// Plants the secret on the heap, and in each 4 KiB of the grown memory.
fn plant(masked: &[u8], start: usize, end: usize) {
    let secret: Vec<u8> = masked.iter().map(|byte| byte ^ MASK).collect();
    for at in (start..end).step_by(4096) {
        for (n, byte) in secret.iter().enumerate() {
            // SAFETY: the memory was grown over this address, and nothing else uses it.
            unsafe { ((at + n) as *mut u8).write_volatile(*byte) };
        }
    }
    std::hint::black_box(secret.leak());
}

fn byte(at: usize) -> u8 {
    // SAFETY: every address below the size of the memory is readable.
    unsafe { (at as *const u8).read_volatile() }
}
