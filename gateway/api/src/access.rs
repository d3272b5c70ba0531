//! Who and what an owner trusts: API tokens and secrets.

pub(crate) mod secret;
pub(crate) mod token;
