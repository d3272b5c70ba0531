//! What guests can be given besides WASI: stores of their owner, configuration.
//!
//! The seam is a trait for each kind of store, in terms of bytes. The crates under `backends/` implement
//! them, and the gateway puts them together: nothing here knows where data lies.
//!
//! A guest's call comes in by one of the `interfaces`, whose words differ and whose operations are those
//! of `bucket` and `config`. `invocation` admits it: access, limits, what the host keeps. `function` is
//! what the instances of a function share.

mod answer;
pub(crate) mod bucket;
mod config;
pub(crate) mod function;
pub(crate) mod grants;
pub(crate) mod guest_store;
pub(crate) mod interfaces;
pub(crate) mod invocation;
pub(crate) mod key_value;
pub(crate) mod refused;
pub(crate) mod stores;
