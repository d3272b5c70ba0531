//! Who and what an owner trusts: API tokens, secrets and certificates.

pub(crate) mod certificate;
pub(crate) mod secret;
pub(crate) mod token;
