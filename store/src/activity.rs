//! The activity of functions: their log lines, and the calls and messages that wait.

pub(crate) mod document;
pub(crate) mod flow;
pub(crate) mod invocation;
pub(crate) mod log;
pub(crate) mod message;
pub(crate) mod queue;
pub(crate) mod schedule;
pub(crate) mod scheduled;
