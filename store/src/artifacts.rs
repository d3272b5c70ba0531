//! Artifacts and files: uploaded, stored by digest, and removed when no revision refers to them.

pub(crate) mod blob;
pub(crate) mod digest;
pub(crate) mod files;
pub(crate) mod gc;
pub(crate) mod tree_gc;
pub(crate) mod upload;
