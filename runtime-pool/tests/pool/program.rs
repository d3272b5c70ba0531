//! A guest that is steered by its request's body, and request bodies that steer it.
//!
//! Each byte of the body is one step: `h` writes the head of a response, `x` writes 1,000 bytes,
//! `g` grows the memory by a MiB and traps if that is refused, `t` traps and `l` loops endlessly.
//! The guest returns at the end of the body, and waits where the body has not arrived.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use runtime_pool::{BodyError, RequestBody};
use tokio::sync::mpsc;

/// Bytes that the step `x` writes.
pub(crate) const X_BYTES: usize = 1_000;

const PROGRAM: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read"
        (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 64) "Content-Type: text/plain\n\n")
    (func $say (param $from i32) (param $bytes i32)
        (i32.store (i32.const 16) (local.get $from))
        (i32.store (i32.const 20) (local.get $bytes))
        (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))
    (func (export "_start") (local $step i32)
        (memory.fill (i32.const 1024) (i32.const 120) (i32.const 1000))
        (i32.store (i32.const 0) (i32.const 32))
        (i32.store (i32.const 4) (i32.const 1))
        (loop $next
            (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
                (then (return)))
            (if (i32.eqz (i32.load (i32.const 8))) (then (return)))
            (local.set $step (i32.load8_u (i32.const 32)))
            (if (i32.eq (local.get $step) (i32.const 0x68)) ;; h
                (then (call $say (i32.const 64) (i32.const 26))))
            (if (i32.eq (local.get $step) (i32.const 0x78)) ;; x
                (then (call $say (i32.const 1024) (i32.const 1000))))
            (if (i32.eq (local.get $step) (i32.const 0x67)) ;; g
                (then (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1))
                    (then (unreachable)))))
            (if (i32.eq (local.get $step) (i32.const 0x74)) ;; t
                (then (unreachable)))
            (if (i32.eq (local.get $step) (i32.const 0x6c)) ;; l
                (then (loop $for_ever (br $for_ever))))
            (br $next))))"#;

/// The guest as a binary.
pub(crate) fn program() -> Vec<u8> {
    wat::parse_str(PROGRAM).unwrap()
}

/// Another binary that does the same: a custom section at its end makes the difference.
pub(crate) fn another_program(number: u8) -> Vec<u8> {
    let mut wasm = program();
    wasm.extend([0, 6, 4, b't', b'e', b's', b't', number]);
    wasm
}

/// A body with all its steps.
pub(crate) fn steps(steps: &str) -> RequestBody {
    let never = |never: Infallible| match never {};
    let body = Full::new(Bytes::from(steps.to_owned()));
    RequestBody::Stream(body.map_err(never).boxed_unsync())
}

/// A body whose steps the test sends when it wants to; it ends when the sender is dropped.
pub(crate) fn open_steps() -> (mpsc::UnboundedSender<&'static str>, RequestBody) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let frame = |steps: &'static str| Ok(Frame::data(Bytes::from_static(steps.as_bytes())));
    let frames = stream::poll_fn(move |cx| receiver.poll_recv(cx).map(|next| next.map(frame)));
    let body = StreamBody::new(frames).map_err(|never: BodyError| never);
    (sender, RequestBody::Stream(body.boxed_unsync()))
}
