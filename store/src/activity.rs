//! The activity of functions: their log lines, the calls and messages that wait, and where they keep data.

pub(crate) mod document;
pub(crate) mod flow;
pub(crate) mod guest_store;
pub(crate) mod invocation;
pub(crate) mod log;
pub(crate) mod message;
pub(crate) mod queue;
pub(crate) mod schedule;
pub(crate) mod scheduled;
