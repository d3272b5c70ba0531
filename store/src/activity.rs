//! What functions did: their log lines.

pub(crate) mod log;
