//! What threads share state by, for the modules whose interleavings are tried exhaustively:
//! `runtime-pool/models` compiles them with loom's in place of these.

pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
