//! The primitives that `in_flight` shares state by. `runtime-pool/models` compiles that file with
//! loom's primitives in place of these, and tries every order of events.

pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
