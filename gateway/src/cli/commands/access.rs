//! Subcommands for API tokens and secrets.

pub(crate) mod secret;
pub(crate) mod token;
