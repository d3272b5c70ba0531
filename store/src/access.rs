//! Tenants, their API tokens, their secrets and their certificates.

pub(crate) mod certificate;
pub(crate) mod secret;
pub(crate) mod tenant;
pub(crate) mod token;
