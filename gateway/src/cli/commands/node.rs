//! The gateway itself.

pub(crate) mod backup;
pub(crate) mod serve;
pub(crate) mod settings;
