//! The activity of functions: their log lines.

pub(crate) mod log;
