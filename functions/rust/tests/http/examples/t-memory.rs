//! Grows its memory by `?mb=` MiB, or as far as the host allows, writes to every
//! page of it, waits `?ms=`, and answers with the number of MiB that it got.

use core::arch::wasm32::{memory_grow, memory_size};

use wasip2::clocks::monotonic_clock;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

const PAGE_BYTES: usize = 64 * 1024;
const PAGES_PER_MIB: usize = 16;

tests_http::serve!(handle);

fn handle(request: IncomingRequest, answer: ResponseOutparam) {
    let wanted = tests_http::number(&request, "mb").unwrap_or(u64::MAX);
    let mut got = 0;
    while got < wanted && memory_grow::<0>(PAGES_PER_MIB) != usize::MAX {
        touch_last_mib();
        got += 1;
    }
    if let Some(ms) = tests_http::number(&request, "ms") {
        monotonic_clock::subscribe_duration(ms * 1_000_000).block();
    }
    tests_http::text(answer, &format!("{got}\n"));
}

/// Writes to each 4 KiB of the newest MiB, so that the host must back it.
fn touch_last_mib() {
    let end = memory_size::<0>() * PAGE_BYTES;
    for address in (end - PAGES_PER_MIB * PAGE_BYTES..end).step_by(4096) {
        // SAFETY: the memory was just grown over this address, and nothing
        // else uses it.
        unsafe { (address as *mut u8).write_volatile(1) };
    }
}
