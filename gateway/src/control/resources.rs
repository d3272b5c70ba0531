//! The resources of the control plane, one file each.

pub(crate) mod channels;
pub(crate) mod diff;
pub(crate) mod files;
pub(crate) mod functions;
pub(crate) mod invocations;
pub(crate) mod limits;
pub(crate) mod logs;
pub(crate) mod probes;
pub(crate) mod revisions;
pub(crate) mod routes;
pub(crate) mod schedules;
pub(crate) mod secrets;
pub(crate) mod tokens;
pub(crate) mod triggers;
