//! The subcommands for what calls functions besides requests.

pub(crate) mod queue;
pub(crate) mod schedule;
