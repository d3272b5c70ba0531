//! The subcommands for what calls functions besides requests.

pub(crate) mod flow;
pub(crate) mod queue;
pub(crate) mod schedule;
