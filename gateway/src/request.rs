//! Is this request valid, and what does it say?

#[doc(hidden)]
pub mod canonical;
pub(crate) mod cookies;
pub(crate) mod forwarded;
pub(crate) mod idempotency_key;
pub(crate) mod limited_body;
pub(crate) mod server_options;
mod strict;
pub(crate) mod validate;
