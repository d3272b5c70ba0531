//! The synchronization primitives of the modules that `models/` checks: it compiles those modules
//! with loom's primitives in place of these, and runs them in every order of events.

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

pub(crate) use tokio::{sync::Semaphore, time::timeout};
