//! Subcommands for what decides which revision answers.

pub(crate) mod channel;
pub(crate) mod diff;
pub(crate) mod revisions;
pub(crate) mod route;
