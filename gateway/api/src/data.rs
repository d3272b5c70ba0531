//! What functions are given to read, and what they keep.

pub(crate) mod files;
pub(crate) mod store;
