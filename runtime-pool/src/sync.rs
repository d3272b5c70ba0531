//! What threads share state by, for the modules whose interleavings are tried exhaustively:
//! `models/` compiles them with loom's in place of these.

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

pub(crate) use tokio::{sync::Semaphore, time::timeout};
