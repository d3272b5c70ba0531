//! The resources of the control plane, one file each.

pub(crate) mod access;
pub(crate) mod channels;
pub(crate) mod diff;
pub(crate) mod files;
pub(crate) mod functions;
pub(crate) mod logs;
pub(crate) mod node;
pub(crate) mod revisions;
pub(crate) mod routes;
pub(crate) mod stores;
pub(crate) mod triggers;
