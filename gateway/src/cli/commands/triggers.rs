//! The subcommands for what calls functions besides requests.

pub(crate) mod schedule;
