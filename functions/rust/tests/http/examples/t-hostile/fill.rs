//! Writes and copies memory in bulk without end, without a long call or a long loop
//! of its own.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

const BYTES: usize = 16 << 20;

pub fn case(_request: &IncomingRequest, _answer: ResponseOutparam) {
    let mut memory = vec![0_u8; 2 * BYTES];
    let mut value = 0_u8;
    loop {
        value = value.wrapping_add(1);
        memory[..BYTES].fill(std::hint::black_box(value));
        memory.copy_within(..BYTES, BYTES);
        std::hint::black_box(&memory);
    }
}
