//! The pool at its own border: a real `Pool`, a real compile worker and real guests.
//!
//! Start reading at [`support::TestPool`]. Every test has a pool and a directory of its own. Most
//! guests are the program in [`program`], which does what its request's body tells it to; where a
//! test needs a `wasi:http` guest, `functions/build` builds it.

#![expect(clippy::unwrap_used, reason = "a test may panic, in what it shares with others too")]

mod program;
mod support;

mod cancellation;
mod code_cache;
mod evicting;
mod invoking;
mod loading;
mod panics;
mod secrets;
mod vetted;
mod warm;
