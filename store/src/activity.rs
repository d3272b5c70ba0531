//! What functions have done: their log lines.

pub(crate) mod log;
