//! Tenants, their API tokens and their secrets.

pub(crate) mod secret;
pub(crate) mod tenant;
pub(crate) mod token;
