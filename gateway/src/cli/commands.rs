//! The subcommands of `mayfly`, one file each.

pub(crate) mod channel;
pub(crate) mod deploy;
pub(crate) mod diff;
pub(crate) mod functions;
pub(crate) mod invoke;
pub(crate) mod logs;
pub(crate) mod patch;
pub(crate) mod progress;
pub(crate) mod revisions;
pub(crate) mod route;
pub(crate) mod secret;
pub(crate) mod serve;
pub(crate) mod settings;
pub(crate) mod token;
