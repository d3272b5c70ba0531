//! The activity of functions: their log lines, and the calls that wait to be made.

pub(crate) mod invocation;
pub(crate) mod log;
pub(crate) mod schedule;
pub(crate) mod scheduled;
