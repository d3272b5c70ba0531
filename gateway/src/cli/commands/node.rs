//! The gateway itself.

pub(crate) mod serve;
pub(crate) mod settings;
