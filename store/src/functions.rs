//! Functions, their revisions and settings, how they are published, their history, and quotas; projects.

pub(crate) mod activate;
pub(crate) mod channel;
pub(crate) mod function;
pub(crate) mod grants;
pub(crate) mod history;
pub(crate) mod idempotency;
pub(crate) mod project;
pub(crate) mod publish;
pub(crate) mod published;
pub(crate) mod quota;
pub(crate) mod revision;
pub(crate) mod route;
pub(crate) mod settings;
pub(crate) mod tree;
