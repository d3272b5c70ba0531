//! The deployed functions, and all changes to them.

pub(crate) mod background;
pub(crate) mod catalog;
pub(crate) mod channels;
pub(crate) mod deploy;
pub(crate) mod files;
pub(crate) mod grants;
pub(crate) mod labels;
pub(crate) mod name;
pub(crate) mod qualified_name;
pub(crate) mod quarantine;
pub(crate) mod routes;
pub(crate) mod schedule;
pub(crate) mod secrets;
pub(crate) mod stores;
