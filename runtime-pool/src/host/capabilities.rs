//! What guests can be given besides WASI: stores of their owner, configuration.
//!
//! The seam is a trait for each kind of store, in terms of bytes. The crates under `backends/` implement
//! them, and the gateway puts them together: nothing here knows where data lies.

pub(crate) mod grants;
pub(crate) mod guest_store;
pub(crate) mod key_value;
pub(crate) mod refused;
pub(crate) mod stores;
