//! The subcommands of `mayfly`, one file each.

pub(crate) mod access;
pub(crate) mod apply;
pub(crate) mod deploy;
pub(crate) mod files;
pub(crate) mod functions;
pub(crate) mod invoke;
pub(crate) mod logs;
pub(crate) mod node;
pub(crate) mod patch;
pub(crate) mod progress;
pub(crate) mod releases;
pub(crate) mod store;
pub(crate) mod triggers;
