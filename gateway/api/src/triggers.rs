//! What calls functions besides requests.

pub(crate) mod flow;
pub(crate) mod invocation;
pub(crate) mod queue;
pub(crate) mod schedule;
