//! Functions, their revisions and settings, how they are published, and quotas.

pub(crate) mod function;
pub(crate) mod idempotency;
pub(crate) mod publish;
pub(crate) mod quota;
pub(crate) mod revision;
pub(crate) mod settings;
